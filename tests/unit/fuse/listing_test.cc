// SPDX-License-Identifier: Apache-2.0
#include "fuse/listing.h"

#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <string>

#include "tests/support/fake_disks.h"

namespace vmstore::fuse {
namespace {

class ListingTest : public testing::Test {
 protected:
  ListingTest() {
    store_->add("web", 1 << 20);
    store_->add("lab/web", 2 << 20);
    client_ = test::FakeStore::client(store_);
    EXPECT_TRUE(client_->snapshot("web", "v1"));
    EXPECT_TRUE(client_->snapshot("lab/web", "v2"));
    listing_ = std::make_unique<Listing>(*client_);
  }
  std::set<std::string> names_in(const Place& folder) {
    std::set<std::string> names;
    const auto found = listing_->list(folder);
    EXPECT_TRUE(found);
    for (const FileInfo& info : *found) {
      EXPECT_TRUE(names.insert(entry_name(info.place)).second) << entry_name(info.place);
    }
    return names;
  }

  std::shared_ptr<test::FakeStore> store_ = std::make_shared<test::FakeStore>();
  std::unique_ptr<disk::Client> client_;
  std::unique_ptr<Listing> listing_;
  const Place root_{Kind::root, {}};
};

TEST_F(ListingTest, ShowsDisksGroupsAndSnapshots) {
  using Names = std::set<std::string>;
  EXPECT_EQ(names_in(root_), (Names{"web.raw", "lab", ".snap"}));
  EXPECT_EQ(names_in({Kind::group, "lab"}), (Names{"web.raw"}));
  EXPECT_EQ(names_in({Kind::snap_root, {}}), (Names{"web@v1.raw", "lab"}));
  EXPECT_EQ(names_in({Kind::snap_group, "lab"}), (Names{"web@v2.raw"}));
}

TEST_F(ListingTest, WhatIsListedIsFound) {
  for (const Place& folder : {root_,
                              Place{Kind::group, "lab"},
                              Place{Kind::snap_root, {}},
                              Place{Kind::snap_group, "lab"}}) {
    const auto listed = listing_->list(folder);
    ASSERT_TRUE(listed);
    for (const FileInfo& info : *listed) {
      const auto found = listing_->find_in(folder, entry_name(info.place));
      ASSERT_TRUE(found) << entry_name(info.place);
      EXPECT_EQ(found->place, info.place);
      EXPECT_EQ(found->identity, info.identity);
      EXPECT_EQ(found->size_bytes, info.size_bytes);
    }
  }
}

TEST_F(ListingTest, NewDiskAndGroupAreFoundAtOnce) {
  EXPECT_EQ(names_in(root_).size(), 3U);  // now it is kept for a second
  store_->add("fresh", 4096);
  store_->add("team/db", 4096);
  EXPECT_TRUE(listing_->find_in(root_, "fresh.raw"));
  EXPECT_TRUE(listing_->find_in(root_, "team"));
}

TEST_F(ListingTest, ManyEntriesOfAFolderCostOneQuestion) {
  static_cast<void>(names_in(root_));
  static_cast<void>(names_in({Kind::group, "lab"}));
  EXPECT_TRUE(listing_->find_in(root_, "lab"));
  EXPECT_EQ(store_->listed, 1);
}

TEST_F(ListingTest, MissingIsNotFound) {
  EXPECT_EQ(listing_->find_in(root_, "db.raw").error(), Errc::not_found);
  EXPECT_EQ(listing_->find_in(root_, "db").error(), Errc::not_found);
  EXPECT_EQ(listing_->find_in({Kind::snap_root, {}}, "web@v9.raw").error(), Errc::not_found);
  EXPECT_EQ(listing_->find_in({Kind::snap_root, {}}, "db@v1.raw").error(), Errc::not_found);
}

TEST_F(ListingTest, DiskMadeAgainIsAnotherFile) {
  const auto before = listing_->find_in(root_, "web.raw").value();
  ASSERT_TRUE(client_->remove("web", true, false));
  store_->add("web", 1 << 20);
  EXPECT_NE(listing_->find_in(root_, "web.raw").value().identity, before.identity);
}

TEST_F(ListingTest, SnapshotTakenAgainIsAnotherFile) {
  const Place snapshots{Kind::snap_root, {}};
  const auto before = listing_->find_in(snapshots, "web@v1.raw").value();
  ASSERT_TRUE(client_->snapshot("web", "v1"));
  EXPECT_NE(listing_->find_in(snapshots, "web@v1.raw").value().identity, before.identity);
}

TEST_F(ListingTest, FileGoesBeforeAGroupOfItsName) {
  store_->add("web.raw/x", 4096);
  EXPECT_EQ(listing_->find_in(root_, "web.raw").value().place.kind, Kind::disk);
  EXPECT_EQ(names_in(root_).count("web.raw"), 1U);
}

/// A client whose node does not answer.
class SilentClient final : public disk::Client {
 public:
  Result<std::vector<disk::DiskSummary>> list() override { return Errc::timed_out; }
  Result<disk::DiskSummary> details(const std::string&) override { return Errc::timed_out; }
  Result<std::optional<std::uint64_t>> mapped_bytes(const std::string&) override {
    return Errc::timed_out;
  }
  Result<std::vector<disk::SnapshotSummary>> snapshots(const std::string&) override {
    return Errc::timed_out;
  }
  Result<std::unique_ptr<disk::BlockingDisk>> open(const disk::DiskOpenOptions&) override {
    return Errc::timed_out;
  }
  Result<disk::DiskSummary> create(const std::string&, std::uint64_t, std::uint32_t) override {
    return Errc::timed_out;
  }
  Result<disk::SnapshotTiming> snapshot(const std::string&, const std::string&) override {
    return Errc::timed_out;
  }
  Result<void> remove_snapshot(const std::string&, const std::string&) override {
    return Errc::timed_out;
  }
  Result<void> rollback(const std::string&, const std::string&, bool) override {
    return Errc::timed_out;
  }
  Result<void> clone(const std::string&, const std::vector<std::string>&) override {
    return Errc::timed_out;
  }
  Result<void> resize(const std::string&, std::uint64_t, bool, bool) override {
    return Errc::timed_out;
  }
  Result<void> rename(const std::string&, const std::string&) override { return Errc::timed_out; }
  Result<void> remove(const std::string&, bool, bool) override { return Errc::timed_out; }
  Result<std::vector<disk::TrashSummary>> trash() override { return Errc::timed_out; }
  Result<void> restore(const std::string&, const std::string&) override { return Errc::timed_out; }
  Result<void> purge(const std::string&) override { return Errc::timed_out; }
  Result<disk::VerifyReport> verify(const std::string&, const disk::VerifyControl&) override {
    return Errc::timed_out;
  }
  Result<void> break_owner(const std::string&) override { return Errc::timed_out; }
  Result<std::uint64_t> discard_batch_file(const std::string&) override { return Errc::timed_out; }
};

TEST(ListingOfASilentNode, IsAnErrorNotAnEmptyFolder) {
  SilentClient client;
  Listing listing(client);
  const Place root{Kind::root, {}};
  EXPECT_EQ(listing.list(root).error(), Errc::timed_out);
  EXPECT_EQ(listing.find_in(root, "web.raw").error(), Errc::timed_out);
  EXPECT_EQ(listing.find_in(root, "lab").error(), Errc::timed_out);
  EXPECT_EQ(listing.find_in({Kind::snap_root, {}}, "web@v1.raw").error(), Errc::timed_out);
}

}  // namespace
}  // namespace vmstore::fuse
