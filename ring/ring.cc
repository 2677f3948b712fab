// SPDX-License-Identifier: Apache-2.0
#include "ring/ring.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/bytes.h"
#include "base/checksum.h"

namespace vmstore::ring {
namespace {

constexpr std::uint8_t kKeyTag = 'K';
constexpr std::uint8_t kNodeTag = 'N';

/// Fixed-size ByteWriter: a ring hashes a million points.
template <std::size_t kBytes>
class Fields {
 public:
  template <class T>
  Fields& put(T value) noexcept {
    for (std::size_t i = 0; i < sizeof(T); ++i) {
      bytes_[size_++] = static_cast<std::byte>(std::uint64_t{value} >> (8 * i) & 0xffU);
    }
    return *this;
  }
  [[nodiscard]] std::uint64_t hash() const noexcept { return xxh3(ByteSpan(bytes_)); }

 private:
  std::array<std::byte, kBytes> bytes_{};
  std::size_t size_ = 0;
};

}  // namespace

std::uint64_t key_point(KeyId key) noexcept {
  return Fields<9>().put(kKeyTag).put(key.value()).hash();
}

std::uint64_t node_point(NodeId node, std::uint32_t number) noexcept {
  return Fields<21>().put(kNodeTag).put(node.high).put(node.low).put(number).hash();
}

Ring::Ring(NodeSet nodes) : nodes_(std::move(nodes)), zone_nodes_(nodes_.zone_count()) {
  for (std::uint32_t node = 0; node < nodes_.nodes().size(); ++node) {
    const Node& one = nodes_.nodes()[node];
    if (one.weight == 0) continue;
    ++storing_nodes_;
    if (++zone_nodes_[nodes_.zones()[node]] == 1) ++storing_zones_;
    const std::uint32_t count = one.weight * kPointsPerWeight;  // see kWeightSumMax
    for (std::uint32_t number = 0; number < count; ++number) {
      points_.push_back({node_point(one.id, number), node});
    }
  }
  std::sort(points_.begin(), points_.end(), [](const Point& a, const Point& b) {
    return std::pair(a.at, a.node) < std::pair(b.at, b.node);
  });
}

/// One walk around the circle for one key. Costs what it meets, not what the ring has.
class Ring::Walk {
 public:
  Walk(const Ring& ring, const PlaceRequest& request)
      : ring_(ring),
        request_(request),
        nodes_left_(ring.storing_nodes_),
        zones_left_(ring.storing_zones_) {
    for (const NodeId id : request.skip) {
      const auto node = ring.nodes_.find(id);
      if (node) skip(static_cast<std::uint32_t>(*node));
    }
  }

  std::vector<NodeId> run() {
    take(Zones::distinct);
    if (request_.zones == Zones::fill_up) take(Zones::fill_up);
    std::vector<NodeId> ids;
    for (const std::uint32_t node : taken_) ids.push_back(ring_.nodes_.nodes()[node].id);
    return ids;
  }

 private:
  using Numbers = std::vector<std::uint32_t>;
  [[nodiscard]] static bool contains(const Numbers& numbers, std::uint32_t number) {
    return std::find(numbers.begin(), numbers.end(), number) != numbers.end();
  }
  [[nodiscard]] std::uint32_t zone_of(std::uint32_t node) const {
    return ring_.nodes_.zones()[node];
  }

  void skip(std::uint32_t node) {
    if (ring_.nodes_.nodes()[node].weight == 0 || contains(skipped_, node)) return;
    skipped_.push_back(node);
    --nodes_left_;
    const auto of_zone = std::count_if(skipped_.begin(), skipped_.end(), [&](std::uint32_t other) {
      return zone_of(other) == zone_of(node);
    });
    if (static_cast<std::uint32_t>(of_zone) == ring_.zone_nodes_[zone_of(node)]) --zones_left_;
  }

  /// Once around, or until there is nothing more to find.
  void take(Zones zones) {
    const auto& points = ring_.points_;
    const std::uint64_t at = key_point(request_.key);
    const auto from = std::lower_bound(
        points.begin(), points.end(), at, [](const Point& point, std::uint64_t wanted) {
          return point.at < wanted;
        });
    const auto start = static_cast<std::size_t>(from - points.begin());
    for (std::size_t i = 0; i < points.size(); ++i) {
      const std::uint32_t left = zones == Zones::distinct ? zones_left_ : nodes_left_;
      if (taken_.size() >= request_.copies || left == 0) return;
      const std::uint32_t node = points[(start + i) % points.size()].node;
      const bool zone_is_used = contains(zones_used_, zone_of(node));
      if (zone_is_used && zones == Zones::distinct) continue;
      if (contains(taken_, node) || contains(skipped_, node)) continue;
      taken_.push_back(node);
      --nodes_left_;
      if (zone_is_used) continue;
      zones_used_.push_back(zone_of(node));
      --zones_left_;
    }
  }

  const Ring& ring_;
  const PlaceRequest& request_;
  Numbers skipped_;
  Numbers taken_;
  Numbers zones_used_;
  std::uint32_t nodes_left_;  // neither skipped nor taken
  std::uint32_t zones_left_;  // with such a node, and not used
};

std::vector<NodeId> Ring::place(const PlaceRequest& request) const {
  return Walk(*this, request).run();
}

}  // namespace vmstore::ring
