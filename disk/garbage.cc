// SPDX-License-Identifier: Apache-2.0
#include "disk/garbage.h"

#include <algorithm>
#include <utility>

namespace vmstore::disk {
namespace {

using snapshot::Extent;
using snapshot::Where;

constexpr Duration kWindow = std::chrono::seconds(1);
/// Garbage of a second that makes a writer a busy one: a third of a second of single holes.
constexpr std::uint64_t kBusyBlocks = 4096;
/// Fewer long holes than this wait for more: a call costs a synced write of the journal.
constexpr std::size_t kRunsWorthACall = 64;

constexpr std::uint64_t kLongHole = 8;

}  // namespace

void Garbage::put(KeyId key, Run run) {
  std::uint64_t known = 0;
  const auto count = [&known](const Extent& old) { known += old.blocks; };
  const Extent extent{Lbn(run.first.value), run.blocks, Where::zero, 0};
  keys_[key].put(extent, count);
  waiting_ += run.blocks - known;
}

void Garbage::add(KeyId key, Run run, TimePoint now) {
  if (run.blocks == 0) return;
  if (now >= window_begin_ + kWindow) {
    was_busy_ = window_blocks_ >= kBusyBlocks && now < window_begin_ + 2 * kWindow;
    window_begin_ = now;
    window_blocks_ = 0;
  }
  window_blocks_ += run.blocks;
  put(key, run);
}

void Garbage::put_back(const Part& part) {
  in_flight_ -= part.blocks;
  for (const Run& run : part.runs) put(part.key, run);
}

void Garbage::clear() noexcept {
  keys_.clear();
  waiting_ = 0;
}

Garbage::Part Garbage::find(KeyId key,
                            const snapshot::RunMap& runs,
                            std::uint64_t hole_blocks,
                            std::size_t runs_max) {
  Part part;
  part.key = key;
  runs.visit_all([&](const Extent& hole) {
    if (hole.blocks < hole_blocks || part.runs.size() == runs_max) return;
    part.runs.push_back({BlockIndex{hole.lbn.value}, hole.blocks});
    part.blocks += hole.blocks;
  });
  return part;
}

Garbage::Part Garbage::take(std::uint64_t hole_blocks, std::size_t runs_max) {
  Part best;
  for (const auto& [key, runs] : keys_) {
    if (best.runs.size() == runs_max) break;  // oldest key first: least of it still lives
    Part part = find(key, runs, hole_blocks, runs_max);
    if (part.runs.size() > best.runs.size()) best = std::move(part);
  }
  if (hole_blocks > 1 && best.runs.size() < std::min(kRunsWorthACall, runs_max)) return {};
  if (best.runs.empty()) return best;
  const auto key = keys_.find(best.key);
  for (const Run& run : best.runs) key->second.erase(Lbn(run.first.value), run.blocks);
  if (key->second.empty()) keys_.erase(key);
  waiting_ -= best.blocks;
  in_flight_ += best.blocks;
  return best;
}

std::uint64_t Garbage::hole_blocks_worth(std::uint64_t blocks_max, TimePoint now) const noexcept {
  const bool growing = now < window_begin_ + kWindow && window_blocks_ >= kBusyBlocks;
  const bool busy = growing || (was_busy_ && now < window_begin_ + kWindow);
  if (!busy) return 1;
  if (blocks() < blocks_max / 2) return kLongHole;
  if (blocks() < blocks_max / 8 * 5) return kLongHole / 2;
  if (blocks() < blocks_max / 4 * 3) return kLongHole / 4;
  return 1;
}

}  // namespace vmstore::disk
