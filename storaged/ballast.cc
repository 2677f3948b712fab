// SPDX-License-Identifier: Apache-2.0
#include "storaged/ballast.h"

#include <algorithm>

#include "base/log.h"
#include "base/units.h"

namespace vmstore::storaged {
namespace {

constexpr std::uint64_t kPart = 64;  // of a small file system, one in so many bytes

}  // namespace

Ballast::Ballast(Files& files) : files_(files) {
  const auto found = find();
  if (!found && found.error() != Errc::not_found) {
    VMS_LOG(warning, "node", kBallastFile << ": " << to_string(found.error()));
  }
}

Result<void> Ballast::find() {
  OpenOptions options;
  options.write = false;
  VMS_TRY(const auto file, files_.open(kBallastFile, options));
  VMS_TRY(held_, file->allocated_bytes());
  return success();
}

std::uint64_t Ballast::held_bytes() const {
  const std::lock_guard lock(mutex_);
  return held_;
}

void Ballast::make_room(bool failed) {
  const std::lock_guard lock(mutex_);
  if (held_ == 0) return;
  const auto space = files_.space();
  const bool is_short = space && space->free_bytes < held_;
  if (!failed && !is_short) return;
  VMS_LOG(warning,
          "node",
          "no room for the catalogue: " << format_size(held_)
                                        << " kept for it are given up; free some space there");
  held_ = 0;  // also if it fails: nobody is helped by trying again and again
  const auto given_up = give_up();
  if (!given_up) VMS_LOG(error, "node", kBallastFile << ": " << to_string(given_up.error()));
}

Result<void> Ballast::give_up() {
  VMS_TRY(const auto file, files_.open(kBallastFile, OpenOptions()));
  VMS_CHECK(file->truncate(0));
  return file->sync();  // journalling file systems hand blocks out again after that
}

void Ballast::take(std::uint64_t reserve_bytes) {
  const std::lock_guard lock(mutex_);
  if (unsupported_) return;
  const auto space = files_.space();
  if (!space) return;
  const std::uint64_t bytes = std::min(kBytesMax, space->total_bytes / kPart);
  if (held_ >= bytes || space->free_bytes / 2 < bytes) return;
  if (space->free_bytes - 2 * bytes < reserve_bytes) return;
  const auto taken = allocate(bytes);
  if (taken) {
    held_ = bytes;
    return;
  }
  VMS_LOG(warning,
          "node",
          "no space can be kept for the catalogue (" << to_string(taken.error())
                                                     << "): a full file system stops its changes");
  unsupported_ = taken.error() == Errc::unsupported;
  held_ = 0;
  ignore(give_up(), "as far as it goes");
}

Result<void> Ballast::allocate(std::uint64_t bytes) {
  OpenOptions options;
  options.create = true;
  VMS_TRY(const auto file, files_.open(kBallastFile, options));
  VMS_CHECK(file->truncate(bytes));
  return file->allocate(0, bytes);
}

}  // namespace vmstore::storaged
