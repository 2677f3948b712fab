// SPDX-License-Identifier: Apache-2.0
// The catalogue in a real etcd: the suite, then what a network and an etcd do to it.
#include "net/meta_etcd.h"

#include "meta/reconcile.h"
#include "tests/conformance/etcd_client.h"
#include "tests/conformance/etcd_server.h"
#include "tests/conformance/meta_store_suite.h"
#include "tests/conformance/tcp_proxy.h"
#include "tests/support/code_of.h"

namespace vmstore::meta {
namespace {

using net::EtcdCalls;
using net::test::EtcdClient;

class EtcdBackend final : public MetaBackend {
 public:
  EtcdBackend() {
    EXPECT_TRUE(client_.make());
    EXPECT_TRUE(client_.open());
  }
  MetaStore& store() override { return client_.store(); }
  void run(Task<void> task) override { net::block_on(client_.io(), std::move(task)); }
  void spawn(Task<void> task) override {
    const auto held = std::make_shared<Task<void>>(std::move(task));
    client_.call([this, held] { client_.io().spawn(std::move(*held)); });
  }
  bool run_until(std::function<bool()> done) override { return client_.run_until(std::move(done)); }
  void settle() override {
    const auto now = client_.get("/nothing");
    ASSERT_TRUE(now);
    const auto told = [this, &now] { return client_.store().is_told(now->revision); };
    EXPECT_TRUE(client_.run_until(told));
  }
  void call(const std::function<void()>& function) override { client_.call(function); }
  void compact(std::uint64_t revision) override {
    client_.compact_etcd(client_.store().numbers().theirs(revision));
  }
  void restart() override {
    client_.end();
    server_.stop();
    server_.start();
    EXPECT_TRUE(client_.open());
  }
  void crash() override {
    server_.kill();
    client_.drop();
    server_.start();
    EXPECT_TRUE(client_.open());
  }

 private:
  EtcdServer server_;
  EtcdClient client_{{server_.endpoint()}};
};

INSTANTIATE_TEST_SUITE_P(Etcd,
                         MetaStoreSuite,
                         ::testing::Values(MetaBackendMaker{
                             "etcd", [] { return std::make_unique<EtcdBackend>(); }}),
                         [](const auto& made) { return made.param.name; });

/// A client that reaches its etcd through a proxy, and one that reaches it directly.
class MetaEtcdTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(direct_.make());
    ASSERT_TRUE(direct_.open());
    ASSERT_TRUE(far_.open());
  }

  /// Follows everything, into seen_.
  void follow(EtcdClient& client) {
    auto watch = client.run(client.store().watch("", 0, [this](const Event& event) {
      const std::string revision = std::to_string(event.entry.mod_revision);
      seen_.push_back(event.gap ? "gap " + revision : revision + event.entry.key);
    }));
    ASSERT_TRUE(watch) << watch.error();
    watch_ = std::move(*watch);
  }
  void unfollow(EtcdClient& client) {
    client.call([this] { watch_ = nullptr; });
  }
  [[nodiscard]] bool has_seen(EtcdClient& client, const std::string& last) {
    return client.run_until([&] { return !seen_.empty() && seen_.back() == last; });
  }

  EtcdServer server_;
  TcpProxy proxy_{server_.port()};
  EtcdClient direct_{{server_.endpoint()}};
  EtcdClient far_{{proxy_.endpoint()}};
  std::vector<std::string> seen_;
  std::unique_ptr<Watch> watch_;
};

Txn swap(const std::string& key, std::uint64_t known, const std::string& value) {
  Txn txn;
  txn.compares.push_back(Compare{key, known});
  txn.then_ops.push_back(Op{key, value});
  return txn;
}

TEST_F(MetaEtcdTest, H1_LostAnswerOfACompareAndSetIsNotKnownAndNotSentTwice) {
  const std::uint64_t before = far_.put("/a", "1")->revision;
  proxy_.lose_answer(1);
  const auto lost = far_.run(far_.store().txn(swap("/a", before, "2")));
  EXPECT_EQ(code_of(lost), Errc::disconnected);
  const auto now = far_.get("/a");
  ASSERT_TRUE(now && now->entry);
  EXPECT_EQ(now->entry->value, "2");
  EXPECT_EQ(now->entry->mod_revision, before + 1);
  EXPECT_EQ(now->revision, before + 1);
}

