// SPDX-License-Identifier: Apache-2.0
#include "cli/replay_order.h"

#include <algorithm>
#include <numeric>

#include "base/assert.h"

namespace vmstore::cli {
namespace {

constexpr ReplayOrder::Elapsed kNone{-1};

}  // namespace

ReplayPlan::ReplayPlan(const BootTrace& from)
    : trace(&from), by_end(from.requests.size()), rank(by_end.size()), needs(by_end.size()) {
  const std::vector<TraceRequest>& requests = from.requests;
  std::iota(by_end.begin(), by_end.end(), std::size_t{0});
  std::stable_sort(by_end.begin(), by_end.end(), [&](std::size_t a, std::size_t b) {
    return requests[a].end < requests[b].end;
  });
  for (std::size_t i = 0; i < by_end.size(); ++i) rank[by_end[i]] = i;
  std::size_t needed = 0;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    // What ended at this very moment but stands below it in the trace took no time, and comes
    // later in by_end, too: it needs this one, not the other way round.
    while (needed < by_end.size() && by_end[needed] < i &&
           requests[by_end[needed]].end <= requests[i].begin) {
      ++needed;
    }
    needs[i] = needed;
  }
}

ReplayOrder::ReplayOrder(const ReplayPlan& plan, bool paced)
    : plan_(plan), paced_(paced), answers_(plan.by_end.size(), kNone) {}

std::optional<ReplayOrder::Due> ReplayOrder::next() {
  const std::vector<TraceRequest>& requests = plan_.trace->requests;
  if (next_ == requests.size() || done_ < plan_.needs[next_]) return std::nullopt;
  for (; counted_ < plan_.needs[next_]; ++counted_) {
    late_ = std::max(late_, answers_[counted_] - requests[plan_.by_end[counted_]].end);
  }
  return Due{next_, paced_ ? requests[next_].begin + late_ : Elapsed(0)};
}

void ReplayOrder::sent() {
  VMS_ASSERT(next_ < plan_.needs.size());
  ++next_;
}

void ReplayOrder::answered(std::size_t index, Elapsed at) {
  VMS_ASSERT(index < next_ && answers_[plan_.rank[index]] == kNone);
  answers_[plan_.rank[index]] = at;
  while (done_ < answers_.size() && answers_[done_] != kNone) ++done_;
}

bool ReplayOrder::is_over() const noexcept {
  return done_ == answers_.size();
}

}  // namespace vmstore::cli
