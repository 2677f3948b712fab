// SPDX-License-Identifier: Apache-2.0
// AsyncDisk: what a disk gives back: private freeing (C8), and writers that are slowed when garbage
// grows faster than it is freed.
//
// Why it cannot hang: only what a guest writes waits for frees, before any of it is in the batch; a
// free waits for the node and for nothing else. Flushes, discards, checkpoints and what is
// acknowledged go on meanwhile. And nobody is stopped: beyond the limit a block may be written for
// each block that is freed, so a discard that leaves hours of freeing slows, but stalls nothing.
#include <algorithm>
#include <utility>

#include "base/log.h"
#include "disk/async_disk.h"

namespace vmstore::disk {
namespace {

/// So much may be written at once by those who waited, however long the run that was freed.
constexpr std::int64_t kSlowAllowanceMax = 2 * limits::kBatchBlocks;
constexpr Duration kLookAgain = std::chrono::milliseconds(50);

}  // namespace

std::uint64_t AsyncDisk::garbage_blocks_max() const noexcept {
  const std::uint64_t bytes =
      std::clamp(size_bytes(), limits::kGarbageBytesLeast, limits::kGarbageBytesMost);
  const std::uint64_t wanted = options_.garbage_blocks_max;
  // Never so few that nobody frees them.
  return std::max(wanted != 0 ? wanted : bytes / kBlockBytes, options_.free_batch_blocks);
}

// ---- what is garbage ----

bool AsyncDisk::may_free(Address address) const noexcept {
  if (!own_keys_.contains(address.key())) return false;
  if (!cut_) return true;
  if (address.key() != cut_->key) return address.key() > cut_->key;
  return address.block() >= cut_->block;
}

void AsyncDisk::add_garbage(Address address, std::uint64_t blocks) {
  if (address.is_unmapped()) return;
  const TimePoint now = session_.scheduler().now();
  // A run may reach across the cut: block by block only then.
  for (std::uint64_t done = 0; done < blocks;) {
    const Address at = address.plus(done);
    std::uint64_t count = blocks - done;
    if (cut_ && at.key() == cut_->key && at.block() < cut_->block) {
      count = std::min(count, cut_->block.value - at.block().value);
    }
    done += count;
    if (may_free(at)) garbage_.add(at.key(), Garbage::Run{at.block(), count}, now);
  }
  settle_slowing();
  start_freeing();
}

// ---- freeing it ----

void AsyncDisk::start_freeing() {
  if (freeing_ || gate_.is_closed() || garbage_.blocks() < options_.free_batch_blocks) return;
  freeing_ = true;
  session_.scheduler().spawn(free_in_background());
}

Task<void> AsyncDisk::free_in_background() {
  const auto pass = gate_.enter();
  Scheduler& scheduler = session_.scheduler();
  while (pass && !stopping_.is_set() && mode_.load() == Mode::owner && log_ != nullptr &&
         !log_->failure() && garbage_.blocks() >= options_.free_batch_blocks) {
    const TimePoint now = scheduler.now();
    const std::uint64_t hole = garbage_.hole_blocks_worth(garbage_blocks_max(), now);
    Garbage::Part part = garbage_.take(hole, options_.free_runs_per_call);
    if (part.runs.empty()) {
      static_cast<void>(co_await stopping_.wait_until(now + kLookAgain));
      continue;
    }
    if (!co_await free_part(std::move(part))) co_await sleep_for(scheduler, kLookAgain);
  }
  freeing_ = false;
}

/// False when the node could not be reached; the part is garbage again then.
Task<bool> AsyncDisk::free_part(Garbage::Part part) {
  std::vector<net::NodeClient::FreeRun> runs;
  for (const Garbage::Run& run : part.runs) {
    // A snapshot may have been cut since this was noted.
    const auto address = Address::make(part.key, run.first);
    if (address && may_free(*address)) runs.push_back({run.first, run.blocks});
  }
  bool reached = true;
  if (!runs.empty()) {
    net::NodeClient::FreeReport report;
    report.garbage_blocks = garbage_.blocks() - part.blocks;
    report.slowed = std::exchange(slowed_untold_, Duration(0));
    const auto freed = co_await session_.copies().free_blocks(
        part.key, record_.epoch(), id_, std::move(runs), report);
    reached = freed || !net::is_connection_trouble(freed.error());
    // Other refusals: what is missed here the next garbage-collection round finds.
  }
  if (reached) {
    garbage_.freed(part);
    {
      const Mapping::Lock lock(mapping_.mutex());
      slow_allowance_ =
          std::min(slow_allowance_ + static_cast<std::int64_t>(part.blocks), kSlowAllowanceMax);
    }
    freed_.pulse();
  } else {
    garbage_.put_back(part);
  }
  settle_slowing();
  co_return reached;
}

/// Until all is freed, or the time is over. The rest is left to the collector, which punches sealed
/// keys only; the next session finds the key sealed and begins a new one.
Task<void> AsyncDisk::free_rest(TimePoint deadline) {
  for (const std::uint64_t hole_blocks : {std::uint64_t{8}, std::uint64_t{1}}) {
    while (session_.scheduler().now() < deadline) {
      Garbage::Part part = garbage_.take(hole_blocks, options_.free_runs_per_call);
      if (part.runs.empty()) break;
      if (!co_await free_part(std::move(part))) co_return;
    }
  }
  if (garbage_.empty()) co_return;
  const auto sealed =
      co_await session_.copies().seal(log_->open_place(), record_.epoch(), log_->open_length());
  static_cast<void>(sealed);  // an open key is sealed when it is long enough
}

void AsyncDisk::forget_garbage() {
  garbage_.clear();
  settle_slowing();
}

// ---- slowing ----

void AsyncDisk::settle_slowing() {
  const bool slowed = garbage_.blocks() >= garbage_blocks_max();
  if (slowed == slowed_) return;
  {
    const Mapping::Lock lock(mapping_.mutex());
    slow_allowance_ = 0;
    slowed_ = slowed;
  }
  if (!slowed) freed_.pulse();
}

Task<void> AsyncDisk::wait_for_frees() {
  Scheduler& scheduler = session_.scheduler();
  if (slowed_writers_++ == 0) slowed_since_ = scheduler.now();
  start_freeing();
  // Bounded, so that a lost token or a failure of the log is seen.
  static_cast<void>(co_await freed_.wait_pulse(scheduler.now() + std::chrono::seconds(1)));
  if (--slowed_writers_ > 0) co_return;
  const Duration slowed = scheduler.now() - slowed_since_;
  slowed_time_ += slowed;
  slowed_untold_ += slowed;
}

}  // namespace vmstore::disk
