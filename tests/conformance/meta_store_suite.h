// SPDX-License-Identifier: Apache-2.0
// What every backend of the catalogue must do. A backend's test includes this file and instantiates
// MetaStoreSuite with a maker of MetaBackend.
//
// Each test drives the store from tasks of one process: a simulated one (SimMetaBackend), or one
// with a thread of its own.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "base/random.h"
#include "meta/meta_store.h"
#include "tests/support/code_of.h"
#include "tests/support/virtual_scheduler.h"

namespace vmstore::meta {

/// A store under test and the power over its life.
class MetaBackend {
 public:
  MetaBackend() = default;
  MetaBackend(const MetaBackend&) = delete;
  MetaBackend& operator=(const MetaBackend&) = delete;
  virtual ~MetaBackend() = default;

  [[nodiscard]] virtual MetaStore& store() = 0;
  /// Runs a task of the process to its end.
  virtual void run(Task<void> task) = 0;
  /// Starts a task of the process.
  virtual void spawn(Task<void> task) = 0;
  /// Lets the process run until `done`, which is called in it, holds; false when it never does.
  [[nodiscard]] virtual bool run_until(std::function<bool()> done) = 0;
  /// Lets every callback that is due run.
  virtual void settle() = 0;
  /// Calls `function` in the process.
  virtual void call(const std::function<void()>& function) = 0;
  /// Gives up all history below `revision`.
  virtual void compact(std::uint64_t revision) = 0;
  /// Ends the process in order and starts it again. store() is a new object.
  virtual void restart() = 0;
  /// Kills the process between two events and starts it again.
  virtual void crash() = 0;
  /// False for a store whose content ends with its process.
  [[nodiscard]] virtual bool is_durable() const { return true; }
};

/// A backend whose process is simulated.
class SimMetaBackend : public MetaBackend {
 public:
  [[nodiscard]] virtual sim::VirtualScheduler& process() = 0;
  void run(Task<void> task) final { sim::run(process(), std::move(task)); }
  void spawn(Task<void> task) final { process().spawn(std::move(task)); }
  [[nodiscard]] bool run_until(std::function<bool()> done) final {
    return process().world().run_until(done, std::chrono::hours(1));
  }
  void settle() final { process().world().run_for(std::chrono::seconds(1)); }
  void call(const std::function<void()>& function) final { function(); }
};

struct MetaBackendMaker {
  std::string name;
  std::function<std::unique_ptr<MetaBackend>()> make;
};

class MetaStoreSuite : public ::testing::TestWithParam<MetaBackendMaker> {
 protected:
  void SetUp() override { backend_ = GetParam().make(); }
  void TearDown() override { backend_ = nullptr; }

  [[nodiscard]] MetaStore& store() { return backend_->store(); }
  template <class T>
  [[nodiscard]] T run(Task<T> task) {
    std::optional<T> outcome;
    backend_->run(sim::detail::store_outcome(std::move(task), outcome));
    return std::move(*outcome);
  }
  [[nodiscard]] Result<TxnAnswer> txn(Txn request) { return run(store().txn(std::move(request))); }
  [[nodiscard]] Result<GetAnswer> get(const std::string& key) { return run(store().get(key)); }
  [[nodiscard]] Result<RangeAnswer> range(RangeRequest request) {
    return run(store().range(std::move(request)));
  }
  [[nodiscard]] Result<std::unique_ptr<Watch>> watch(const std::string& prefix,
                                                     std::uint64_t from,
                                                     MetaStore::WatchCallback callback) {
    auto inner = run(store().watch(prefix, from, std::move(callback)));
    if (!inner) return inner.error();
    return std::make_unique<WatchOfProcess>(*backend_, std::move(*inner));
  }
  void settle() { backend_->settle(); }

