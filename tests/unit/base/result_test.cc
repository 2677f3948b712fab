// SPDX-License-Identifier: Apache-2.0
#include "base/result.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <type_traits>

namespace vmstore {
namespace {

Result<int> half(int number) {
  if (number % 2 != 0) return Errc::invalid_argument;
  return number / 2;
}

Result<int> quarter(int number) {
  VMS_TRY(const int once, half(number));
  VMS_TRY(const int twice, half(once));
  return twice;
}

Result<void> check_quarter(int number) {
  VMS_CHECK(quarter(number));
  return success();
}

TEST(Result, TryGivesTheValueOrReturnsTheError) {
  EXPECT_EQ(*quarter(8), 2);
  EXPECT_EQ(quarter(6).error(), Errc::invalid_argument);
  EXPECT_EQ(quarter(3).error(), Errc::invalid_argument);
}

TEST(Result, CheckReturnsTheError) {
  EXPECT_TRUE(check_quarter(4));
  EXPECT_EQ(check_quarter(2).error(), Errc::invalid_argument);
}

TEST(Result, TryMovesTheValueOut) {
  const auto make = []() -> Result<std::unique_ptr<int>> { return std::make_unique<int>(5); };
  const auto take = [&]() -> Result<int> {
    VMS_TRY(const std::unique_ptr<int> number, make());
    return *number;
  };
  EXPECT_EQ(*take(), 5);
}

TEST(Result, KeepsTheErrnoOnItsWayUp) {
  const auto fail = []() -> Result<int> { return Error(Errc::no_space, 28); };
  const auto pass = [&]() -> Result<std::string> {
    VMS_TRY(const int number, fail());
    return std::to_string(number);
  };
  EXPECT_EQ(pass().error().os_errno, 28);
}

TEST(Result, ReadingTheValueOfAnErrorThrowsWithItsText) {
  const Result<int> failed = Errc::sealed;
  try {
    static_cast<void>(failed.value());
    FAIL();
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "sealed: the key is sealed");
  }
}

}  // namespace
}  // namespace vmstore
