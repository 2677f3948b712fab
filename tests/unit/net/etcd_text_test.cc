// SPDX-License-Identifier: Apache-2.0
#include "net/etcd_text.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "net/etcd_calls.h"
#include "tests/support/code_of.h"

namespace vmstore::net::etcd {
namespace {

TEST(EtcdText, Base64IsThatOfEveryoneElse) {
  const std::pair<std::string, std::string> pairs[] = {{"", ""},
                                                       {"f", "Zg=="},
                                                       {"fo", "Zm8="},
                                                       {"foo", "Zm9v"},
                                                       {"foobar", "Zm9vYmFy"},
                                                       {std::string("\0\xff\x10", 3), "AP8Q"},
                                                       {"\xfb\xff\xfe", "+//+"}};
  for (const auto& [bytes, text] : pairs) {
    EXPECT_EQ(encode_base64(bytes), text);
    EXPECT_EQ(decode_base64(text).value(), bytes);
  }
  for (const char* wrong : {"Z", "Zg=", "Z===", "====", "Zg==Zg==", "Zm9*", "Zm 9", "=m9v"}) {
    EXPECT_EQ(code_of(decode_base64(wrong)), Errc::bad_frame) << wrong;
  }
}

TEST(EtcdText, PrefixEndIsTheFirstKeyBehind) {
  EXPECT_EQ(prefix_end("a/"), "a0");
  EXPECT_EQ(prefix_end("a\xff\xff"), "b");
}

// As etcd 3.4.23 wrote it.
constexpr const char* kTxnReply =
    R"({"header":{"cluster_id":"14841639068965178418","member_id":"10276657743932975437",)"
    R"("revision":"7","raft_term":"2"},"succeeded":true,"responses":[)"
    R"({"response_range":{"header":{"revision":"7"},"kvs":[{"key":"YQ==","create_revision":"2",)"
    R"("mod_revision":"5","version":"4","value":"djQ="}],"more":true,"count":"3"}},)"
    R"({"response_put":{"header":{"revision":"7"}}},)"
    R"({"response_txn":{"header":{"revision":"7"},"responses":[{"response_range":{}}]}}]})";

TEST(EtcdText, AnswerOfATransactionIsRead) {
  const auto reply = parse_txn_reply(kTxnReply);
  ASSERT_TRUE(reply.has_value());
  EXPECT_TRUE(reply->succeeded);
  EXPECT_EQ(reply->revision, 7U);
  ASSERT_EQ(reply->ops.size(), 3U);
  ASSERT_EQ(reply->ops[0].kvs.size(), 1U);
  EXPECT_EQ(reply->ops[0].kvs[0].key, "a");
  EXPECT_EQ(reply->ops[0].kvs[0].value, "v4");
  EXPECT_EQ(reply->ops[0].kvs[0].mod_revision, 5U);
  EXPECT_TRUE(reply->ops[0].more);
  ASSERT_EQ(reply->ops[2].txn.size(), 1U);
  EXPECT_FALSE(reply->ops[2].txn[0].succeeded);
  EXPECT_EQ(reply->ops[2].txn[0].ops.size(), 1U);
}

TEST(EtcdText, WhatAWatchSaysIsRead) {
  const auto created =
      parse_watch_reply(R"({"result":{"header":{"revision":"3"},"created":true}})");
  ASSERT_TRUE(created.has_value());
  EXPECT_TRUE(created->created);
  const auto events = parse_watch_reply(
      R"({"result":{"header":{"revision":"4"},"fragment":true,"events":[)"
      R"({"kv":{"key":"YQ==","create_revision":"4","mod_revision":"4","version":"1",)"
      R"("value":"MQ=="}},{"type":"DELETE","kv":{"key":"Yg==","mod_revision":"4"}}]}})");
  ASSERT_TRUE(events.has_value());
  EXPECT_TRUE(events->fragment);
  ASSERT_EQ(events->changes.size(), 2U);
  EXPECT_FALSE(events->changes[0].removed);
  EXPECT_EQ(events->changes[0].kv.value, "1");
  EXPECT_TRUE(events->changes[1].removed);
  EXPECT_EQ(events->changes[1].kv.key, "b");
  const auto canceled =
      parse_watch_reply(R"({"result":{"header":{},"canceled":true,"compact_revision":"9"}})");
  ASSERT_TRUE(canceled.has_value());
  EXPECT_TRUE(canceled->canceled);
  EXPECT_EQ(canceled->compact_revision, 9U);
  EXPECT_TRUE(parse_watch_reply(R"({"error":{"message":"no leader"}})")->canceled);
}

TEST(EtcdText, RefusalSaysWhetherAnythingMayHaveHappened) {
  const auto refusal = [](const std::string& message, int code, bool changes) {
    const std::string body = R"({"error":")" + message + R"(","message":")" + message +
                             R"(","code":)" + std::to_string(code) + "}";
    return parse_refusal(body, changes).error.code;
  };
  const std::string compacted = "etcdserver: mvcc: required revision has been compacted";
  EXPECT_EQ(refusal(compacted, 11, false), Errc::compacted);
  EXPECT_EQ(refusal("etcdserver: mvcc: required revision is a future revision", 11, false),
            Errc::unknown);
  EXPECT_EQ(refusal("etcdserver: mvcc: database space exceeded", 8, true), Errc::no_space);
  EXPECT_EQ(refusal("etcdserver: request timed out", 14, true), Errc::unknown);
  EXPECT_EQ(refusal("etcdserver: no leader", 14, false), Errc::unavailable);
  EXPECT_EQ(refusal("etcdserver: permission denied", 7, true), Errc::permission);
  EXPECT_EQ(refusal("something new", 99, true), Errc::unknown);
  EXPECT_EQ(parse_refusal("<html>", false).error, Errc::unknown);
  EXPECT_EQ(parse_refusal(R"({"message":3,"code":"x"})", false).error, Errc::unknown);
}

