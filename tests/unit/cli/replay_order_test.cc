// SPDX-License-Identifier: Apache-2.0
#include "cli/replay_order.h"

#include <gtest/gtest.h>

#include "base/random.h"

namespace vmstore::cli {
namespace {

using std::chrono::microseconds;
using Times = std::vector<std::pair<int, int>>;  // begin and end of each request

BootTrace trace_of(const Times& times) {
  BootTrace trace;
  for (const auto& [begin, end] : times) {
    TraceRequest request;
    request.op = TraceOp::flush;
    request.begin = microseconds(begin);
    request.end = microseconds(end);
    trace.requests.push_back(request);
  }
  return trace;
}

/// Sends all that may be sent; their indices.
std::vector<std::size_t> send_all(ReplayOrder& order) {
  std::vector<std::size_t> sent;
  while (const auto due = order.next()) {
    sent.push_back(due->index);
    order.sent();
  }
  return sent;
}

TEST(ReplayOrder, OnlyWhatWasUnderWayTogetherIsSentTogether) {
  const BootTrace trace = trace_of({{0, 10}, {5, 8}, {9, 20}, {10, 12}});
  const ReplayPlan plan(trace);
  ReplayOrder order(plan, false);
  EXPECT_EQ(send_all(order), (std::vector<std::size_t>{0, 1}));
  order.answered(0, microseconds(1));
  EXPECT_EQ(send_all(order), std::vector<std::size_t>{}) << "the third began after the second";
  order.answered(1, microseconds(2));
  EXPECT_EQ(send_all(order), (std::vector<std::size_t>{2, 3}));
  EXPECT_FALSE(order.is_over());
  order.answered(3, microseconds(3));
  order.answered(2, microseconds(4));
  EXPECT_TRUE(order.is_over());
}

TEST(ReplayOrder, RequestsThatTookNoTimeDoNotWaitForEachOther) {
  const BootTrace trace = trace_of({{0, 0}, {0, 0}, {0, 5}, {0, 0}});
  const ReplayPlan plan(trace);
  ReplayOrder order(plan, false);
  std::size_t answered = 0;
  while (!order.is_over()) {
    const auto sent = send_all(order);
    ASSERT_FALSE(sent.empty()) << "stuck after " << answered;
    for (const std::size_t index : sent) order.answered(index, microseconds(1));
    answered += sent.size();
  }
  EXPECT_EQ(answered, 4U);
}

TEST(ReplayOrder, PacedRequestsKeepTheirTimeWhileAnswersAreFaster) {
  const BootTrace trace = trace_of({{0, 10}, {100, 150}, {200, 210}});
  const ReplayPlan plan(trace);
  ReplayOrder order(plan, true);
  order.sent();
  order.answered(0, microseconds(3));
  EXPECT_EQ(order.next()->not_before, microseconds(100));
  order.sent();
  order.answered(1, microseconds(101));
  EXPECT_EQ(order.next()->not_before, microseconds(200));
}

TEST(ReplayOrder, PacedRequestsComeAsMuchLaterAsWhatTheyDependOn) {
  const BootTrace trace = trace_of({{0, 10}, {100, 150}, {120, 400}, {200, 210}});
  const ReplayPlan plan(trace);
  ReplayOrder order(plan, true);
  order.sent();
  order.answered(0, microseconds(40));  // 30 late
  EXPECT_EQ(order.next()->not_before, microseconds(130));
  order.sent();
  order.sent();
  order.answered(2, microseconds(900));  // late, but nothing waits for it
  order.answered(1, microseconds(250));  // 100 late
  EXPECT_EQ(order.next()->not_before, microseconds(300));
}

TEST(ReplayOrder, AnyTraceEndsAndNeverHasMoreUnderWayThanRecorded) {
  Random random(7);
  for (int round = 0; round < 300; ++round) {
    Times times;
    int begin = 0;
    const auto count = 1 + random.below(40);
    for (std::uint64_t i = 0; i < count; ++i) {
      times.emplace_back(begin, begin + static_cast<int>(random.below(6)));
      begin += static_cast<int>(random.below(4));
    }
    const BootTrace trace = trace_of(times);
    const ReplayPlan plan(trace);
    ReplayOrder order(plan, false);
    std::vector<std::size_t> under_way;
    while (!order.is_over()) {
      for (const std::size_t index : send_all(order)) under_way.push_back(index);
      ASSERT_FALSE(under_way.empty()) << "round " << round;
      const TraceRequest& newest = trace.requests[under_way.back()];
      for (const std::size_t index : under_way) {
        const bool had_ended = trace.requests[index].end <= newest.begin;
        EXPECT_FALSE(had_ended && trace.requests[index].end < newest.begin) << "round " << round;
      }
      const std::size_t pick = random.below(under_way.size());
      order.answered(under_way[pick], microseconds(1));
      under_way.erase(under_way.begin() + static_cast<std::ptrdiff_t>(pick));
    }
    EXPECT_TRUE(under_way.empty());
  }
}

}  // namespace
}  // namespace vmstore::cli