TEST_F(MetaEtcdTest, LostAnswerOfAReadIsAskedForAgain) {
  static_cast<void>(far_.put("/a", "1"));
  proxy_.lose_answer(1);
  EXPECT_EQ(far_.get("/a")->entry->value, "1");
}

TEST_F(MetaEtcdTest, SilentEtcdIsAnErrorByTheDeadlineNeverAnAnswer) {
  static_cast<void>(far_.put("/a", "1"));
  server_.pause();
  EXPECT_EQ(code_of(far_.get("/a")), Errc::timed_out);
  EXPECT_EQ(code_of(far_.put("/a", "2")), Errc::timed_out);
  server_.resume();
  EXPECT_TRUE(far_.get("/a"));
  EXPECT_TRUE(far_.put("/a", "3"));
  EXPECT_EQ(far_.get("/a")->entry->value, "3");
}

TEST_F(MetaEtcdTest, EtcdThatIsAwayRefusesForCertainAndComesBack) {
  static_cast<void>(direct_.put("/a", "1"));
  follow(direct_);
  server_.stop();
  EXPECT_EQ(code_of(direct_.get("/a")), Errc::unavailable);
  EXPECT_EQ(code_of(direct_.put("/a", "2")), Errc::unavailable);
  server_.start();
  EXPECT_EQ(direct_.get("/a")->entry->value, "1");
  const auto put = direct_.put("/b", "1");
  ASSERT_TRUE(put);
  EXPECT_TRUE(has_seen(direct_, std::to_string(put->revision) + "/b"));
  EXPECT_EQ(seen_.size(), 1U);
  unfollow(direct_);
}

TEST_F(MetaEtcdTest, WatchThatIsCutAgainAndAgainTellsEachChangeOnce) {
  constexpr int kChanges = 60;
  follow(far_);
  std::vector<std::string> expected;
  for (int i = 0; i < kChanges; ++i) {
    const std::string key = "/" + std::to_string(i);
    const auto put = direct_.put(key, std::string(2000, 'v'));
    ASSERT_TRUE(put);
    expected.push_back(std::to_string(put->revision) + key);
    if (i % 20 == 10) proxy_.cut(true);
    if (i % 20 == 13) proxy_.cut(false);
  }
  EXPECT_TRUE(has_seen(far_, expected.back()));
  EXPECT_EQ(seen_, expected);
  unfollow(far_);
}

TEST_F(MetaEtcdTest, WatchWhoseMissedChangesAreCompactedSaysSoBeforeItGoesOn) {
  follow(far_);
  ASSERT_TRUE(direct_.put("/a", "1"));
  EXPECT_TRUE(has_seen(far_, "2/a"));
  proxy_.cut(true);
  ASSERT_TRUE(direct_.put("/b", "1"));
  ASSERT_TRUE(direct_.put("/b", "2"));
  const std::uint64_t last = direct_.put("/c", "1")->revision;
  direct_.compact_etcd(direct_.store().numbers().theirs(last));
  proxy_.cut(false);
  EXPECT_TRUE(has_seen(far_, "gap " + std::to_string(last)));
  ASSERT_TRUE(direct_.put("/d", "1"));
  EXPECT_TRUE(has_seen(far_, std::to_string(last + 1) + "/d"));
  EXPECT_EQ(seen_, (std::vector<std::string>{"2/a", "gap 5", "6/d"}));
  unfollow(far_);
}