  /// Puts or removes without a condition; the revision.
  std::uint64_t put(const std::string& key, std::optional<std::string> value) {
    Txn request;
    request.then_ops.push_back(Op{key, std::move(value)});
    const auto answer = txn(std::move(request));
    EXPECT_TRUE(answer.has_value());
    return answer ? answer->revision : 0;
  }
  [[nodiscard]] std::optional<std::string> value_of(const std::string& key) {
    const auto answer = get(key);
    EXPECT_TRUE(answer.has_value());
    if (!answer || !answer->entry) return std::nullopt;
    return answer->entry->value;
  }
  /// Everything under `prefix`, page by page, at one revision (0 = now).
  [[nodiscard]] std::map<std::string, std::string> all(const std::string& prefix,
                                                       std::uint64_t revision,
                                                       std::uint32_t limit) {
    std::map<std::string, std::string> entries;
    RangeRequest request;
    request.prefix = prefix;
    request.limit = limit;
    request.revision = revision;
    for (bool more = true; more;) {
      const auto answer = range(request);
      EXPECT_TRUE(answer.has_value());
      if (!answer) break;
      for (const Entry& entry : answer->entries) {
        EXPECT_TRUE(request.after.empty() || entry.key > request.after);
        EXPECT_LE(entry.mod_revision, answer->revision);
        request.after = entry.key;
        EXPECT_TRUE(entries.emplace(entry.key, entry.value).second) << entry.key;
      }
      request.revision = answer->revision;
      more = answer->more;
      EXPECT_TRUE(!more || !answer->entries.empty());
    }
    return entries;
  }

  /// A watch that the test destroys ends in its process.
  class WatchOfProcess final : public Watch {
   public:
    WatchOfProcess(MetaBackend& backend, std::unique_ptr<Watch> inner)
        : backend_(backend), inner_(std::move(inner)) {}
    WatchOfProcess(const WatchOfProcess&) = delete;
    WatchOfProcess& operator=(const WatchOfProcess&) = delete;
    ~WatchOfProcess() override {
      backend_.call([this] { inner_ = nullptr; });
    }

   private:
    MetaBackend& backend_;
    std::unique_ptr<Watch> inner_;
  };

