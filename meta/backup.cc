// SPDX-License-Identifier: Apache-2.0
#include "meta/backup.h"

#include <charconv>
#include <optional>
#include <utility>

#include "base/limits.h"

namespace vmstore::meta {
namespace {

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

/// A line, read piece by piece; after a piece that is not there it is bad.
class Line {
 public:
  explicit Line(std::string_view text) : text_(text) {}
  Line& expect(std::string_view literal) {
    good_ = good_ && text_.starts_with(literal);
    if (good_) text_.remove_prefix(literal.size());
    return *this;
  }
  Line& number(std::uint64_t& into) {
    const auto [end, error] = std::from_chars(text_.data(), text_.data() + text_.size(), into);
    good_ = good_ && error == std::errc();
    if (good_) text_.remove_prefix(static_cast<std::size_t>(end - text_.data()));
    return *this;
  }
  /// Up to the next quote, which stays.
  Line& word(std::string_view& into) {
    const std::size_t end = text_.find('"');
    good_ = good_ && end != std::string_view::npos;
    if (!good_) return *this;
    into = text_.substr(0, end);
    text_.remove_prefix(end);
    return *this;
  }
  [[nodiscard]] bool is_good() const noexcept { return good_; }
  [[nodiscard]] bool is_whole() const noexcept { return good_ && text_.empty(); }

 private:
  std::string_view text_;
  bool good_ = true;
};

std::optional<BackupEntry> parse_entry(std::string_view text) {
  std::string_view key_hex;
  std::string_view value_hex;
  Line line(text);
  line.expect(R"({"key":")").word(key_hex).expect(R"(","value":")").word(value_hex);
  if (!line.expect("\"}").is_whole()) return std::nullopt;
  auto key = from_hex(key_hex);
  auto value = from_hex(value_hex);
  const bool fits = key && value && !key->empty() && key->size() <= limits::kMetaKeyBytesMax &&
                    value->size() <= limits::kMetaValueBytesMax;
  if (!fits) return std::nullopt;
  return BackupEntry{std::move(*key), std::move(*value)};
}

}  // namespace

std::string BackupWriter::hashed(std::string text) {
  hash_.update(as_byte_span(text));
  return text;
}

std::string BackupWriter::begin(std::string_view store, std::string_view created) {
  std::string text = R"({"vmstore_meta_backup":)" + std::to_string(kVersion);
  text.append(R"(,"store":")").append(store);
  text.append(R"(","created":")").append(created).append("\"}\n");
  return hashed(std::move(text));
}

std::string BackupWriter::entries(const std::vector<BackupEntry>& entries) {
  std::string text;
  for (const BackupEntry& entry : entries) {
    text += R"({"key":")" + to_hex(entry.key) + R"(","value":")" + to_hex(entry.value) + "\"}\n";
    ++count_;
  }
  return hashed(std::move(text));
}

std::string BackupWriter::end(std::uint64_t revision) {
  const Sha256 digest = hash_.finish();
  return R"({"entries":)" + std::to_string(count_) + R"(,"revision":)" + std::to_string(revision) +
         R"(,"sha256":")" + to_hex(as_text(digest)) + "\"}\n";
}

Result<Backup> parse_backup(std::string_view text, std::string& why) {
  const auto damaged = [&why](std::string_view what) {
    why = what;
    return Errc::corrupt;
  };
  const std::string_view head = text.substr(0, text.find('\n'));
  std::uint64_t version = 0;
  Line first(head);
  first.expect(R"({"vmstore_meta_backup":)").number(version);
  if (!first.is_good() || head.size() == text.size()) {
    return damaged("not a backup of a catalogue");
  }
  if (version != kVersion) {
    why = "a newer version of vmstore wrote it";
    return Errc::newer_format;
  }
  std::string_view store;
  std::string_view created;
  first.expect(R"(,"store":")").word(store).expect(R"(","created":")").word(created);
  if (!first.expect("\"}").is_whole()) return damaged("the head of the backup is damaged");
  if (!text.ends_with('\n')) return damaged("the backup ends too early");
  const std::size_t tail_at = text.rfind('\n', text.size() - 2) + 1;
  Backup backup;
  backup.store = store;
  std::uint64_t count = 0;
  std::string_view digest;
  Line last(text.substr(tail_at));
  last.expect(R"({"entries":)").number(count).expect(R"(,"revision":)").number(backup.revision);
  last.expect(R"(,"sha256":")").word(digest).expect("\"}\n");
  if (!last.is_whole()) return damaged("the backup ends too early");
  if (to_hex(as_text(sha256(as_byte_span(text.substr(0, tail_at))))) != digest) {
    return damaged("the backup's checksum does not match");
  }
  std::string_view rest = text.substr(head.size() + 1, tail_at - head.size() - 1);
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(line.size() + 1);
    auto entry = parse_entry(line);
    if (!entry) return damaged("an entry of the backup is damaged");
    backup.entries.push_back(std::move(*entry));
  }
  if (count != backup.entries.size()) {
    return damaged("the backup's count of entries does not match");
  }
  return backup;
}

}  // namespace vmstore::meta
