// SPDX-License-Identifier: Apache-2.0
#include "storaged/leases.h"

#include <gtest/gtest.h>

namespace vmstore::storaged {
namespace {

constexpr DiskId kDisk{1, 1};
constexpr SessionId kOne(1);
constexpr SessionId kTwo(2);
constexpr Duration kTerm = std::chrono::seconds(5);

TimePoint at(int seconds) {
  return TimePoint(std::chrono::seconds(seconds));
}

class LeasesTest : public ::testing::Test {
 protected:
  Leases leases_{at(0), kTerm};
};

TEST_F(LeasesTest, HoldEndsAfterItsTerm) {
  ASSERT_TRUE(leases_.hold(kDisk, Epoch(1), kOne, at(10)));
  EXPECT_TRUE(leases_.holder(kDisk, at(14)));
  EXPECT_FALSE(leases_.holder(kDisk, at(15)));
  leases_.renew(kOne, at(14));
  EXPECT_TRUE(leases_.holder(kDisk, at(18)));
}

TEST_F(LeasesTest, RenewalNeverShortensALease) {
  ASSERT_TRUE(leases_.hold(kDisk, Epoch(1), kOne, at(10)));
  leases_.renew(kOne, at(3));
  EXPECT_TRUE(leases_.holder(kDisk, at(14)));
}

TEST_F(LeasesTest, EpochsOnlyRise) {
  ASSERT_TRUE(leases_.hold(kDisk, Epoch(2), kOne, at(0)));
  EXPECT_EQ(leases_.hold(kDisk, Epoch(1), kTwo, at(0)).error(), Errc::stale_token);
  ASSERT_TRUE(leases_.hold(kDisk, Epoch(3), kTwo, at(0)));
  EXPECT_EQ(leases_.holder(kDisk, at(1))->session, kTwo);
  EXPECT_EQ(leases_.count(kOne), 0U);
}

TEST_F(LeasesTest, SameEpochFromANewSessionIsTheSameOwner) {
  ASSERT_TRUE(leases_.hold(kDisk, Epoch(1), kOne, at(0)));
  ASSERT_TRUE(leases_.hold(kDisk, Epoch(1), kTwo, at(1)));
  leases_.end_session(kOne, true);  // its old connection is noticed only now
  EXPECT_TRUE(leases_.holder(kDisk, at(2)));
}

TEST_F(LeasesTest, EndedSessionIsForgottenAtOnceOrAfterItsTerm) {
  ASSERT_TRUE(leases_.hold(kDisk, Epoch(1), kOne, at(0)));
  leases_.end_session(kOne, false);
  EXPECT_TRUE(leases_.holder(kDisk, at(4)));
  leases_.expire(at(4));
  EXPECT_EQ(leases_.count(), 1U);
  leases_.expire(at(5));
  EXPECT_EQ(leases_.count(), 0U);
  ASSERT_TRUE(leases_.hold(kDisk, Epoch(1), kTwo, at(6)));
  leases_.end_session(kTwo, true);
  EXPECT_EQ(leases_.count(), 0U);
}

TEST_F(LeasesTest, ConnectedLeaseThatRanOutIsKeptForItsReturn) {
  ASSERT_TRUE(leases_.hold(kDisk, Epoch(1), kOne, at(0)));
  leases_.expire(at(60));
  EXPECT_FALSE(leases_.holder(kDisk, at(60)));
  leases_.renew(kOne, at(61));
  EXPECT_TRUE(leases_.holder(kDisk, at(61)));
}

TEST_F(LeasesTest, LostTellsWhatTheSessionDoesNotHold) {
  constexpr DiskId kOther{2, 2};
  ASSERT_TRUE(leases_.hold(kDisk, Epoch(1), kOne, at(0)));
  const std::vector<DiskId> lost = leases_.lost(kOne, {kDisk, kOther});
  ASSERT_EQ(lost.size(), 1U);
  EXPECT_EQ(lost.front(), kOther);
}

TEST_F(LeasesTest, GraceIsOneTermFromTheStart) {
  EXPECT_EQ(leases_.grace_left(at(1)), std::chrono::seconds(4));
  EXPECT_EQ(leases_.grace_left(at(5)), Duration(0));
}

}  // namespace
}  // namespace vmstore::storaged