  std::unique_ptr<MetaBackend> backend_;
};

TEST_P(MetaStoreSuite, StoreWithoutChangesIsEmptyAtRevisionOne) {
  const auto answer = get("/disk/1");
  ASSERT_TRUE(answer.has_value());
  EXPECT_FALSE(answer->entry.has_value());
  EXPECT_EQ(answer->revision, 1U);
  EXPECT_TRUE(all("", 0, 10).empty());
  EXPECT_TRUE(all("", 1, 10).empty());
}

TEST_P(MetaStoreSuite, TxnWithOperationsTakesExactlyOneRevision) {
  Txn three;
  three.then_ops = {{"/a", "1"}, {"/b", "2"}, {"/none", std::nullopt}};
  const auto answer = txn(three);
  ASSERT_TRUE(answer.has_value());
  EXPECT_TRUE(answer->held);
  EXPECT_EQ(answer->revision, 2U);
  const auto a = get("/a");
  ASSERT_TRUE(a.has_value() && a->entry.has_value());
  EXPECT_EQ(a->entry->key, "/a");
  EXPECT_EQ(a->entry->value, "1");
  EXPECT_EQ(a->entry->mod_revision, 2U);
  EXPECT_EQ(put("/none", std::nullopt), 3U);
}

TEST_P(MetaStoreSuite, TxnWithoutOperationsTakesNoRevision) {
  put("/a", "1");
  const auto answer = txn(Txn());
  ASSERT_TRUE(answer.has_value());
  EXPECT_TRUE(answer->held);
  EXPECT_EQ(answer->revision, 2U);
  Txn refused;
  refused.compares.push_back(Compare{"/a", false});
  refused.then_ops.push_back(Op{"/a", "2"});
  const auto second = txn(refused);
  ASSERT_TRUE(second.has_value());
  EXPECT_FALSE(second->held);
  EXPECT_EQ(second->revision, 2U);
  EXPECT_EQ(value_of("/a"), "1");
}

TEST_P(MetaStoreSuite, EachKindOfCompareDecidesWhichListIsApplied) {
  const std::uint64_t revision = put("/a", "1");
  struct Case {
    Compare compare;
    bool holds;
  };
  const std::vector<Case> cases = {
      {{"/a", revision}, true},
      {{"/a", revision + 1}, false},
      {{"/a", std::uint64_t{0}}, false},
      {{"/none", std::uint64_t{0}}, true},
      {{"/none", revision}, false},
      {{"/a", std::string("1")}, true},
      {{"/a", std::string("2")}, false},
      {{"/none", std::string()}, false},
      {{"/a", true}, true},
      {{"/a", false}, false},
      {{"/none", true}, false},
      {{"/none", false}, true},
  };
  for (std::size_t i = 0; i < cases.size(); ++i) {
    Txn request;
    request.compares.push_back(cases[i].compare);
    request.then_ops.push_back(Op{"/outcome", "then"});
    request.else_ops.push_back(Op{"/outcome", "else"});
    const auto answer = txn(request);
    ASSERT_TRUE(answer.has_value()) << i;
    EXPECT_EQ(answer->held, cases[i].holds) << i;
    EXPECT_EQ(value_of("/outcome"), cases[i].holds ? "then" : "else") << i;
  }
}

TEST_P(MetaStoreSuite, OneCompareThatFailsIsEnough) {
  put("/a", "1");
  Txn request;
  request.compares = {{"/a", std::string("1")}, {"/b", true}, {"/a", true}};
  request.then_ops.push_back(Op{"/a", "2"});
  const auto answer = txn(request);
  ASSERT_TRUE(answer.has_value());
  EXPECT_FALSE(answer->held);
  EXPECT_EQ(value_of("/a"), "1");
}

TEST_P(MetaStoreSuite, RemovedKeyIsCertainlyNotThere) {
  put("/a", "1");
  const std::uint64_t revision = put("/a", std::nullopt);
  const auto answer = get("/a");
  ASSERT_TRUE(answer.has_value());
  EXPECT_FALSE(answer->entry.has_value());
  EXPECT_EQ(answer->revision, revision);
  Txn again;
  again.compares.push_back(Compare{"/a", false});
  again.then_ops.push_back(Op{"/a", "3"});
  ASSERT_TRUE(txn(again).has_value());
  EXPECT_EQ(value_of("/a"), "3");
}

TEST_P(MetaStoreSuite, ValueMayBeEmptyOrAnyBytes) {
  const std::string bytes("\0\xff\1\0", 4);
  put("/empty", "");
  put("/bytes", bytes);
  EXPECT_EQ(value_of("/empty"), "");
  EXPECT_EQ(value_of("/bytes"), bytes);
  const auto entries = all("/", 0, 1);
  EXPECT_EQ(entries, (std::map<std::string, std::string>{{"/bytes", bytes}, {"/empty", ""}}));
}

TEST_P(MetaStoreSuite, WhatBreaksAMaximumIsRefused) {
  const std::string long_key(limits::kMetaKeyBytesMax + 1, 'k');
  const std::string nul_key("a\0b", 3);
  for (const std::string& key : {std::string(), long_key, nul_key}) {
    EXPECT_EQ(code_of(get(key)), Errc::invalid_argument);
    Txn in_ops;
    in_ops.then_ops.push_back(Op{key, "1"});
    EXPECT_EQ(code_of(txn(in_ops)), Errc::invalid_argument);
    Txn in_compares;
    in_compares.compares.push_back(Compare{key, true});
    EXPECT_EQ(code_of(txn(in_compares)), Errc::invalid_argument);
  }
  Txn large_value;
  large_value.else_ops.push_back(Op{"/a", std::string(limits::kMetaValueBytesMax + 1, 'v')});
  EXPECT_EQ(code_of(txn(large_value)), Errc::invalid_argument);
  Txn twice;
  twice.then_ops = {{"/a", "1"}, {"/a", std::nullopt}};
  EXPECT_EQ(code_of(txn(twice)), Errc::invalid_argument);
  Txn many;
  Txn heavy;
  for (std::size_t i = 0; i <= limits::kMetaTxnOpsMax; ++i) {
    many.then_ops.push_back(Op{"/" + std::to_string(i), ""});
  }
  EXPECT_EQ(code_of(txn(many)), Errc::invalid_argument);
  for (int i = 0; i < 9; ++i) {
    heavy.then_ops.push_back(Op{"/" + std::to_string(i), std::string(60'000, 'v')});
  }
  EXPECT_EQ(code_of(txn(heavy)), Errc::invalid_argument);
  for (const std::uint32_t limit : {0U, static_cast<unsigned>(limits::kMetaRangeMax) + 1}) {
    RangeRequest request;
    request.limit = limit;
    EXPECT_EQ(code_of(range(request)), Errc::invalid_argument);
  }
  RangeRequest request;
  request.prefix = long_key;
  EXPECT_EQ(code_of(range(request)), Errc::invalid_argument);
  EXPECT_EQ(code_of(watch(nul_key, 0, [](const Event&) {})), Errc::invalid_argument);
  EXPECT_TRUE(all("", 0, 10).empty());
}

TEST_P(MetaStoreSuite, WhatIsExactlyAtTheMaximumIsTaken) {
  const std::string key(limits::kMetaKeyBytesMax, '\xff');
  const std::string value(limits::kMetaValueBytesMax, 'v');
  put(key, value);
  EXPECT_EQ(value_of(key), value);
  EXPECT_EQ(all("\xff", 0, 1).size(), 1U);
  Txn many;
  for (std::size_t i = 0; i < limits::kMetaTxnOpsMax; ++i) {
    many.then_ops.push_back(Op{"/" + std::to_string(i), "x"});
  }
  EXPECT_TRUE(txn(many).has_value());
  EXPECT_EQ(all("/", 0, 1000).size(), limits::kMetaTxnOpsMax);
}

TEST_P(MetaStoreSuite, RangeIsSortedCompleteAndEndsAtItsPrefix) {
  const std::vector<std::string> keys = {"/d",
                                         "/d/",
                                         "/d/1",
                                         "/d/1/x",
                                         "/d/1\1",
                                         "/d/10",
                                         "/d/1\xff",
                                         "/d/2",
                                         "/d0",
                                         "/c/9",
                                         "/d/\xff",
                                         "/e"};
  std::map<std::string, std::string> oracle;
  for (const std::string& key : keys) {
    put(key, "old");
    put(key, "v" + key);
    if (key.starts_with("/d/")) oracle[key] = "v" + key;
  }
  for (const std::uint32_t limit : {1U, 2U, 3U, 7U, 8U, 9U, 1000U}) {
    EXPECT_EQ(all("/d/", 0, limit), oracle) << limit;
  }
  EXPECT_EQ(all("", 0, 5).size(), keys.size());
  RangeRequest exact;
  exact.prefix = "/d/";
  exact.limit = static_cast<std::uint32_t>(oracle.size());
  const auto answer = range(exact);
  ASSERT_TRUE(answer.has_value());
  EXPECT_FALSE(answer->more);
  EXPECT_TRUE(std::is_sorted(answer->entries.begin(),
                             answer->entries.end(),
                             [](const Entry& a, const Entry& b) { return a.key < b.key; }));
  EXPECT_TRUE(all("/d/none", 0, 3).empty());
}

TEST_P(MetaStoreSuite, RangeOfLargeValuesFitsAMessageAndSaysMore) {
  for (int i = 0; i < 20; ++i) put("/" + std::to_string(i), std::string(60'000, 'v'));
  RangeRequest request;
  request.prefix = "/";
  const auto answer = range(request);
  ASSERT_TRUE(answer.has_value());
  EXPECT_TRUE(answer->more);
  EXPECT_LE(answer->entries.size() * 60'000, limits::kMetaRangeBytesMax);
  EXPECT_EQ(all("/", 0, 1000).size(), 20U);
}

TEST_P(MetaStoreSuite, RangeAtARevisionShowsExactlyThatOne) {
  put("/a", "1");
  put("/b", "1");
  const std::uint64_t then = put("/c", "1");
  put("/a", "2");
  put("/b", std::nullopt);
  put("/d", "1");
  EXPECT_EQ(all("/", then, 1),
            (std::map<std::string, std::string>{{"/a", "1"}, {"/b", "1"}, {"/c", "1"}}));
  EXPECT_EQ(all("/", 0, 2),
            (std::map<std::string, std::string>{{"/a", "2"}, {"/c", "1"}, {"/d", "1"}}));
  RangeRequest request;
  request.revision = then;
  const auto answer = range(request);
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->revision, then);
}

TEST_P(MetaStoreSuite, RevisionAboveTheStoresIsUnknown) {
  const std::uint64_t revision = put("/a", "1");
  RangeRequest request;
  request.revision = revision + 1;
  EXPECT_EQ(code_of(range(request)), Errc::unknown);
  EXPECT_EQ(code_of(watch("/", revision + 2, [](const Event&) {})), Errc::unknown);
}

TEST_P(MetaStoreSuite, CompactedHistoryIsRefusedNeverShortened) {
  put("/a", "1");
  put("/gone", "1");
  const std::uint64_t kept = put("/a", "2");
  put("/gone", std::nullopt);
  put("/a", "3");
  backend_->compact(kept);
  RangeRequest request;
  request.revision = kept - 1;
  EXPECT_EQ(code_of(range(request)), Errc::compacted);
  EXPECT_EQ(code_of(watch("/", kept, [](const Event&) {})), Errc::compacted);
  EXPECT_EQ(all("/", kept, 1), (std::map<std::string, std::string>{{"/a", "2"}, {"/gone", "1"}}));
  EXPECT_EQ(all("/", 0, 1), (std::map<std::string, std::string>{{"/a", "3"}}));
  std::vector<std::uint64_t> seen;
  const auto later = watch(
      "/", kept + 1, [&seen](const Event& event) { seen.push_back(event.entry.mod_revision); });
  ASSERT_TRUE(later.has_value());
  settle();
  EXPECT_EQ(seen, (std::vector<std::uint64_t>{kept + 1, kept + 2}));
}

TEST_P(MetaStoreSuite, WatchTellsPastAndPresentOnceInOrder) {
  const std::uint64_t first = put("/w/a", "1");
  put("/other", "1");
  put("/w/a", std::nullopt);
  std::vector<std::string> seen;
  const auto handle = watch("/w/", first, [&seen](const Event& event) {
    seen.push_back(std::to_string(event.entry.mod_revision) + event.entry.key +
                   (event.removed ? "-" : "=" + event.entry.value));
  });
  ASSERT_TRUE(handle.has_value());
  put("/w/b", "2");
  put("/other", "2");
  put("/w/b", "3");
  settle();
  EXPECT_EQ(seen, (std::vector<std::string>{"2/w/a=1", "4/w/a-", "5/w/b=2", "7/w/b=3"}));
}

TEST_P(MetaStoreSuite, WatchFromNowTellsNothingOfThePast) {
  put("/a", "1");
  std::vector<std::string> seen;
  const auto handle =
      watch("", 0, [&seen](const Event& event) { seen.push_back(event.entry.value); });
  ASSERT_TRUE(handle.has_value());
  put("/a", "2");
  settle();
  EXPECT_EQ(seen, std::vector<std::string>{"2"});
}

TEST_P(MetaStoreSuite, WatchMarksTheLastEventOfEachRevision) {
  std::map<std::uint64_t, std::vector<bool>> lasts;
  const auto handle = watch("/w/", 2, [&lasts](const Event& event) {
    lasts[event.entry.mod_revision].push_back(event.last);
  });
  ASSERT_TRUE(handle.has_value());
  Txn request;
  request.then_ops = {{"/w/1", "x"}, {"/v", "x"}, {"/w/2", "x"}, {"/w/3", "x"}, {"/x", "x"}};
  ASSERT_TRUE(txn(request).has_value());
  put("/w/1", std::nullopt);
  settle();
  EXPECT_EQ(lasts[2], (std::vector<bool>{false, false, true}));
  EXPECT_EQ(lasts[3], std::vector<bool>{true});
}

TEST_P(MetaStoreSuite, WatchOfALongPastMissesNothing) {
  constexpr std::uint64_t kChanges = 2500;
  Txn request;
  for (std::uint64_t i = 0; i < kChanges / 5; ++i) {
    request.then_ops.clear();
    for (int k = 0; k < 5; ++k) request.then_ops.push_back(Op{"/" + std::to_string(k), "v"});
    ASSERT_TRUE(txn(request).has_value());
  }
  std::map<std::uint64_t, int> seen;
  const auto handle = watch("/", 2, [&seen](const Event& e) { ++seen[e.entry.mod_revision]; });
  ASSERT_TRUE(handle.has_value());
  settle();
  EXPECT_EQ(seen.size(), kChanges / 5);
  EXPECT_TRUE(std::all_of(seen.begin(), seen.end(), [](const auto& at) { return at.second == 5; }));
}

TEST_P(MetaStoreSuite, DestroyedWatchHearsNothingMore) {
  int outside = 0;
  int inside = 0;
  auto ended = watch("/", 0, [&outside](const Event&) { ++outside; });
  std::unique_ptr<Watch> self;
  auto ends_itself = watch("/", 0, [&inside, &self](const Event&) {
    ++inside;
    self = nullptr;
  });
  ASSERT_TRUE(ended.has_value() && ends_itself.has_value());
  self = std::move(*ends_itself);
  *ended = nullptr;
  Txn two;
  two.then_ops = {{"/a", "1"}, {"/b", "1"}};
  ASSERT_TRUE(txn(two).has_value());
  put("/a", "2");
  settle();
  EXPECT_EQ(outside, 0);
  EXPECT_EQ(inside, 1);
}

namespace suite_detail {
/// Adds one to a counter `times` times by compare and set.
inline Task<void> count_up(MetaStore& store, int times, int& won) {
  const std::string key = "/counter";
  while (times > 0) {
    const auto now = co_await store.get(key);
    if (!now) co_return;
    const int value = now->entry ? std::stoi(now->entry->value) : 0;
    Compare compare;
    compare.key = key;
    compare.what = now->entry ? now->entry->mod_revision : 0;
    Op op;
    op.key = key;
    op.put = std::to_string(value + 1);
    Txn request;
    request.compares.push_back(std::move(compare));
    request.then_ops.push_back(std::move(op));
    const auto answer = co_await store.txn(std::move(request));
    if (!answer) co_return;
    if (!answer->held) continue;
    ++won;
    --times;
  }
}

inline Task<void> put_once(MetaStore& store, int number, int& won) {
  Op op;
  op.key = "/" + std::to_string(number);
  op.put = "v";
  Txn request;
  request.then_ops.push_back(std::move(op));
  const auto answer = co_await store.txn(std::move(request));
  if (answer) ++won;
}

}  // namespace suite_detail

TEST_P(MetaStoreSuite, RacingCompareAndSetLosesNoIncrement) {
  constexpr int kTasks = 8;
  constexpr int kTimes = 10;
  int won = 0;
  for (int i = 0; i < kTasks; ++i) {
    backend_->spawn(suite_detail::count_up(store(), kTimes, won));
  }
  EXPECT_TRUE(backend_->run_until([&won] { return won == kTasks * kTimes; }));
  EXPECT_EQ(value_of("/counter"), std::to_string(kTasks * kTimes));
}

TEST_P(MetaStoreSuite, AnsweredChangesSurviveRestartAndCrash) {
  if (!backend_->is_durable()) return;
  const std::uint64_t first = put("/a", "1");
  put("/b", "1");
  backend_->restart();
  EXPECT_EQ(value_of("/a"), "1");
  put("/a", "2");
  put("/b", std::nullopt);
  backend_->crash();
  EXPECT_EQ(value_of("/a"), "2");
  EXPECT_EQ(value_of("/b"), std::nullopt);
  EXPECT_EQ(all("/", first, 1), (std::map<std::string, std::string>{{"/a", "1"}}));
  EXPECT_EQ(put("/c", "1"), first + 4);
}

TEST_P(MetaStoreSuite, AnswersOfLongHistoryEqualTheModel) {
  Random random(20);
  using Content = std::map<std::string, std::string>;
  std::map<std::uint64_t, Content> oracle;
  Content now;
  std::uint64_t oldest = 1;
  oracle[1] = now;
  for (int step = 0; step < 300; ++step) {
    Txn request;
    std::set<std::string> keys;
    while (keys.size() < 1 + random.below(3)) keys.insert("/" + std::to_string(random.below(12)));
    for (const std::string& key : keys) {
      std::optional<std::string> value;
      if (!random.one_in(3)) value = std::to_string(step);
      request.then_ops.push_back(Op{key, value});
      now.erase(key);
      if (value) now[key] = *value;
    }
    const auto answer = txn(request);
    ASSERT_TRUE(answer.has_value());
    oracle[answer->revision] = now;
    if (random.one_in(20)) {
      oldest += random.below(answer->revision - oldest + 1);
      backend_->compact(oldest);
    }
    if (random.one_in(50) && backend_->is_durable()) backend_->crash();
    const std::uint64_t at = oldest + random.below(answer->revision - oldest + 1);
    ASSERT_EQ(all("/", at, 5), oracle[at]) << "at " << at << " of " << answer->revision;
    ASSERT_EQ(all("/", 0, 3), now);
  }
}

}  // namespace vmstore::meta
