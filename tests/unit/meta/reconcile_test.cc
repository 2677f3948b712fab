// SPDX-License-Identifier: Apache-2.0
#include "meta/reconcile.h"

#include <gtest/gtest.h>

#include "meta/rebuild.h"
#include "meta/records.h"
#include "meta/schema.h"
#include "tests/support/code_of.h"

namespace vmstore::meta {
namespace {

std::string store_value(std::uint64_t store, std::uint64_t catalogue) {
  pb::StoreRecord record;
  *record.mutable_id() = to_pb(StoreId{store, 1});
  record.set_format(kStoreFormat);
  record.set_catalogue(catalogue);
  return encode(record);
}

Image image_of(std::uint64_t revision, const std::vector<Entry>& entries) {
  Image image;
  image.revision = revision;
  image.entries["/store"] = {"/store", store_value(1, 0), 2};
  for (const Entry& entry : entries) image.entries[entry.key] = entry;
  return image;
}

std::string text(const Changes& changes) {
  std::string out;
  for (const Event& change : changes) {
    out += change.entry.key + (change.removed ? "-" : "=" + change.entry.value) + "@" +
           std::to_string(change.entry.mod_revision) + " ";
  }
  return out;
}

TEST(Reconcile, EqualOnesNeedNothing) {
  const Image image = image_of(5, {{"/a", "1", 5}});
  const auto both = reconcile(image, image);
  ASSERT_TRUE(both.has_value());
  EXPECT_TRUE(both->for_log.empty());
  EXPECT_TRUE(both->for_store.empty());
  EXPECT_EQ(both->revision, 5U);
}

TEST(Reconcile, LogIsToldWhatItMissed) {
  const Image log = image_of(5, {{"/a", "1", 4}, {"/b", "1", 5}});
  const Image store = image_of(8, {{"/a", "2", 7}, {"/c", "1", 6}});
  const auto both = reconcile(log, store);
  ASSERT_TRUE(both.has_value());
  EXPECT_EQ(text(both->for_log), "/c=1@6 /a=2@7 /b-@8 ");
  EXPECT_TRUE(both->for_store.empty());
  EXPECT_EQ(both->revision, 8U);
}

TEST(Reconcile, StoreIsGivenBackWhatItLost) {
  const Image log = image_of(8, {{"/a", "2", 7}, {"/c", "1", 6}});
  const Image store = image_of(5, {{"/a", "1", 4}, {"/b", "1", 5}});
  const auto both = reconcile(log, store);
  ASSERT_TRUE(both.has_value());
  EXPECT_EQ(text(both->for_store), "/c=1@6 /a=2@7 /b-@8 ");
  EXPECT_TRUE(both->for_log.empty());
}

TEST(Reconcile, ContradictionIsUnknown) {
  const Image log = image_of(5, {{"/a", "1", 4}});
  EXPECT_EQ(code_of(reconcile(log, image_of(5, {{"/a", "2", 4}}))), Errc::unknown);
  EXPECT_EQ(code_of(reconcile(log, image_of(5, {{"/a", "1", 3}}))), Errc::unknown);
  EXPECT_EQ(code_of(reconcile(log, image_of(5, {}))), Errc::unknown);
  EXPECT_EQ(code_of(reconcile(log, image_of(5, {{"/a", "1", 4}, {"/b", "1", 3}}))), Errc::unknown);
  EXPECT_EQ(code_of(reconcile(log, image_of(7, {{"/a", "2", 4}}))), Errc::unknown);
  EXPECT_EQ(code_of(reconcile(log, image_of(4, {}))), Errc::unknown);
}

TEST(Reconcile, AnotherStoreOrCatalogueIsForeign) {
  const Image log = image_of(5, {});
  Image other = image_of(9, {});
  other.entries["/store"] = {"/store", store_value(2, 0), 2};
  EXPECT_EQ(code_of(reconcile(log, other)), Errc::foreign_store);
  other.entries["/store"] = {"/store", store_value(1, std::uint64_t{1} << 32), 9};
  EXPECT_EQ(code_of(reconcile(log, other)), Errc::foreign_store);
  other.entries.erase("/store");
  EXPECT_EQ(code_of(reconcile(log, other)), Errc::foreign_store);
}

TEST(Rebuild, TakesTheLogWithTheHighestRevisionRemovalsIncluded) {
  const std::vector<LogSource> sources = {
      {"behind", image_of(6, {{"/a", "1", 3}, {"/gone", "1", 6}})},
      {"newest", image_of(9, {{"/a", "2", 8}})},
      {"old", image_of(4, {{"/a", "1", 3}})},
  };
  const auto rebuilt = plan_rebuild(sources, 5);
  ASSERT_TRUE(rebuilt.has_value());
  EXPECT_EQ(rebuilt->node, "newest");
  EXPECT_EQ(rebuilt->image.entries.size(), 2U);
  EXPECT_EQ(rebuilt->image.entries.at("/a").mod_revision, 8U);
  EXPECT_EQ(rebuilt->image.revision, std::uint64_t{1} << 32);
  EXPECT_EQ(rebuilt->image.entries.at("/store").mod_revision, rebuilt->image.revision);
}

TEST(Rebuild, SecondRebuildIsAboveTheFirst) {
  const std::vector<LogSource> first = {{"n", image_of(9, {})}};
  const auto once = plan_rebuild(first, 1);
  const std::vector<LogSource> second = {{"stayed", image_of(11, {})}, {"told", once->image}};
  const auto twice = plan_rebuild(second, 2);
  ASSERT_TRUE(twice.has_value());
  EXPECT_EQ(twice->node, "told");
  EXPECT_EQ(twice->catalogue, (std::uint64_t{2} << 32) | 2);
  EXPECT_EQ(twice->image.revision, std::uint64_t{2} << 32);
}

TEST(Rebuild, LogsThatDoNotBelongTogetherAreRefused) {
  EXPECT_EQ(code_of(plan_rebuild({}, 1)), Errc::not_found);
  Image nameless = image_of(5, {});
  nameless.entries.clear();
  EXPECT_EQ(code_of(plan_rebuild(std::vector<LogSource>{{"n", nameless}}, 1)), Errc::corrupt);
  Image other = image_of(5, {});
  other.entries["/store"].value = store_value(2, 0);
  EXPECT_EQ(code_of(plan_rebuild(std::vector<LogSource>{{"a", image_of(5, {})}, {"b", other}}, 1)),
            Errc::foreign_store);
  const auto one = plan_rebuild(std::vector<LogSource>{{"a", image_of(5, {})}}, 1);
  const auto two = plan_rebuild(std::vector<LogSource>{{"a", image_of(5, {})}}, 2);
  EXPECT_EQ(code_of(plan_rebuild(std::vector<LogSource>{{"a", one->image}, {"b", two->image}}, 3)),
            Errc::foreign_store);
  const std::vector<LogSource> contradicting = {{"a", image_of(5, {{"/a", "1", 4}})},
                                                {"b", image_of(6, {{"/a", "2", 4}})}};
  EXPECT_EQ(code_of(plan_rebuild(contradicting, 1)), Errc::unknown);
}

}  // namespace
}  // namespace vmstore::meta
