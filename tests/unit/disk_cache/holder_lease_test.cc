// SPDX-License-Identifier: Apache-2.0
#include "disk/holder_lease.h"

#include <gtest/gtest.h>

#include <chrono>

namespace vmstore::disk {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TimePoint at(Duration since) {
  return TimePoint(Duration(seconds(100)) + since);
}

TEST(HolderLease, IsCountedFromTheQuestionAndEndsBeforeTheNodesOwn) {
  HolderLease lease;
  EXPECT_FALSE(lease.runs(at(seconds(0))));
  const auto renewal = lease.begin(at(seconds(0)));
  lease.prove(renewal);  // whenever the answer comes
  EXPECT_TRUE(lease.runs(at(seconds(0))));
  EXPECT_TRUE(lease.runs(at(seconds(4) - milliseconds(1))));
  EXPECT_FALSE(lease.runs(at(seconds(4))));
  EXPECT_LT(seconds(4), limits::kLeaseTime);
}

TEST(HolderLease, AnAnswerToAQuestionFromBeforeTheDropExtendsNothing) {
  HolderLease lease;
  lease.prove(lease.begin(at(seconds(0))));
  const auto on_its_way = lease.begin(at(seconds(1)));
  lease.drop();
  EXPECT_FALSE(lease.is_proven());
  lease.extend(on_its_way);
  EXPECT_FALSE(lease.runs(at(seconds(1))));
  lease.prove(on_its_way);
  EXPECT_FALSE(lease.is_proven());
  EXPECT_FALSE(lease.runs(at(seconds(1))));
  lease.prove(lease.begin(at(seconds(2))));
  EXPECT_TRUE(lease.is_proven());
  EXPECT_TRUE(lease.runs(at(seconds(3))));
}

}  // namespace
}  // namespace vmstore::disk
