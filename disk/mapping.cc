// SPDX-License-Identifier: Apache-2.0
#include "disk/mapping.h"

#include <algorithm>

#include "base/assert.h"

namespace vmstore::disk {
namespace {

using snapshot::Extent;
using snapshot::RunMap;
using snapshot::Where;

/// Calls `known(extent)` and `gap(lbn, blocks)` alternately over [lbn, lbn+blocks) of one layer.
template <class Known, class Gap>
void walk_layer(const RunMap& layer, Lbn lbn, std::uint64_t blocks, Known known, Gap gap) {
  std::uint64_t at = lbn.value;
  const std::uint64_t end = lbn.value + blocks;
  layer.visit(lbn, blocks, [&](const Extent& extent) {
    if (extent.lbn.value > at) gap(Lbn(at), extent.lbn.value - at);
    known(extent);
    at = extent.lbn.value + extent.blocks;
  });
  if (at < end) gap(Lbn(at), end - at);
}

}  // namespace

std::vector<Mapping::Piece> Mapping::pieces(Lbn lbn, std::uint64_t blocks) const {
  std::vector<Piece> found;
  const auto add_known = [&found](const Extent& extent) { found.push_back({extent, false}); };
  const auto add_unknown = [&found](Lbn from, std::uint64_t count) {
    Extent extent;
    extent.lbn = from;
    extent.blocks = count;
    found.push_back({extent, true});
  };
  // Few layers (at most 3) and short ranges: a recursive walk down the layers of each gap.
  const auto descend = [&](auto&& self,
                           std::list<std::shared_ptr<FrozenLayer>>::const_iterator it,
                           Lbn from,
                           std::uint64_t count) -> void {
    if (it == frozen_.end()) {
      add_unknown(from, count);
      return;
    }
    walk_layer((*it)->runs, from, count, add_known, [&](Lbn gap_from, std::uint64_t gap_count) {
      self(self, std::next(it), gap_from, gap_count);
    });
  };
  walk_layer(overlay_, lbn, blocks, add_known, [&](Lbn from, std::uint64_t count) {
    descend(descend, frozen_.begin(), from, count);
  });
  return found;
}

std::shared_ptr<FrozenLayer> Mapping::freeze(Sequence last_sequence) {
  auto layer = std::make_shared<FrozenLayer>();
  layer->runs = std::move(overlay_);
  layer->last_sequence = last_sequence;
  overlay_ = RunMap();
  frozen_.push_front(layer);
  return layer;
}

std::shared_ptr<FrozenLayer> Mapping::oldest_frozen() const {
  return frozen_.empty() ? nullptr : frozen_.back();
}

void Mapping::retire_oldest(Address top) {
  VMS_ASSERT(!frozen_.empty());
  frozen_.pop_back();
  top_ = top;
}

std::vector<Extent> Mapping::commit_slots(Lbn lbn,
                                          std::uint64_t blocks,
                                          std::uint64_t first_slot,
                                          Address address) {
  RunMap named;
  const auto switch_layer = [&](RunMap& layer) {
    std::vector<Extent> mine;
    layer.visit(lbn, blocks, [&](const Extent& extent) {
      const std::uint64_t offset = extent.lbn.value - lbn.value;
      if (extent.where == Where::slot && extent.place == first_slot + offset)
        mine.push_back(extent);
    });
    for (Extent extent : mine) {
      extent.where = Where::address;
      extent.place = address.plus(extent.lbn.value - lbn.value).raw();
      layer.put(extent);
      named.put(extent);
    }
  };
  switch_layer(overlay_);
  for (const auto& layer : frozen_) switch_layer(layer->runs);
  std::vector<Extent> garbage;
  const auto ignore_named = [](const Extent& /*extent*/) {};
  walk_layer(named, lbn, blocks, ignore_named, [&](Lbn from, std::uint64_t count) {
    const std::uint64_t place = address.plus(from.value - lbn.value).raw();
    garbage.push_back({from, count, Where::address, place});
  });
  return garbage;
}

void Mapping::reset(Address top) {
  overlay_ = RunMap();
  frozen_.clear();
  top_ = top;
}

}  // namespace vmstore::disk
