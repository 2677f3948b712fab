// SPDX-License-Identifier: Apache-2.0
#include "net/etcd_catalogue.h"

#include <gtest/gtest.h>

#include "base/limits.h"
#include "tests/support/code_of.h"

namespace vmstore::net::etcd {
namespace {

constexpr std::uint64_t kHeadAt = 10;
const Numbers kNumbers(1000, kHeadAt);

TEST(EtcdHead, IsReadAsItWasWrittenAndNothingElseIs) {
  const Head head{std::uint64_t{5} << 32, 0xfeedU};
  EXPECT_EQ(decode_head(encode_head(head)).value(), head);
  EXPECT_EQ(code_of(decode_head("")), Errc::foreign_store);
  EXPECT_EQ(code_of(decode_head("hello")), Errc::foreign_store);
  EXPECT_EQ(code_of(decode_head("vmstore catalogue 2 what ever")), Errc::newer_format);
  for (const char* wrong : {"vmstore catalogue ",
                            "vmstore catalogue 1",
                            "vmstore catalogue 1 5",
                            "vmstore catalogue 1 0 7",
                            "vmstore catalogue 1 05 7",
                            "vmstore catalogue 1 5 7 ",
                            "vmstore catalogue 1 5 -7"}) {
    EXPECT_EQ(code_of(decode_head(wrong)), Errc::corrupt) << wrong;
  }
}

TEST(EtcdNumbers, GoOnFromTheBaseAndNeverWrap) {
  EXPECT_EQ(kNumbers.ours(kHeadAt).value(), 1000U);
  EXPECT_EQ(kNumbers.ours(kHeadAt + 5).value(), 1005U);
  EXPECT_EQ(kNumbers.theirs(1005), kHeadAt + 5);
  EXPECT_EQ(kNumbers.ours(kHeadAt - 9).value(), 991U) << "put before the head";
  EXPECT_EQ(code_of(kNumbers.ours(0)), Errc::unknown);
  EXPECT_EQ(code_of(kNumbers.ours(~std::uint64_t{0})), Errc::unknown);
  EXPECT_EQ(code_of(Numbers(3, 10).ours(7)), Errc::unknown);
}

TEST(EtcdNumbers, ComparesNameEtcdsRevisions) {
  const auto asked = [](std::uint64_t revision) {
    return kNumbers.compare_of(meta::Compare{"/a", revision});
  };
  const std::string key = data_key("/a");
  EXPECT_EQ(asked(0), revision_is(key, 0));
  EXPECT_EQ(asked(1000), revision_is(key, kHeadAt));
  EXPECT_EQ(asked(1005), revision_is(key, kHeadAt + 5));
  EXPECT_EQ(asked(995), revision_is(key, kHeadAt - 5));
  EXPECT_EQ(asked(990), revision_is(key, (std::uint64_t{1} << 63) - 1)) << "no key has that one";
  EXPECT_EQ(kNumbers.compare_of(meta::Compare{"/a", true}), is_there(key));
  EXPECT_EQ(kNumbers.compare_of(meta::Compare{"/a", false}), is_absent(key));
}

TEST(EtcdCatalogue, NoteOfRemovedKeysIsReadAsWritten) {
  const std::vector<std::string> keys = {"/a", std::string(limits::kMetaKeyBytesMax, '\xff'), "b"};
  EXPECT_EQ(decode_removed(encode_removed(keys)).value(), keys);
  EXPECT_TRUE(decode_removed("")->empty());
  const std::string good = encode_removed(keys);
  for (std::size_t bytes = 1; bytes < good.size(); ++bytes) {
    const auto cut = decode_removed(good.substr(0, bytes));
    if (cut) {
      EXPECT_LT(cut->size(), keys.size());
    }
  }
  EXPECT_EQ(code_of(decode_removed(std::string(2, '\0'))), Errc::bad_frame);
  EXPECT_EQ(code_of(decode_removed("\xff\xff")), Errc::bad_frame);
}

WatchReply::Change change(std::string_view key, std::uint64_t at, std::string value = "v") {
  WatchReply::Change made;
  made.kv.key = std::string(key);
  made.kv.value = std::move(value);
  made.kv.mod_revision = at;
  return made;
}

WatchReply::Change removal(std::string_view key, std::uint64_t at) {
  WatchReply::Change made = change(key, at, "");
  made.removed = true;
  return made;
}

std::string told(const std::vector<meta::Event>& events) {
  std::string text;
  for (const meta::Event& event : events) {
    text += std::to_string(event.entry.mod_revision) + event.entry.key;
    text += (event.removed ? "-" : "=") + event.entry.value + (event.last ? "; " : ", ");
  }
  return text;
}

TEST(EtcdChanges, AreToldByWholeRevisions) {
  ChangeReader reader(kNumbers, "", 11);
  WatchReply first;
  first.fragment = true;
  first.changes = {change("vmstore/data/a", 11, "1"),
                   change(kChangeKey, 11, ""),
                   change("vmstore/data/b", 13, "2")};
  EXPECT_EQ(told(reader.take(first).value()), "1001/a=1; ");
  EXPECT_EQ(reader.next(), 12U);
  WatchReply second;
  second.changes = {change("vmstore/data/c", 13, "3"), change(kChangeKey, 13, "")};
  EXPECT_EQ(told(reader.take(second).value()), "1003/b=2, 1003/c=3; ");
  EXPECT_EQ(reader.next(), 14U);
}

TEST(EtcdChanges, RemovalsAreToldOnceAndAlsoOfWhatWasNotThere) {
  ChangeReader reader(kNumbers, "/d/", 11);
  WatchReply reply;
  reply.changes = {removal("vmstore/data/d/1", 11),
                   change("vmstore/data/x", 11),
                   change(kChangeKey, 11, encode_removed({"/d/1", "/d/none", "/other"}))};
  EXPECT_EQ(told(reader.take(reply).value()), "1001/d/1-, 1001/d/none-; ");
}

TEST(EtcdChanges, WhatIsOutOfOrderOrTooLargeIsRefused) {
  ChangeReader old(kNumbers, "", 20);
  WatchReply reply;
  reply.changes = {change("vmstore/data/a", 19)};
  EXPECT_EQ(code_of(old.take(reply)), Errc::bad_frame);
  ChangeReader mixed(kNumbers, "", 20);
  reply.changes = {change("vmstore/data/a", 22), change("vmstore/data/b", 21)};
  EXPECT_EQ(code_of(mixed.take(reply)), Errc::bad_frame);
  ChangeReader endless(kNumbers, "", 20);
  WatchReply part;
  part.fragment = true;
  part.changes = {change("vmstore/data/a", 20, std::string(limits::kMiB, 'v'))};
  EXPECT_TRUE(endless.take(part).has_value());
  EXPECT_EQ(code_of(endless.take(part)), Errc::bad_frame);
}

TEST(EtcdChanges, ANewHeadEndsTheCatalogue) {
  ChangeReader reader(kNumbers, "", kHeadAt);
  WatchReply own;
  own.changes = {change(kHeadKey, kHeadAt)};
  EXPECT_EQ(told(reader.take(own).value()), "");
  WatchReply other;
  other.changes = {removal(kHeadKey, 12)};
  EXPECT_EQ(code_of(reader.take(other)), Errc::foreign_store);
}

}  // namespace
}  // namespace vmstore::net::etcd
