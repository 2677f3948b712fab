// SPDX-License-Identifier: Apache-2.0
#include "cli/leftover.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <limits>

#include "base/bytes.h"
#include "base/checksum.h"
#include "base/process.h"
#include "base/random.h"
#include "cli/context.h"

namespace vmstore::cli {
namespace {

constexpr std::size_t kPlaceDigits = 8;
constexpr std::uint64_t kOldNs = std::uint64_t{24} * 3600 * 1'000'000'000;
constexpr std::string_view kNoPlace = "00000000";

std::string hex(std::uint64_t number, int digits) {
  std::array<char, 24> text{};
  const int size = std::snprintf(
      text.data(), text.size(), "%0*llx", digits, static_cast<unsigned long long>(number));
  return {text.data(), static_cast<std::size_t>(size)};
}

/// The text behind a link of /proc; empty: it cannot be read.
std::string link_text(const char* path) {
  std::array<char, 64> text{};
  const ssize_t size = readlink(path, text.data(), text.size());
  return {text.data(), static_cast<std::size_t>(std::max<ssize_t>(size, 0))};
}

/// This boot and the spaces of process ids and of time that we are in: two containers number theirs
/// alike. Empty: not known, and then it is no other place's equal.
std::optional<std::string> place() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string text;
  std::getline(file, text);
  const std::string ids = link_text("/proc/self/ns/pid");
  if (text.empty() || ids.empty()) return std::nullopt;
  text += ids + link_text("/proc/self/ns/time");  // kernels before 5.6 have but one
  const std::string digits = hex(xxh3(as_byte_span(text)) & 0xffffffffU, kPlaceDigits);
  return digits == kNoPlace ? std::nullopt : std::optional(digits);
}

/// When a process began, in ticks since the boot. Empty: not known, whether or not there is one.
std::optional<std::uint64_t> start_of(std::uint64_t pid) {
  // A /proc of another space of ids tells of other processes.
  if (link_text("/proc/self") != std::to_string(getpid())) return std::nullopt;
  const auto stat = read_process_stat(pid);
  if (!stat || stat->start_ticks == 0) return std::nullopt;
  return stat->start_ticks;
}

bool take_number(std::string_view& text, int base, std::uint64_t& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  if (error != std::errc()) return false;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return true;
}

std::uint64_t wall_ns() {
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                        std::chrono::system_clock::now().time_since_epoch())
                                        .count());
}

}  // namespace

std::string maker_tag() {
  const auto pid = static_cast<std::uint64_t>(getpid());
  return place().value_or(std::string(kNoPlace)) + "-" + std::to_string(pid) + "-" +
         hex(start_of(pid).value_or(0), 1);
}

Maker judge_maker(std::uint64_t tagged_start,
                  std::optional<std::uint64_t> seen_start,
                  int kill_error) {
  const bool can_compare = seen_start && *seen_start != 0 && tagged_start != 0;
  if (can_compare && *seen_start != tagged_start) return Maker::dead;  // the id was given out again
  if (kill_error == ESRCH) return Maker::dead;
  if (kill_error == EPERM) return Maker::alive;
  return can_compare && kill_error == 0 ? Maker::alive : Maker::unknown;
}

std::optional<Maker> maker_of(std::string_view text) {
  const std::string_view where = text.substr(0, kPlaceDigits);
  const bool has_place = where.size() == kPlaceDigits &&
                         where.find_first_not_of("0123456789abcdef") == std::string_view::npos;
  std::string_view rest = text.substr(where.size());
  std::uint64_t pid = 0;
  std::uint64_t start = 0;
  const auto dash = [&rest] {
    if (!rest.starts_with('-')) return false;
    rest.remove_prefix(1);
    return true;
  };
  if (!has_place || !dash() || !take_number(rest, 10, pid) || !dash()) return std::nullopt;
  if (!take_number(rest, 16, start)) return std::nullopt;
  if (!rest.empty() && rest[0] != '-' && rest[0] != '.') return std::nullopt;
  if (where != place()) return Maker::unknown;
  constexpr auto kPidMax = static_cast<std::uint64_t>(std::numeric_limits<pid_t>::max());
  if (pid == 0 || pid > kPidMax) return Maker::unknown;
  const std::optional<std::uint64_t> seen = start_of(pid);
  const int error = kill(static_cast<pid_t>(pid), 0) == 0 ? 0 : errno;
  return judge_maker(start, seen, error);
}

std::string temporary_name(std::string_view prefix) {
  return std::string(prefix) + maker_tag() + "-" + hex(system_seed() & 0xffffffffU, 8);
}

bool is_left_over(std::string_view name,
                  std::string_view prefix,
                  std::uint64_t created_ns,
                  std::uint64_t now_ns) {
  if (!name.starts_with(prefix)) return false;
  const std::optional<Maker> maker = maker_of(name.substr(prefix.size()));
  if (!maker || *maker == Maker::alive) return false;
  return *maker == Maker::dead || (now_ns > created_ns && now_ns - created_ns > kOldNs);
}

void sweep_disks(Context& context, disk::Client& client, std::string_view prefix) {
  const Result<std::vector<disk::DiskSummary>> disks = client.list();
  if (!disks) return;
  for (const disk::DiskSummary& disk : *disks) {
    if (!is_left_over(disk.name, prefix, disk.created_ns, wall_ns())) continue;
    // Of a maker that is not known here: whoever holds it is alive.
    const bool is_dead = maker_of(disk.name.substr(prefix.size())) == Maker::dead;
    if (disk.held && !is_dead) continue;
    if (client.remove(disk.name, true, is_dead)) {
      context.output().note("removed " + disk.name + ", which a killed command had left");
    }
  }
}

void sweep_snapshots(Context& context, disk::Client& client, const std::string& disk) {
  const Result<std::vector<disk::SnapshotSummary>> snapshots = client.snapshots(disk);
  if (!snapshots) return;
  for (const disk::SnapshotSummary& snapshot : *snapshots) {
    const std::string& name = snapshot.name;
    const std::string_view prefix = name.starts_with(kVerifyPrefix) ? kVerifyPrefix : kExportPrefix;
    if (!is_left_over(name, prefix, snapshot.created_ns, wall_ns())) continue;
    const std::string whole = disk + "@" + name;
    // Nothing tells who reads a snapshot, and clocks differ: age alone is no proof.
    if (maker_of(std::string_view(name).substr(prefix.size())) != Maker::dead) {
      context.output().note(whole +
                            " may be in use by an export or verify elsewhere; if not, remove it "
                            "with: vmstore snap rm " +
                            whole);
    } else if (client.remove_snapshot(disk, name)) {
      context.output().note("removed " + whole + ", which a killed command had left");
    }
  }
}

void sweep_parts(const std::string& path) {
  const std::filesystem::path whole(path);
  const std::filesystem::path folder = whole.has_parent_path() ? whole.parent_path() : ".";
  const std::string prefix =
      "." + whole.filename().string().substr(0, 200) + std::string(kPartMark);
  std::error_code error;
  for (std::filesystem::directory_iterator at(folder, error), end; !error && at != end;
       at.increment(error)) {
    const std::string name = at->path().filename().string();
    if (!name.starts_with(prefix)) continue;
    if (maker_of(std::string_view(name).substr(prefix.size())) != Maker::dead) continue;
    std::error_code ignored;  // somebody else's file stays
    std::filesystem::remove(at->path(), ignored);
  }
}

}  // namespace vmstore::cli