// What others do in the same etcd makes its revisions rise, and lets it forget ours.
TEST_F(MetaEtcdTest, OtherUsersOfTheEtcdMoveNothingOfOurs) {
  static_cast<void>(direct_.put("/a", "1"));
  const std::uint64_t ours = direct_.put("/b", "1")->revision;
  follow(far_);
  proxy_.cut(true);
  const std::string body = net::etcd::txn_text({{}, {net::etcd::put_op("other", "x")}, {}});
  for (int i = 0; i < 20; ++i) {
    const auto put = direct_.ask<Result<std::string>>(
        [body](EtcdCalls& calls) { return calls.post("/v3/kv/txn", body, EtcdCalls::Kind::read); });
    ASSERT_TRUE(put);
  }
  direct_.compact_etcd(direct_.store().numbers().theirs(ours) + 20);
  proxy_.cut(false);
  EXPECT_EQ(direct_.get("/a")->revision, ours);
  RangeRequest request;
  request.revision = ours;
  const auto range = direct_.run(direct_.store().range(request));
  ASSERT_TRUE(range) << range.error();
  EXPECT_EQ(range->entries.size(), 2U);
  EXPECT_TRUE(far_.run_until([&] { return far_.store().is_told(ours + 20); }));
  const std::uint64_t next = direct_.put("/c", "1")->revision;
  EXPECT_TRUE(has_seen(far_, std::to_string(next) + "/c"));
  EXPECT_EQ(seen_.size(), 1U) << "nothing of ours was missed";
  unfollow(far_);
}

TEST_F(MetaEtcdTest, NextMemberIsAskedWhenOneDoesNotAnswer) {
  const std::string nobody = "127.0.0.1:" + std::to_string(free_port());
  EtcdClient client({nobody, proxy_.endpoint(), server_.endpoint()});
  ASSERT_TRUE(client.open());
  ASSERT_TRUE(client.put("/a", "1"));
  follow(client);
  proxy_.cut(true);
  EXPECT_EQ(client.get("/a")->entry->value, "1");
  const auto put = client.put("/b", "1");
  ASSERT_TRUE(put);
  EXPECT_TRUE(has_seen(client, std::to_string(put->revision) + "/b"));
  unfollow(client);
}

TEST_F(MetaEtcdTest, WatchOnAMemberThatFellSilentMovesToAnother) {
  EtcdClient client({proxy_.endpoint(), server_.endpoint()});
  ASSERT_TRUE(client.open());
  follow(client);
  proxy_.mute(true);
  ASSERT_TRUE(direct_.put("/a", "1"));
  EXPECT_TRUE(has_seen(client, "2/a"));
  unfollow(client);
  proxy_.mute(false);
}

std::string remove_all() {
  const std::string root(net::etcd::kRoot);
  return net::etcd::txn_text(
      {{}, {net::etcd::remove_range_op(root, net::etcd::prefix_end(root))}, {}});
}

TEST_F(MetaEtcdTest, I9_WipedEtcdIsUnknownNeverAnEmptyCatalogue) {
  static_cast<void>(direct_.put("/a", "1"));
  follow(far_);
  const auto wiped = direct_.ask<Result<std::string>>([](EtcdCalls& calls) {
    return calls.post("/v3/kv/txn", remove_all(), EtcdCalls::Kind::read);
  });
  ASSERT_TRUE(wiped);
  EXPECT_EQ(code_of(direct_.get("/a")), Errc::unknown);
  EXPECT_EQ(code_of(direct_.put("/a", "2")), Errc::unknown);
  EXPECT_TRUE(far_.run_until([this] { return !far_.store().takes_changes(); }));
  ASSERT_TRUE(direct_.make(net::etcd::Head{1, 8}));
  EXPECT_EQ(code_of(direct_.get("/a")), Errc::unknown) << "it is another catalogue";
  EXPECT_EQ(code_of(direct_.put("/a", "2")), Errc::unknown);
  unfollow(far_);
}

TEST_F(MetaEtcdTest, CatalogueIsMadeOnceAndNotFoundIsCertain) {
  EXPECT_TRUE(direct_.make()) << "the same again: an answer may have been lost";
  EXPECT_EQ(code_of(direct_.make(net::etcd::Head{1, 9})), Errc::exists);
  const EtcdServer empty;
  EtcdClient stranger({empty.endpoint()});
  EXPECT_EQ(code_of(stranger.open()), Errc::not_found);
  proxy_.cut(true);
  EtcdClient cut_off({proxy_.endpoint()});
  EXPECT_EQ(code_of(cut_off.open()), Errc::disconnected);
}

