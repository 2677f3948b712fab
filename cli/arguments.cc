// SPDX-License-Identifier: Apache-2.0
#include "cli/arguments.h"

#include <fnmatch.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "base/ids.h"
#include "base/limits.h"
#include "cli/nearest.h"

namespace vmstore::cli {
namespace {

constexpr std::string_view kNameHint =
    "names are [GROUP/]NAME[@SNAP], each part of a-z, 0-9, '.', '_' and '-', 63 at most, beginning "
    "with a letter or digit";
constexpr std::uint64_t kCloneCountMax = 100'000;

bool is_digit(char c) noexcept {
  return c >= '0' && c <= '9';
}

Failure bad_name(std::string_view text) {
  Failure failure = Failure::usage("not a name of a disk", std::string(kNameHint));
  failure.object = text;
  return failure;
}

struct Pattern {
  std::string before;
  std::string after;
  std::size_t digits = 0;
};

/// "web-%04d" in its parts; empty when there is not exactly one such mark.
std::optional<Pattern> parse_pattern(const std::string& text) {
  const auto percent = text.find('%');
  if (percent == std::string::npos) return std::nullopt;
  std::size_t at = percent + 1;
  Pattern pattern{text.substr(0, percent), {}, 0};
  if (at < text.size() && text[at] == '0') {
    ++at;
    while (at < text.size() && is_digit(text[at]) && pattern.digits < 100) {
      pattern.digits = pattern.digits * 10 + static_cast<std::size_t>(text[at++] - '0');
    }
    if (pattern.digits == 0 || pattern.digits > 12) return std::nullopt;
  }
  if (at >= text.size() || text[at] != 'd') return std::nullopt;
  pattern.after = text.substr(at + 1);
  if (pattern.after.find('%') != std::string::npos) return std::nullopt;
  return pattern;
}

std::string hint_for(Errc code, const std::string& name) {
  switch (code) {
    case Errc::busy:
    case Errc::not_owner:
    case Errc::stale_token:
      return "who has it: vmstore owner ls " + name +
             "; detach it there, or take it with: vmstore "
             "owner break " +
             name;
    case Errc::timed_out:
    case Errc::unavailable:
      return "its holder or node does not answer; if the holder is gone for good: vmstore owner "
             "break " +
             name;
    case Errc::disconnected:
    case Errc::unknown:
      return "whether it happened is not known: look with vmstore info " + name +
             " and try again; a damaged log is named by: vmstore verify " + name + " --repair";
    case Errc::no_space:
      return "free space with: vmstore trash purge --all, then vmstore gc";
    case Errc::corrupt:
    case Errc::quarantined:
      return "vmstore verify " + name + " names the damaged parts";
    case Errc::exists:
      return "choose another name";
    case Errc::conflict:
      return "somebody else changed it at the same time; try again";
    default:
      return {};
  }
}

}  // namespace

Answer<std::string> disk_argument(std::string_view text) {
  VMS_TRY(DiskReference reference, reference_argument(text));
  if (reference.snapshot.empty()) return std::move(reference.disk);
  Failure failure = Failure::usage("names a snapshot, but a disk is needed here");
  failure.object = text;
  failure.hint = "leave out @" + reference.snapshot;
  return failure;
}

Answer<DiskReference> reference_argument(std::string_view text) {
  Result<DiskReference> reference = parse_disk_reference(text);
  if (!reference) return bad_name(text);
  return std::move(*reference);
}

Answer<DiskReference> snapshot_argument(std::string_view text) {
  VMS_TRY(DiskReference reference, reference_argument(text));
  if (!reference.snapshot.empty()) return reference;
  Failure failure = Failure::usage("names no snapshot", "write " + std::string(text) + "@SNAP");
  failure.object = text;
  return failure;
}

Answer<std::uint64_t> size_argument(std::string_view text) {
  if (is_bare_number(text)) {
    return Failure::usage("a size needs a unit: '" + std::string(text) + "'",
                          "write " + std::string(text) + "G or " + std::string(text) + "M (or " +
                              std::string(text) + "B if bytes are meant)");
  }
  const Result<std::uint64_t> bytes = parse_size(text);
  if (!bytes) {
    return Failure::usage("not a size: '" + std::string(text) + "'",
                          "sizes are like 512M, 20G, 1.5T");
  }
  if (*bytes % kSectorBytes != 0) {
    return Failure::usage("'" + std::string(text) + "' is not a multiple of 512 bytes");
  }
  if (*bytes < limits::kDiskBytesMin || *bytes > limits::kDiskBytesMax) {
    return Failure::usage("a disk has between 512 bytes and 256 TiB, not '" + std::string(text) +
                          "'");
  }
  return *bytes;
}

Answer<std::uint64_t> new_size_argument(std::string_view text, std::uint64_t now) {
  const char sign = text.empty() ? '\0' : text[0];
  if (sign != '+' && sign != '-') return size_argument(text);
  VMS_TRY(const std::uint64_t change, size_argument(text.substr(1)));
  const bool is_out_of_range =
      sign == '-' ? change >= now
                  : change > limits::kDiskBytesMax - std::min(now, limits::kDiskBytesMax);
  if (is_out_of_range) {
    return Failure::usage("the disk has " + format_size(now) + ": " + std::string(text) +
                          " leaves no size between 512 bytes and 256 TiB");
  }
  return sign == '-' ? now - change : now + change;
}

Answer<std::chrono::milliseconds> duration_argument(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit = text.substr(static_cast<std::size_t>(end - text.data()));
  constexpr std::uint64_t kNumberMax = 1'000'000;
  std::uint64_t factor = 0;
  if (unit == "ms") factor = 1;
  if (unit == "s" || unit.empty()) factor = 1000;
  if (unit == "m") factor = 60'000;
  if (error != std::errc() || factor == 0 || number == 0 || number > kNumberMax) {
    return Failure::usage("not a duration: '" + std::string(text) + "'", "write 500ms, 10s or 2m");
  }
  return std::chrono::milliseconds(number * factor);
}

Answer<std::vector<std::string>> clone_names(const std::string& destination,
                                             std::uint64_t count,
                                             const std::string& pattern) {
  if (count == 0 || count > kCloneCountMax) {
    return Failure::usage("--count is between 1 and " + std::to_string(kCloneCountMax));
  }
  Pattern parts{destination + "-", {}, std::to_string(count).size()};
  if (!pattern.empty()) {
    std::optional<Pattern> parsed = parse_pattern(pattern);
    if (!parsed) {
      return Failure::usage("not a pattern for names: '" + pattern + "'",
                            "it has one %d or %04d, like '" + destination + "-%04d'");
    }
    parts = std::move(*parsed);
  }
  std::vector<std::string> names;
  for (std::uint64_t number = 1; number <= count; ++number) {
    std::string digits = std::to_string(number);
    if (digits.size() < parts.digits) digits.insert(0, parts.digits - digits.size(), '0');
    std::string name = parts.before + digits + parts.after;
    VMS_TRY(std::string checked, disk_argument(name));
    names.push_back(std::move(checked));
  }
  return names;
}

bool matches_glob(const std::string& pattern, const std::string& text) {
  return fnmatch(pattern.c_str(), text.c_str(), 0) == 0;
}

Failure disk_failure(disk::Client& client, const Error& error, const std::string& name) {
  Failure failure = Failure::from(error, name, hint_for(error.code, name));
  if (error == Error(Errc::exists)) failure.what = "exists already";
  if (error.code == Errc::foreign_store) {
    // Only its batch file is looked at before it is opened, and that lies under the disk's id.
    failure =
        Failure::make(ExitCode::integrity,
                      name,
                      "its batch file in the run folder is damaged, or is no batch file",
                      "what it holds is lost if you set it aside: vmstore owner discard " + name);
    failure.code = "corrupt";
  }
  if (error != Error(Errc::not_found)) return failure;
  failure.what = "no such disk";
  failure.hint = "vmstore ls";
  const Result<std::vector<disk::DiskSummary>> disks = client.list();
  if (!disks) return failure;
  std::vector<std::string> names;
  for (const disk::DiskSummary& disk : *disks) names.push_back(disk.name);
  const std::optional<std::string> close = nearest(name, names);
  failure.what += " (" + std::to_string(names.size()) + (names.size() == 1 ? " disk" : " disks") +
                  (close ? "; closest: \"" + *close + "\"" : "") + ")";
  return failure;
}

Failure snapshot_failure(disk::Client& client, const Error& error, const DiskReference& reference) {
  const std::string whole = reference.disk + "@" + reference.snapshot;
  if (error != Error(Errc::not_found)) {
    Failure failure = Failure::from(error, whole, hint_for(error.code, reference.disk));
    if (error == Error(Errc::exists)) failure.what = "exists already";
    return failure;
  }
  const Result<std::vector<disk::SnapshotSummary>> snapshots = client.snapshots(reference.disk);
  if (!snapshots) return disk_failure(client, error, reference.disk);
  std::vector<std::string> names;
  for (const disk::SnapshotSummary& snapshot : *snapshots) names.push_back(snapshot.name);
  const std::optional<std::string> close = nearest(reference.snapshot, names);
  return Failure{ExitCode::not_found,
                 "not_found",
                 whole,
                 "no such snapshot (" + std::to_string(names.size()) +
                     (names.size() == 1 ? " snapshot" : " snapshots") +
                     (close ? "; closest: \"" + reference.disk + "@" + *close + "\"" : "") + ")",
                 "vmstore snap ls " + reference.disk};
}

Answer<disk::SnapshotSummary> find_snapshot(disk::Client& client, const DiskReference& reference) {
  const Result<std::vector<disk::SnapshotSummary>> there = client.snapshots(reference.disk);
  if (!there) return disk_failure(client, there.error(), reference.disk);
  for (const disk::SnapshotSummary& snapshot : *there) {
    if (snapshot.name == reference.snapshot) return snapshot;
  }
  return snapshot_failure(client, Errc::not_found, reference);
}

Answer<void> require_snapshot(disk::Client& client, const DiskReference& reference) {
  VMS_CHECK(find_snapshot(client, reference));
  return {};
}

}  // namespace vmstore::cli