// I11: whatever comes, it is an answer or an error.
TEST(EtcdText, I11_DamagedAnswersAreErrorsOrAnswersNeverMore) {
  const std::string good = kTxnReply;
  for (std::size_t at = 0; at < good.size(); ++at) {
    EXPECT_EQ(code_of(parse_txn_reply(good.substr(0, at))), Errc::bad_frame) << at;
    for (const char other : {'"', '{', '[', '0', 'x', '\0', '\xff'}) {
      std::string damaged = good;
      damaged[at] = other;
      static_cast<void>(parse_txn_reply(damaged));
      static_cast<void>(parse_watch_reply(damaged));
      static_cast<void>(parse_refusal(damaged, true));
    }
  }
  const std::string deep = std::string(10'000, '[') + std::string(10'000, ']');
  for (const std::string& text : {std::string(),
                                  std::string("null"),
                                  std::string("[]"),
                                  std::string("{}"),
                                  std::string(R"({"header":[]})"),
                                  std::string(R"({"header":{"revision":-1}})"),
                                  std::string(R"({"header":{"revision":"18446744073709551616"}})"),
                                  std::string(R"({"header":{},"responses":{}})"),
                                  std::string(R"({"header":{},"responses":[7]})"),
                                  deep}) {
    EXPECT_EQ(code_of(parse_txn_reply(text)), Errc::bad_frame) << text.substr(0, 50);
  }
  EXPECT_EQ(code_of(parse_watch_reply(R"({"result":{"events":[{"type":"PUT"}]}})")),
            Errc::bad_frame);
}

TEST(EtcdText, UrlsAreHttpOnLoopbackUntilThereIsTls) {
  const auto two = parse_etcd_urls("http://127.0.0.1:2379,http://[::1]:2380/");
  ASSERT_TRUE(two.has_value());
  ASSERT_EQ(two->size(), 2U);
  EXPECT_EQ((*two)[0].text, "127.0.0.1:2379");
  EXPECT_EQ((*two)[1].text, "[::1]:2380");
  EXPECT_EQ(code_of(parse_etcd_urls("https://127.0.0.1:2379")), Errc::unsupported);
  EXPECT_EQ(code_of(parse_etcd_urls("http://10.0.0.1:2379")), Errc::unsupported);
  for (const char* wrong : {"",
                            "127.0.0.1:2379",
                            "http://",
                            "http://127.0.0.1",
                            "http:///run/x",
                            "http://127.0.0.1:1,",
                            "http://unix:/run/x"}) {
    EXPECT_EQ(code_of(parse_etcd_urls(wrong)), Errc::invalid_argument) << wrong;
  }
}

}  // namespace
}  // namespace vmstore::net::etcd
