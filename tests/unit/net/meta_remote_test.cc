// SPDX-License-Identifier: Apache-2.0
#include "net/meta_remote.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/unit/net/client_world.h"

namespace vmstore::net::test {
namespace {

class MetaRemoteTest : public testing::Test {
 protected:
  void SetUp() override { w.connect(); }

  Result<std::unique_ptr<meta::Watch>> watch(const std::string& prefix, std::uint64_t from) {
    return w.run(w.client->meta().watch(prefix, from, [this](const meta::Event& event) {
      seen.push_back(std::to_string(event.entry.mod_revision) + event.entry.key +
                     (event.removed ? "-" : "=" + event.entry.value));
    }));
  }
  /// Changes the catalogue behind the client's back, in one revision.
  void put_there(const std::vector<std::string>& keys, const std::string& value) {
    meta::Txn txn;
    for (const std::string& key : keys) txn.then_ops.push_back({key, value});
    ASSERT_TRUE(sim::run(*w.node_process, w.store->txn(std::move(txn))));
  }
  void settle() { w.world.run_for(5s); }

  ClientWorld w;
  std::vector<std::string> seen;
};

TEST_F(MetaRemoteTest, ALostAnswerIsNeverAbsent) {
  w.node->silent = true;
  sim::Running<Result<meta::GetAnswer>> get(*w.client_process, w.client->meta().get("/a"));
  sim::Running<Result<meta::TxnAnswer>> txn(*w.client_process, w.client->meta().txn({}));
  w.world.run_for(100ms);
  w.network.break_connections(*w.node_process);
  EXPECT_TRUE(get.wait(1s));
  EXPECT_EQ(code_of(get.outcome()), Errc::disconnected);
  EXPECT_TRUE(txn.wait(1s));
  EXPECT_EQ(code_of(txn.outcome()), Errc::disconnected);
}

TEST_F(MetaRemoteTest, AWatchGoesOnAfterTheNodeRestarted) {
  const auto handle = watch("/w/", 0);
  ASSERT_TRUE(handle);
  put_there({"/w/a"}, "1");
  settle();
  w.kill_node();
  w.start_node();
  put_there({"/w/b", "/other"}, "2");
  put_there({"/w/a"}, "3");
  settle();
  put_there({"/w/c"}, "4");
  settle();
  EXPECT_EQ(seen, (std::vector<std::string>{"2/w/a=1", "3/w/b=2", "4/w/a=3", "5/w/c=4"}));
}

TEST_F(MetaRemoteTest, AWatchFromNowMissesNothingWhenItsSessionEndsBeforeAnyEvent) {
  put_there({"/w/before"}, "0");
  const auto handle = watch("/w/", 0);
  ASSERT_TRUE(handle);
  w.kill_node();
  w.start_node();
  put_there({"/w/a"}, "1");
  settle();
  EXPECT_EQ(seen, std::vector<std::string>{"3/w/a=1"});
}

// Sessions break at any instant, also between two events of one revision, while changes go on:
// every event is told once and in order.
TEST(MetaRemoteWatch, EveryChangeIsToldOnceHoweverSessionsBreak) {
  std::uint64_t resumed = 0;
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    ClientWorld w(seed);
    w.connect();
    std::vector<std::string> seen;
    std::vector<std::string> expected;
    const auto handle = w.run(w.client->meta().watch("/w/", 0, [&](const meta::Event& event) {
      seen.push_back(event.entry.value + event.entry.key);
    }));
    ASSERT_TRUE(handle);
    for (int i = 0; i < 40; ++i) {
      meta::Txn txn;
      for (const char* key : {"/w/a", "/w/b", "/w/c", "/w/d"}) {
        const std::string value = std::to_string(i);
        txn.then_ops.push_back({key, value});
        expected.push_back(value + key);
      }
      ASSERT_TRUE(sim::run(*w.node_process, w.store->txn(std::move(txn))));
      w.world.run_for(w.world.random_duration(0us, w.world.random().one_in(2) ? 1ms : 30ms));
      if (w.world.random().one_in(4)) w.network.break_connections(*w.node_process);
    }
    w.world.run_for(10s);
    EXPECT_EQ(seen, expected) << "seed " << seed;
    resumed += w.node->watches_begun - 1;
  }
  EXPECT_GT(resumed, 100U);
}

TEST_F(MetaRemoteTest, AfterACompactionItTellsWhatIsThereNow) {
  const auto handle = watch("/w/", 0);
  ASSERT_TRUE(handle);
  put_there({"/w/a", "/w/b"}, "1");
  settle();
  w.kill_node();
  w.start_node();
  put_there({"/w/a"}, "2");
  put_there({"/w/c"}, "3");
  put_there({"/w/a"}, "4");
  w.catalogue->compact(w.catalogue->revision());
  settle();
  put_there({"/w/d"}, "5");
  settle();
  EXPECT_EQ(seen,
            (std::vector<std::string>{"2/w/a=1", "2/w/b=1", "4/w/c=3", "5/w/a=4", "6/w/d=5"}));
}

TEST_F(MetaRemoteTest, AnEndedWatchTellsNothingMoreAndTheNodeForgetsIt) {
  auto handle = watch("/w/", 0);
  ASSERT_TRUE(handle);
  put_there({"/w/a"}, "1");
  settle();
  w.client_process->post([&] { handle->reset(); });
  settle();
  EXPECT_EQ(w.node->watches_ended, 1U);
  put_there({"/w/a"}, "2");
  settle();
  w.kill_node();
  w.start_node();
  settle();
  EXPECT_EQ(w.node->watches_begun, 0U);
  EXPECT_EQ(seen, std::vector<std::string>{"2/w/a=1"});
}

TEST_F(MetaRemoteTest, AWatchMayEndInsideItsOwnCallback) {
  std::unique_ptr<meta::Watch> handle;
  std::vector<std::string> told;
  const auto callback = [&](const meta::Event& event) {
    told.push_back(event.entry.key);
    handle = nullptr;
  };
  handle = std::move(*w.run(w.client->meta().watch("/w/", 0, callback)));
  put_there({"/w/a", "/w/b"}, "1");
  settle();
  EXPECT_EQ(told, std::vector<std::string>{"/w/a"});
}

TEST_F(MetaRemoteTest, ManyWatchesEachHearTheirOwn) {
  std::vector<std::unique_ptr<meta::Watch>> handles;
  std::map<std::string, int> told;
  for (const char* prefix : {"/a/", "/b/", "/"}) {
    const auto callback = [&told, prefix](const meta::Event&) { ++told[prefix]; };
    handles.push_back(std::move(*w.run(w.client->meta().watch(prefix, 0, callback))));
  }
  for (int round = 1; round <= 3; ++round) {
    put_there({"/a/1", "/b/1", "/b/2"}, std::to_string(round));
    settle();
    EXPECT_EQ(told["/a/"], round);
    EXPECT_EQ(told["/b/"], 2 * round);
    EXPECT_EQ(told["/"], 3 * round);
    w.kill_node();
    w.start_node();
    settle();
  }
}

TEST_F(MetaRemoteTest, WithoutASessionCallsAreDisconnected) {
  w.kill_node();
  settle();
  EXPECT_EQ(code_of(w.run(w.client->meta().get("/a"))), Errc::disconnected);
  EXPECT_EQ(code_of(watch("/a", 0)), Errc::disconnected);
  EXPECT_EQ(code_of(watch("/a", 1)), Errc::disconnected);
}

}  // namespace
}  // namespace vmstore::net::test