Image image_of(int entries) {
  Image image;
  image.revision = 5000;
  for (int i = 0; i < entries; ++i) {
    Entry entry;
    entry.key = "/" + std::to_string(i);
    entry.value = std::to_string(i) + std::string(static_cast<std::size_t>(i) * 50, 'v');
    entry.mod_revision = static_cast<std::uint64_t>(i) + 1;
    image.entries.emplace(entry.key, entry);
  }
  return image;
}

// Goal: a catalogue that is brought into an etcd is there as a whole or not at all, and the attempt
// can be repeated wherever it was cut short. Method: the n-th answer is lost, for every n.
TEST(EtcdRoot, FillingThatWasCutShortAnywhereCanBeRepeated) {
  const Image image = image_of(250);
  const net::etcd::Head head{std::uint64_t{3} << 32, 77};
  EtcdServer server;
  for (int nth = 1; nth < 100; ++nth) {
    EtcdClient direct({server.endpoint()});
    const auto wiped = direct.ask<Result<std::string>>([](EtcdCalls& calls) {
      return calls.post("/v3/kv/txn", remove_all(), EtcdCalls::Kind::read);
    });
    ASSERT_TRUE(wiped);
    TcpProxy proxy(server.port());
    EtcdClient client({proxy.endpoint()});
    proxy.lose_answer(nth);
    const auto fill = [&](EtcdCalls& calls) {
      return net::fill_etcd_catalogue(calls, head, image, std::nullopt);
    };
    const auto first = client.ask<Result<void>>(fill);
    const bool lost_one = proxy.connections() > 1;
    const auto open_in_between = direct.open();
    if (!first) {
      EXPECT_FALSE(open_in_between) << nth;
    }
    proxy.lose_answer(0);
    ASSERT_TRUE(client.ask<Result<void>>(fill)) << nth;
    ASSERT_TRUE(direct.open());
    const auto there = direct.run(read_image(direct.store()));
    ASSERT_TRUE(there);
    EXPECT_EQ(there->revision, head.base);
    ASSERT_EQ(there->entries.size(), image.entries.size());
    for (const auto& [key, entry] : there->entries) {
      EXPECT_EQ(entry.value, image.entries.at(key).value);
      EXPECT_GT(entry.mod_revision, image.revision);
      EXPECT_LE(entry.mod_revision, head.base);
    }
    if (first && !lost_one) return;  // there was no n-th answer
  }
  FAIL() << "the filling never ended by itself";
}

TEST(EtcdRoot, FillingReplacesOnlyWhatItWasToldToReplace) {
  EtcdServer server;
  EtcdClient client({server.endpoint()});
  const net::etcd::Head old{1, 1};
  const net::etcd::Head mine{std::uint64_t{1} << 32, 2};
  const net::etcd::Head other{std::uint64_t{1} << 32, 3};
  ASSERT_TRUE(client.make(old));
  ASSERT_TRUE(client.open());
  ASSERT_TRUE(client.put("/old", "1"));
  const Image image = image_of(3);
  const auto fill = [&](const net::etcd::Head& head, std::optional<std::string> instead) {
    return client.ask<Result<void>>(
        [&](EtcdCalls& calls) { return net::fill_etcd_catalogue(calls, head, image, instead); });
  };
  EXPECT_EQ(code_of(fill(mine, std::nullopt)), Errc::exists);
  EXPECT_EQ(code_of(fill(mine, net::etcd::encode_head(other))), Errc::exists);
  EXPECT_TRUE(client.get("/old")->entry);
  EXPECT_TRUE(fill(mine, net::etcd::encode_head(old)));
  EXPECT_EQ(code_of(client.get("/old")), Errc::unknown);
  client.end();
  ASSERT_TRUE(client.open());
  EXPECT_FALSE(client.get("/old")->entry);
  EXPECT_TRUE(client.get("/2")->entry);
  EXPECT_EQ(client.put("/x", "1")->revision, mine.base + 1);
  EXPECT_EQ(code_of(fill(other, std::nullopt)), Errc::exists);
}

}  // namespace
}  // namespace vmstore::meta
