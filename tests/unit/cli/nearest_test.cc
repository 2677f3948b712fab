// SPDX-License-Identifier: Apache-2.0
#include "cli/nearest.h"

#include <gtest/gtest.h>

namespace vmstore::cli {
namespace {

TEST(EditDistance, CountsInsertionsDeletionsReplacementsAndSwaps) {
  EXPECT_EQ(edit_distance("", ""), 0U);
  EXPECT_EQ(edit_distance("", "abc"), 3U);
  EXPECT_EQ(edit_distance("web", "web"), 0U);
  EXPECT_EQ(edit_distance("web", "wed"), 1U);
  EXPECT_EQ(edit_distance("web", "wb"), 1U);
  EXPECT_EQ(edit_distance("snapshot", "snpashot"), 1U);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3U);
}

TEST(Nearest, FindsTheClosestKnownWord) {
  EXPECT_EQ(nearest("web-nope", {"db-1", "web-0001", "mail"}), "web-0001");
  EXPECT_EQ(nearest("snpashot", {"snap", "snapshot", "trash"}), "snapshot");
  EXPECT_EQ(nearest("creat", {"clone", "create"}), "create");
}

TEST(Nearest, SaysNothingWhenNothingIsClose) {
  EXPECT_EQ(nearest("zzz", {"create", "ls"}), std::nullopt);
  EXPECT_EQ(nearest("x", {}), std::nullopt);
}

TEST(Nearest, AWordThatGoesOnIsClose) {
  EXPECT_EQ(nearest("de", {"web", "debian-12-generic"}), "debian-12-generic");
}

}  // namespace
}  // namespace vmstore::cli
