// SPDX-License-Identifier: Apache-2.0
// The identity of a data folder, and what a start does with it and the catalogue.
#include "storaged/identity.h"

#include <gtest/gtest.h>

#include "meta/records.h"
#include "meta/schema.h"
#include "storaged/startup.h"
#include "tests/support/crash_points.h"
#include "tests/unit/storaged_service/service_fixture.h"
#include "tests/unit/wire/golden.h"

namespace vmstore::storaged::test {
namespace {

Identity golden_identity() {
  Identity identity;
  identity.store = {0x0102030405060708, 0x090a0b0c0d0e0f10};
  identity.node = {0x1112131415161718, 0x191a1b1c1d1e1f20};
  identity.incarnation = {0x2122232425262728, 0x292a2b2c2d2e2f30};
  identity.start_count = 7;
  return identity;
}

TEST(Identity, GoldenFileIsReadAndWritten) {
  const auto bytes = wire::test::golden("store-v1.hex");
  EXPECT_EQ(encode_identity(golden_identity()), bytes);
  const auto decoded = decode_identity(bytes);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(*decoded, golden_identity());
}

TEST(Identity, EveryTruncationAndFlipIsRefused) {
  const auto bytes = encode_identity(golden_identity());
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(decode_identity(ByteSpan(bytes).first(size))) << size;
  }
  for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    auto flipped = bytes;
    flipped[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
    EXPECT_FALSE(decode_identity(flipped)) << bit;
  }
}

TEST(Identity, NewerFormatAndForeignFilesAreToldApart) {
  auto bytes = encode_identity(golden_identity());
  bytes[8] = std::byte{2};
  EXPECT_EQ(decode_identity(bytes).error(), Errc::newer_format);
  bytes.resize(12);  // whatever a newer version has behind its number
  EXPECT_EQ(decode_identity(bytes).error(), Errc::newer_format);
  EXPECT_EQ(decode_identity(as_byte_span("#!/bin/sh")).error(), Errc::foreign_store);
  EXPECT_EQ(decode_identity({}).error(), Errc::foreign_store);
}

class DataFolderTest : public ::testing::Test {
 protected:
  Result<std::unique_ptr<DataFolder>> open(DataFolder::Missing missing) {
    return DataFolder::open(files_, missing, random_);
  }
  void put(const std::string& path, std::string_view content) {
    ASSERT_TRUE(replace_file(files_, path, as_byte_span(content)));
  }
  sim::MemoryFiles files_;
  Random random_{1};
};

TEST_F(DataFolderTest, NewFolderGetsAnIdentityThatStays) {
  Identity made;
  {
    const auto folder = open(DataFolder::Missing::create);
    ASSERT_TRUE(folder);
    EXPECT_TRUE((*folder)->is_new());
    made = (*folder)->identity();
    EXPECT_FALSE(made.store.is_none());
  }
  const auto again = open(DataFolder::Missing::refuse);
  ASSERT_TRUE(again);
  EXPECT_EQ((*again)->identity(), made);
}

TEST_F(DataFolderTest, EmptyFolderIsRefusedUnlessAStoreIsToBeMade) {
  EXPECT_EQ(open(DataFolder::Missing::refuse).error(), Errc::not_found);
  EXPECT_TRUE(files_.list("")->empty());
}

TEST_F(DataFolderTest, ForeignFolderIsRefusedAndLeftAlone) {
  put("precious.txt", "text");
  const std::uint64_t changes = files_.changes();
  EXPECT_EQ(open(DataFolder::Missing::create).error(), Errc::foreign_store);
  EXPECT_EQ(files_.changes(), changes);
}

TEST_F(DataFolderTest, SecondProcessIsRefused) {
  const auto first = open(DataFolder::Missing::create);
  ASSERT_TRUE(first);
  EXPECT_EQ(open(DataFolder::Missing::create).error(), Errc::busy);
}

TEST_F(DataFolderTest, NewerAndDamagedIdentitiesAreRefusedAndLeftAlone) {
  ASSERT_TRUE(open(DataFolder::Missing::create));
  auto bytes = encode_identity(golden_identity());
  bytes[8] = std::byte{2};
  put("store", as_text(bytes));
  EXPECT_EQ(open(DataFolder::Missing::create).error(), Errc::newer_format);
  bytes = encode_identity(golden_identity());
  bytes[40] ^= std::byte{1};
  put("store", as_text(bytes));
  EXPECT_EQ(open(DataFolder::Missing::create).error(), Errc::corrupt);
  EXPECT_EQ(*read_file(files_, "store", 4096), bytes);
}

TEST_F(DataFolderTest, PowerCutWhileSavingLeavesTheOldOrTheNewIdentity) {
  for (std::uint64_t nth = 1; nth < 12; ++nth) {
    sim::MemoryFiles files(sim::MemoryFiles::kUnlimited, nth);
    Identity before;
    Identity after;
    {
      const auto folder = DataFolder::open(files, DataFolder::Missing::create, random_);
      ASSERT_TRUE(folder);
      before = (*folder)->identity();
      after = before;
      after.start_count = 5;
      files.freeze_at_change(nth, [] {});
      ignore((*folder)->save(after), "it died");
    }
    files.crash(random_);
    const auto again = DataFolder::open(files, DataFolder::Missing::refuse, random_);
    ASSERT_TRUE(again) << to_string(again.error());
    EXPECT_TRUE((*again)->identity() == before || (*again)->identity() == after) << nth;
  }
}

TEST_F(DataFolderTest, ANodeThatIsToJoinIsRefusedBeforeItHasAnIdentity) {
  const StoreId store{5, 6};
  const auto refuse = [] { return Result<void>(Errc::no_space); };
  const auto refused =
      DataFolder::open(files_, DataFolder::Missing::create, random_, store, refuse);
  EXPECT_EQ(refused.error(), Errc::no_space);
  EXPECT_EQ(read_file(files_, kIdentityFile, 4096).error(), Errc::not_found);
  // What a start leaves that was cut short there.
  put("catalogue.place", "vmstore catalogue place 1\netcd\n");
  const auto joined = DataFolder::open(files_, DataFolder::Missing::create, random_, store);
  ASSERT_TRUE(joined);
  EXPECT_EQ((*joined)->identity().store, store);
}

// ---- starts (DESIGN 2 "node", H4, R12) ----

class StartTest : public ::testing::Test {
 protected:
  meta::pb::NodeRecord node_record() {
    const auto value = machine_.get_meta(std::string(meta::kNodePrefix) + identity_.node.hex());
    EXPECT_TRUE(value);
    return value ? *meta::decode<meta::pb::NodeRecord>(*value) : meta::pb::NodeRecord();
  }
  void put_node_record(const meta::pb::NodeRecord& record) {
    machine_.put_meta(std::string(meta::kNodePrefix) + identity_.node.hex(), meta::encode(record));
  }
  void start() {
    machine_.start_well();
    identity_ = machine_.node().identity();
  }
  void put_identity(const Identity& identity) {
    ASSERT_TRUE(replace_file(machine_.files, kIdentityFile, encode_identity(identity)));
  }
  Machine machine_;
  Identity identity_;
};

TEST_F(StartTest, EveryStartIsCountedInFolderAndCatalogue) {
  for (std::uint64_t n = 1; n <= 3; ++n) {
    start();
    EXPECT_EQ(identity_.start_count, n);
    EXPECT_EQ(node_record().start_count(), n);
    machine_.stop();
  }
}

TEST_F(StartTest, NewStoreHasACatalogueWithItsIdAndACounter) {
  start();
  const auto store = machine_.get_meta(std::string(meta::kStoreKey));
  ASSERT_TRUE(store);
  EXPECT_EQ(meta::from_pb<StoreId>(meta::decode<meta::pb::StoreRecord>(*store)->id()),
            identity_.store);
  const auto counter = machine_.get_meta(std::string(meta::kKeyCounterKey));
  ASSERT_TRUE(counter);
  EXPECT_EQ(meta::decode<meta::pb::KeyCounter>(*counter)->next(), KeyId::kFirst);
}

TEST_F(StartTest, H4_rolled_back_folder_gets_a_new_incarnation) {
  start();
  const Identity yesterday = identity_;
  machine_.stop();
  start();
  EXPECT_EQ(identity_.incarnation, yesterday.incarnation);
  machine_.stop();
  put_identity(yesterday);
  start();
  EXPECT_NE(identity_.incarnation, yesterday.incarnation);
  EXPECT_EQ(identity_.node, yesterday.node);
  EXPECT_EQ(identity_.start_count, 3U);
  EXPECT_EQ(meta::from_pb<Incarnation>(node_record().incarnation()), identity_.incarnation);
  machine_.stop();
  const Incarnation made = identity_.incarnation;
  start();
  EXPECT_EQ(identity_.incarnation, made);
}

TEST_F(StartTest, H4_rolled_back_catalogue_is_refused) {
  start();
  const meta::pb::NodeRecord yesterday = node_record();
  machine_.stop();
  start();
  machine_.stop();
  start();
  machine_.stop();
  put_node_record(yesterday);
  EXPECT_EQ(machine_.start().error(), Errc::corrupt);
  EXPECT_EQ(node_record().start_count(), 1U);  // nothing was changed
}

TEST_F(StartTest, R12_crash_between_the_two_counts_is_no_rollback) {
  start();
  machine_.stop();
  // The folder's count was raised and the node died, several times over.
  for (int crashes = 0; crashes < 3; ++crashes) {
    machine_.dies_at = "node.start.counted";
    EXPECT_FALSE(machine_.start());
    EXPECT_EQ(node_record().start_count(), 1U);
  }
  start();
  EXPECT_EQ(identity_.start_count, 2U);
  EXPECT_EQ(node_record().start_count(), 2U);
}

class PlaceTest : public StartTest {
 protected:
  /// Another node of the store, as its record says.
  void put_other(const std::string& address, const std::string& certificate) {
    meta::pb::NodeRecord other = node_record();
    const NodeId id{77, 78};
    *other.mutable_id() = meta::to_pb(id);
    other.set_address(address);
    other.set_certificate(certificate);
    machine_.put_meta(std::string(meta::kNodePrefix) + id.hex(), meta::encode(other));
  }
  Errc check(Identity identity, const std::string& certificate) {
    NodePlace place;
    place.address = "10.0.0.1:7000";
    place.certificate = certificate;
    const auto checked = machine_.run(check_place_among(machine_.node_meta(), identity, place));
    return checked ? Errc::ok : checked.error().code;
  }
};

TEST_F(PlaceTest, TwoNodesNeverShowCertificatesOfOneName) {
  start();
  put_other("10.0.0.2:7000", "node2");
  EXPECT_EQ(check(identity_, "node1"), Errc::ok);
  EXPECT_EQ(check(identity_, "node2"), Errc::exists);
  put_other("10.0.0.2:7000", "");
  EXPECT_EQ(check(identity_, ""), Errc::ok);
}

TEST_F(PlaceTest, NobodyJoinsANodeThatCannotBeReached) {
  start();
  put_other("", "");
  EXPECT_EQ(check(identity_, "node1"), Errc::ok);  // it was there before
  identity_.start_count = 0;
  EXPECT_EQ(check(identity_, "node1"), Errc::conflict);
  put_other("10.0.0.2:7000", "node2");
  EXPECT_EQ(check(identity_, "node1"), Errc::ok);
}

TEST_F(StartTest, CatalogueWithoutACountTakesTheFolders) {
  start();
  machine_.stop();
  start();
  machine_.stop();
  machine_.remove_meta(std::string(meta::kNodePrefix) + identity_.node.hex());
  const Incarnation before = identity_.incarnation;
  start();
  EXPECT_EQ(identity_.start_count, 3U);
  EXPECT_EQ(identity_.incarnation, before);
}

TEST_F(StartTest, EmptyCatalogueUnderAnOldFolderIsRefused) {
  start();
  machine_.stop();
  machine_.catalogue = std::make_shared<meta::MemCatalogue>();
  EXPECT_EQ(machine_.start().error(), Errc::corrupt);
  EXPECT_EQ(machine_.catalogue->revision(), meta::MemCatalogue().revision());
}

TEST_F(StartTest, CatalogueOfAnotherStoreIsRefused) {
  start();
  machine_.stop();
  Identity other = identity_;
  other.store = {9, 9};
  put_identity(other);
  EXPECT_EQ(machine_.start().error(), Errc::foreign_store);
}

TEST_F(StartTest, LostAnswersOfTheCatalogueAreLookedAtAgain) {
  for (const meta::MemFault fault : {meta::MemFault::lost_answer, meta::MemFault::lost_request}) {
    for (std::size_t nth = 0; nth < 8; ++nth) {
      Machine machine;
      machine.node_meta_faults.assign(nth, meta::MemFault::none);
      machine.node_meta_faults.push_back(fault);
      const auto first = machine.start();
      if (!first) {
        machine.node_meta_faults.clear();
        const auto second = machine.start();
        ASSERT_TRUE(second) << nth << ": " << to_string(second.error());
      }
      EXPECT_EQ(machine.node().identity().start_count, 1U) << nth;
    }
  }
}

}  // namespace
}  // namespace vmstore::storaged::test
