// SPDX-License-Identifier: Apache-2.0
#include "cli/meta_backup.h"

#include <optional>

#include "base/limits.h"
#include "cli/json.h"
#include "cli/output.h"

namespace vmstore::cli {
namespace {

constexpr std::string_view kMark = "vmstore_meta_backup";
constexpr std::uint64_t kVersion = 1;
constexpr std::string_view kDigits = "0123456789abcdef";

std::string to_hex(std::string_view bytes) {
  std::string hex;
  hex.reserve(bytes.size() * 2);
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    hex += kDigits[byte >> 4U];
    hex += kDigits[byte & 15U];
  }
  return hex;
}

std::optional<std::string> from_hex(std::string_view hex) {
  if (hex.size() % 2 != 0) return std::nullopt;
  std::string bytes;
  bytes.reserve(hex.size() / 2);
  for (std::size_t i = 0; i < hex.size(); i += 2) {
    const auto high = kDigits.find(hex[i]);
    const auto low = kDigits.find(hex[i + 1]);
    if (high == std::string_view::npos || low == std::string_view::npos) return std::nullopt;
    bytes += static_cast<char>(high * 16 + low);
  }
  return bytes;
}

Failure damaged(std::string what) {
  return Failure::make(ExitCode::integrity, {}, std::move(what), "use another backup");
}

Answer<disk::CatalogueEntry> parse_entry(std::string_view line) {
  const std::optional<json::object> object = parse_json_object(line);
  if (!object) return damaged("a line of the backup is damaged");
  const auto key = from_hex(json_text(*object, "key").value_or(""));
  const auto value = from_hex(json_text(*object, "value").value_or("-"));
  const bool fits = key && value && !key->empty() && key->size() <= limits::kMetaKeyBytesMax &&
                    value->size() <= limits::kMetaValueBytesMax;
  if (!fits) return damaged("an entry of the backup is damaged");
  return disk::CatalogueEntry{*key, *value};
}

}  // namespace

std::string BackupWriter::hashed(std::string text) {
  hash_.update(as_byte_span(text));
  return text;
}

std::string BackupWriter::begin(std::string_view store, std::uint64_t now_ns) {
  json::object head;
  head[kMark] = kVersion;
  head["store"] = store;
  head["created"] = format_time(now_ns);
  return hashed(json::serialize(head) + "\n");
}

std::string BackupWriter::entries(const std::vector<disk::CatalogueEntry>& entries) {
  std::string text;
  for (const disk::CatalogueEntry& entry : entries) {
    text += R"({"key":")" + to_hex(entry.key) + R"(","value":")" + to_hex(entry.value) + "\"}\n";
    ++count_;
  }
  return hashed(std::move(text));
}

std::string BackupWriter::end(std::uint64_t revision) {
  json::object tail;
  tail["entries"] = count_;
  tail["revision"] = revision;
  const Sha256 digest = hash_.finish();
  tail["sha256"] = to_hex(as_text(digest));
  return json::serialize(tail) + "\n";
}

Answer<Backup> parse_backup(std::string_view text) {
  const std::string_view head_line = text.substr(0, text.find('\n'));
  const std::optional<json::object> head = parse_json_object(head_line);
  if (!head || head_line.size() == text.size()) return damaged("not a backup of a catalogue");
  const std::optional<std::uint64_t> version = json_count(*head, kMark);
  if (!version) return damaged("not a backup of a catalogue");
  if (*version != kVersion) {
    return Failure::from(Errc::newer_format, {}, "use the version of vmstore that wrote it");
  }
  if (!text.ends_with('\n')) return damaged("the backup ends too early");
  const std::size_t tail_at = text.rfind('\n', text.size() - 2) + 1;
  const std::optional<json::object> tail = parse_json_object(text.substr(tail_at));
  const std::string digest = tail ? json_text(*tail, "sha256").value_or("") : std::string();
  if (digest.empty()) return damaged("the backup ends too early");
  if (to_hex(as_text(sha256(as_byte_span(text.substr(0, tail_at))))) != digest) {
    return damaged("the backup's checksum does not match");
  }
  Backup backup;
  backup.store = json_text(*head, "store").value_or("");
  backup.revision = json_count(*tail, "revision").value_or(0);
  std::string_view rest = text.substr(head_line.size() + 1, tail_at - head_line.size() - 1);
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(line.size() + 1);
    VMS_TRY(disk::CatalogueEntry entry, parse_entry(line));
    backup.entries.push_back(std::move(entry));
  }
  if (json_count(*tail, "entries") != backup.entries.size()) {
    return damaged("the backup's count of entries does not match");
  }
  return backup;
}

}  // namespace vmstore::cli
