// SPDX-License-Identifier: Apache-2.0
// The embedded catalogue with its log: the suite, the rebuild from the log, and crashes between the
// two.
#include "meta/logged_store.h"
#include "meta/mem_store.h"
#include "meta/rebuild.h"
#include "meta/records.h"
#include "meta/rocks_store.h"
#include "meta/schema.h"
#include "tests/conformance/meta_store_suite.h"
#include "tests/conformance/temp_folder.h"
#include "tests/support/code_of.h"
#include "tests/support/crash_points.h"
#include "tests/support/memory_files.h"
#include "tests/support/sim_worker_pool.h"

namespace vmstore::meta {
namespace {

const std::string kLog = "catalogue.log";

class LoggedRocksBackend final : public SimMetaBackend {
 public:
  LoggedRocksBackend() { start(true); }
  ~LoggedRocksBackend() override { stop(); }
  sim::VirtualScheduler& process() override { return *process_; }
  MetaStore& store() override { return *logged_; }
  void compact(std::uint64_t revision) override {
    EXPECT_TRUE(sim::run(*process_, rocks_->compact(revision)).has_value());
  }
  void restart() override {
    sim::run(*process_, logged_->close());
    logged_ = nullptr;
    EXPECT_TRUE(sim::run(*process_, rocks_->close()).has_value());
    stop();
    files_.restart();
    start(false);
  }
  void crash() override {
    stop();
    files_.crash(random_);
    start(false);
  }
  void stop() {
    if (process_ != nullptr) process_->kill();
    logged_ = nullptr;
    rocks_ = nullptr;
    process_ = nullptr;
  }
  void start(bool create) {
    process_ = std::make_unique<sim::VirtualScheduler>(world_, "node");
    auto opened = sim::run(*process_,
                           create ? RocksStore::create(*process_, pool_, folder(), {})
                                  : RocksStore::open(*process_, pool_, folder(), {}));
    ASSERT_TRUE(opened.has_value()) << opened.error();
    rocks_ = std::move(*opened);
    const LoggedStore::Parts parts{*process_, pool_, files_, kLog, *rocks_, rocks_.get()};
    auto logged = sim::run(
        *process_, LoggedStore::open(parts, create ? LogStart::make_missing : LogStart::need));
    ASSERT_TRUE(logged.has_value()) << logged.error();
    logged_ = std::move(*logged);
  }
  [[nodiscard]] sim::MemoryFiles& files() { return files_; }
  [[nodiscard]] const std::string& folder() const { return folder_->path(); }
  void lose_folder() { folder_ = std::make_unique<TempFolder>(); }

 private:
  std::unique_ptr<TempFolder> folder_ = std::make_unique<TempFolder>();
  Random random_{3};
  sim::World world_{1};
  sim::SimWorkerPool pool_{world_};
  sim::MemoryFiles files_;
  std::unique_ptr<sim::VirtualScheduler> process_;
  std::unique_ptr<RocksStore> rocks_;
  std::unique_ptr<LoggedStore> logged_;
};

std::unique_ptr<MetaBackend> make_logged() {
  return std::make_unique<LoggedRocksBackend>();
}

INSTANTIATE_TEST_SUITE_P(LoggedRocks,
                         MetaStoreSuite,
                         ::testing::Values(MetaBackendMaker{"logged_rocks", make_logged}),
                         [](const auto& made) { return made.param.name; });

std::string store_value(std::uint64_t catalogue) {
  pb::StoreRecord record;
  *record.mutable_id() = to_pb(StoreId{1, 2});
  record.set_format(kStoreFormat);
  record.set_catalogue(catalogue);
  return encode(record);
}

Result<TxnAnswer> put(SimMetaBackend& backend, const std::string& key, const std::string& value) {
  Txn request;
  request.then_ops.push_back(Op{key, value});
  return sim::run(backend.process(), backend.store().txn(std::move(request)));
}

// The store's folder is lost with everything in it; the log gives every answered change back, under
// a new catalogue number and above every revision that was given out.
TEST(C14_rebuild_catalogue, FromTheLogOfTheOnlyNode) {
  LoggedRocksBackend backend;
  put(backend, std::string(kStoreKey), store_value(0)).value();
  std::map<std::string, std::string> oracle;
  for (int i = 0; i < 300; ++i) {
    const std::string key = "/disk/" + std::to_string(i % 50);
    oracle[key] = std::to_string(i);
    put(backend, key, oracle[key]).value();
  }
  const std::uint64_t last = put(backend, "/gone", "x")->revision;
  Txn removal;
  removal.then_ops.push_back(Op{"/gone", std::nullopt});
  sim::run(backend.process(), backend.store().txn(removal)).value();
  backend.stop();
  backend.lose_folder();
  backend.files().restart();

  auto image = CatalogueLog::load(backend.files(), kLog);
  ASSERT_TRUE(image.has_value());
  const std::vector<LogSource> sources = {{"node1", std::move(*image)}};
  const auto rebuilt = plan_rebuild(sources, 77);
  ASSERT_TRUE(rebuilt.has_value());
  ASSERT_TRUE(rebuild_rocks(*rebuilt, backend.files(), kLog, backend.folder()).has_value());
  backend.start(false);

  for (const auto& [key, value] : oracle) {
    const auto answer = sim::run(backend.process(), backend.store().get(key));
    ASSERT_TRUE(answer.has_value() && answer->entry.has_value()) << key;
    EXPECT_EQ(answer->entry->value, value);
    EXPECT_LE(answer->entry->mod_revision, last);
    EXPECT_GT(answer->revision, last + 1'000'000);
  }
  const auto gone = sim::run(backend.process(), backend.store().get("/gone"));
  EXPECT_FALSE(gone->entry.has_value());
  const auto store = sim::run(backend.process(), backend.store().get(std::string(kStoreKey)));
  const auto record = decode<pb::StoreRecord>(store->entry->value);
  EXPECT_EQ(record->catalogue(), (std::uint64_t{1} << 32) | 77);
  EXPECT_EQ(from_pb<StoreId>(record->id()), (StoreId{1, 2}));
}

TEST(C14_rebuild_catalogue, EmptyStoreBesideAFullLogIsRefusedNotServed) {
  LoggedRocksBackend backend;
  put(backend, std::string(kStoreKey), store_value(0)).value();
  backend.stop();
  backend.lose_folder();
  backend.files().restart();
  ASSERT_TRUE(RocksTables::create(backend.folder(), {}, kFirstRevision).has_value());
  sim::World world(1);
  sim::VirtualScheduler process(world, "node");
  sim::SimWorkerPool pool(world);
  auto rocks = sim::run(process, RocksStore::open(process, pool, backend.folder(), {}));
  ASSERT_TRUE(rocks.has_value());
  const LoggedStore::Parts parts{process, pool, backend.files(), kLog, **rocks, rocks->get()};
  const auto logged = sim::run(process, LoggedStore::open(parts, LogStart::need));
  EXPECT_EQ(code_of(logged), Errc::foreign_store);
  process.kill();
}

/// A store in memory that survives, and a log on a device that loses what was not synced.
class LoggedMem {
 public:
  explicit LoggedMem(std::uint64_t seed) : world_(seed) { start(LogStart::make_missing); }
  ~LoggedMem() { stop(); }
  LoggedMem(const LoggedMem&) = delete;
  LoggedMem& operator=(const LoggedMem&) = delete;

  Errc start(LogStart how) {
    process_ = std::make_unique<sim::VirtualScheduler>(world_, "node");
    mem_ = std::make_unique<MemStore>(*process_, catalogue);
    process_->on_freeze([this] { files.freeze(); });
    LoggedStore::Parts parts{*process_, pool_, files, kLog, *mem_, mem_.get()};
    parts.make_room = [this](bool failed) { ask_for_room(make_room, failed); };
    auto opened = sim::run(*process_, LoggedStore::open(parts, how));
    if (!opened) return opened.error().code;
    logged_ = std::move(*opened);
    return Errc::ok;
  }
  void stop() {
    if (process_ != nullptr) process_->kill();
    logged_ = nullptr;
    mem_ = nullptr;
    process_ = nullptr;
  }
  void cut_power() {
    stop();
    files.crash(world_.random());
  }
  Errc crash() {
    cut_power();
    return start(LogStart::need);
  }
  [[nodiscard]] sim::VirtualScheduler& process() { return *process_; }
  [[nodiscard]] LoggedStore& logged() { return *logged_; }
  [[nodiscard]] MemStore& mem() { return *mem_; }
  [[nodiscard]] sim::World& world() { return world_; }

  std::shared_ptr<MemCatalogue> catalogue = std::make_shared<MemCatalogue>();
  sim::MemoryFiles files;
  MakeRoom make_room;

 private:
  sim::World world_;
  sim::SimWorkerPool pool_{world_};
  std::unique_ptr<sim::VirtualScheduler> process_;
  std::unique_ptr<MemStore> mem_;
  std::unique_ptr<LoggedStore> logged_;
};

using Oracle = std::map<std::string, std::string>;  // what was answered

Task<void> write_keys(LoggedStore& store, Oracle& answered, int first, int count) {
  for (int i = 0; i < count; ++i) {
    Op op;
    op.key = "/k" + std::to_string(first + i % 7);
    op.put = std::to_string(first) + "." + std::to_string(i) + std::string(200, 'v');
    const Op copy = op;
    Op twin;
    twin.key = "/twin" + op.key;
    twin.put = op.put;
    Txn request;
    request.then_ops.push_back(std::move(op));
    request.then_ops.push_back(std::move(twin));
    const auto answer = co_await store.txn(std::move(request));
    if (answer) answered[copy.key] = *copy.put;
  }
}

/// What readers were shown, too, counts as answered.
Task<void> read_keys(LoggedStore& store, Oracle& seen, int first, int count) {
  for (int i = 0; i < count; ++i) {
    const std::string key = "/k" + std::to_string(first + i % 7);
    const auto answer = co_await store.get(key);
    if (answer && answer->entry) seen[key] = answer->entry->value;
  }
}

/// The number that write_keys put into a value.
int step_of(const std::string& value) {
  return std::stoi(value.substr(value.find('.') + 1));
}

void expect_log_has(LoggedMem& node, const Oracle& answered, const std::string& where) {
  const auto image = CatalogueLog::load(node.files, kLog);
  ASSERT_TRUE(image.has_value()) << where << ": " << image.error();
  for (const auto& [key, value] : answered) {
    const auto found = image->entries.find(key);
    ASSERT_NE(found, image->entries.end()) << where << ": " << key;
    EXPECT_GE(step_of(found->second.value), step_of(value)) << where << ": " << key;
  }
  for (const auto& [key, entry] : image->entries) {  // a txn is there as a whole or not at all
    if (!key.starts_with("/k")) continue;
    ASSERT_TRUE(image->entries.contains("/twin" + key)) << where << ": " << key;
    EXPECT_EQ(image->entries.at("/twin" + key).value, entry.value) << where << ": " << key;
  }
}

// Goal: whatever instant the power goes, the log has every change that was answered or shown, and
// after the next start store and log are equal. Method: writers and readers run until the n-th
// fault point or file change, for every n until the run ends by itself.
TEST(LoggedStore, LogNeverMissesAnAnsweredChangeWhereverThePowerGoes) {
  constexpr int kWrites = 30;
  for (std::uint64_t nth = 1; nth < 400; ++nth) {
    LoggedMem node(nth);
    Oracle answered;
    Oracle seen;
    sim::VirtualScheduler& process = node.process();
    node.files.freeze_at_change(nth, [&process] { process.freeze(); });
    for (int task = 0; task < 3; ++task) {
      process.spawn(write_keys(node.logged(), answered, 100 * task, kWrites));
      process.spawn(read_keys(node.logged(), seen, 100 * task, kWrites));
    }
    node.world().run_for(std::chrono::minutes(1));
    const bool ended = !process.is_frozen();
    node.files.cancel_freeze();
    const std::string where = "change " + std::to_string(nth);
    node.cut_power();
    expect_log_has(node, answered, where);
    expect_log_has(node, seen, where);
    ASSERT_EQ(node.start(LogStart::need), Errc::ok) << where;
    EXPECT_EQ(node.logged().logged_revision(), node.catalogue->revision()) << where;
    if (ended) return;
  }
  FAIL() << "the run never ended by itself";
}

TEST(LoggedStore, TornEndsAndLaterChangesAlternateWithoutLoss) {
  LoggedMem node(5);
  Oracle answered;
  for (int round = 0; round < 60; ++round) {
    sim::VirtualScheduler& process = node.process();
    const std::uint64_t nth = 1 + node.world().random().below(6);
    node.files.freeze_at_change(nth, [&process] { process.freeze(); });
    process.spawn(write_keys(node.logged(), answered, 0, 7));
    node.world().run_for(std::chrono::minutes(1));
    node.files.cancel_freeze();
    node.cut_power();
    expect_log_has(node, answered, "round " + std::to_string(round));
    ASSERT_EQ(node.start(LogStart::need), Errc::ok) << round;
    const auto image = CatalogueLog::load(node.files, kLog);
    ASSERT_TRUE(image.has_value()) << round;
    EXPECT_EQ(image->revision, node.catalogue->revision());
    answered.clear();  // the next round writes the same keys from step 0 again
  }
}

Task<void> write_large(LoggedStore& store, int number, int& done) {
  Txn request;
  for (int i = 0; i < 8; ++i) {
    Op op;
    op.key = "/" + std::to_string(number) + "/" + std::to_string(i);
    op.put = std::string(60'000, 'v');
    request.then_ops.push_back(std::move(op));
  }
  const auto answer = co_await store.txn(std::move(request));
  if (answer) ++done;
}

TEST(LoggedStore, LargeTransactionsOfManyAreLoggedWhole) {
  LoggedMem node(1);
  int done = 0;
  for (int i = 0; i < 20; ++i) node.process().spawn(write_large(node.logged(), i, done));
  node.world().run_for(std::chrono::seconds(1));
  EXPECT_EQ(done, 20);
  node.cut_power();
  EXPECT_EQ(CatalogueLog::load(node.files, kLog)->entries.size(), 160U);
}

Result<TxnAnswer> put(LoggedMem& node, const std::string& key, const std::string& value) {
  Txn request;
  request.then_ops.push_back(Op{key, value});
  return sim::run(node.process(), node.logged().txn(std::move(request)));
}

TEST(LoggedStore, ChangeThatWasNeverLoggedIsLoggedAtTheNextStart) {
  LoggedMem node(1);
  put(node, "/a", "1").value();
  node.files.fail({sim::FileOperation::sync, kLog, 1, Error(Errc::io_error, 5), true});
  EXPECT_EQ(code_of(put(node, "/a", "2")), Errc::unknown);
  EXPECT_EQ(node.catalogue->revision(), 3U);
  node.files.clear_faults();
  ASSERT_EQ(node.crash(), Errc::ok);
  EXPECT_EQ(CatalogueLog::load(node.files, kLog)->entries.at("/a").value, "2");
}

TEST(LoggedStore, NothingIsAnsweredWhileTheLogCannotBeWritten) {
  LoggedMem node(1);
  put(node, "/a", "1").value();
  node.files.fail({sim::FileOperation::sync, kLog, 1, Error(Errc::io_error, 5), true});
  EXPECT_EQ(code_of(put(node, "/a", "2")), Errc::unknown);
  EXPECT_EQ(code_of(sim::run(node.process(), node.logged().get("/a"))), Errc::unavailable);
  EXPECT_EQ(code_of(put(node, "/a", "3")), Errc::unavailable);
  EXPECT_FALSE(node.logged().takes_changes());
  EXPECT_EQ(node.catalogue->revision(), 3U);
  node.files.clear_faults();
  node.world().run_for(std::chrono::seconds(3));
  EXPECT_TRUE(node.logged().takes_changes());
  EXPECT_EQ(sim::run(node.process(), node.logged().get("/a"))->entry->value, "2");
  put(node, "/a", "3").value();
  ASSERT_EQ(node.crash(), Errc::ok);
  EXPECT_EQ(CatalogueLog::load(node.files, kLog)->entries.at("/a").value, "3");
}

TEST(LoggedStore, ChangeOnAFullFileSystemIsMadeWhereRoomWasKept) {
  LoggedMem node(1);
  const std::string value(3 * kBlockBytes, 'v');
  node.files.set_capacity(node.files.used_bytes());
  node.make_room = [&node](bool) { node.files.set_capacity(sim::MemoryFiles::kUnlimited); };
  put(node, "/a", value).value();
  ASSERT_EQ(node.crash(), Errc::ok);
  EXPECT_EQ(CatalogueLog::load(node.files, kLog)->entries.at("/a").value, value);
}

TEST(LoggedStore, RoomIsGivenToALogThatFoundNone) {
  LoggedMem node(1);
  const std::string value(3 * kBlockBytes, 'v');
  node.files.set_capacity(node.files.used_bytes());
  node.make_room = [&node](bool failed) {
    if (failed) node.files.set_capacity(sim::MemoryFiles::kUnlimited);
  };
  EXPECT_EQ(code_of(put(node, "/a", value)), Errc::unknown);
  node.world().run_for(std::chrono::seconds(3));
  EXPECT_EQ(sim::run(node.process(), node.logged().get("/a"))->entry->value, value);
  put(node, "/b", value).value();
}

/// A store whose watches can be away: what changes meanwhile they are never told, only that they
/// missed it.
class ForgetfulStore final : public MetaStore {
 public:
  explicit ForgetfulStore(MemStore& below) : below_(below) {}
  Task<Result<GetAnswer>> get(std::string key) override { return below_.get(std::move(key)); }
  Task<Result<TxnAnswer>> txn(Txn txn) override { return below_.txn(std::move(txn)); }
  Task<Result<RangeAnswer>> range(RangeRequest request) override {
    return below_.range(std::move(request));
  }
  Task<Result<std::unique_ptr<Watch>>> watch(std::string prefix,
                                             std::uint64_t from,
                                             WatchCallback callback) override {
    auto tell = [this, callback](const Event& event) {
      if (is_away_) missed_.entry.mod_revision = event.entry.mod_revision;
      if (!is_away_) callback(event);
    };
    callback_ = callback;
    return below_.watch(std::move(prefix), from, tell);
  }
  void set_away(bool away) {
    is_away_ = away;
    missed_.gap = true;
    if (!away) callback_(missed_);
  }

 private:
  MemStore& below_;
  WatchCallback callback_;
  Event missed_;
  bool is_away_ = false;
};

// The backend's watch comes back after a compaction: the log must not go on as if it were whole.
TEST(C14_catalogue_log, IsMadeAnewWhenChangesWereMissed) {
  sim::World world(1);
  sim::SimWorkerPool pool(world);
  sim::VirtualScheduler process(world, "node");
  sim::MemoryFiles files;
  MemStore mem(process, std::make_shared<MemCatalogue>());
  ForgetfulStore backend(mem);
  const LoggedStore::Parts parts{process, pool, files, kLog, backend, nullptr};
  auto logged = sim::run(process, LoggedStore::open(parts, LogStart::make_missing));
  ASSERT_TRUE(logged.has_value());
  const auto put_by_another = [&](const std::string& key) {
    Txn request;
    request.then_ops.push_back(Op{key, "1"});
    return sim::run(process, mem.txn(std::move(request))).value().revision;
  };
  put_by_another("/a");
  backend.set_away(true);
  put_by_another("/b");
  const std::uint64_t missed = put_by_another("/c");
  world.run_for(std::chrono::milliseconds(10));
  backend.set_away(false);
  EXPECT_FALSE((*logged)->takes_changes());
  EXPECT_EQ(code_of(sim::run(process, (*logged)->get("/a"))), Errc::unavailable);
  put_by_another("/d");
  world.run_for(std::chrono::seconds(3));
  EXPECT_TRUE((*logged)->takes_changes());
  EXPECT_EQ((*logged)->logged_revision(), missed + 1);
  const auto image = CatalogueLog::load(files, kLog);
  ASSERT_TRUE(image.has_value());
  EXPECT_EQ(image->entries.size(), 4U);
  EXPECT_EQ(image->revision, missed + 1);
  sim::run(process, (*logged)->close());
}

TEST(LoggedStore, StoreThatLostAnsweredChangesIsGivenThemBack) {
  LoggedMem node(1);
  put(node, std::string(kStoreKey), store_value(0)).value();
  put(node, "/a", "1").value();
  put(node, "/b", "1").value();
  auto before = std::make_shared<MemCatalogue>();
  {  // the store as it was when the power should not have taken anything any more
    sim::World world(1);
    sim::VirtualScheduler process(world, "copy");
    MemStore copy(process, before);
    Txn first;
    first.then_ops.push_back(Op{std::string(kStoreKey), store_value(0)});
    sim::run(process, copy.txn(first)).value();
    Txn second;
    second.then_ops.push_back(Op{"/a", "1"});
    sim::run(process, copy.txn(second)).value();
  }
  Txn rest;
  rest.then_ops = {{"/a", "2"}, {"/b", std::nullopt}, {"/c", "1"}};
  sim::run(node.process(), node.logged().txn(rest)).value();
  node.stop();
  node.catalogue = before;
  node.files.restart();
  ASSERT_EQ(node.start(LogStart::need), Errc::ok);
  EXPECT_EQ(node.catalogue->revision(), 5U);
  EXPECT_EQ(sim::run(node.process(), node.logged().get("/a"))->entry->value, "2");
  EXPECT_EQ(sim::run(node.process(), node.logged().get("/a"))->entry->mod_revision, 5U);
  EXPECT_FALSE(sim::run(node.process(), node.logged().get("/b"))->entry.has_value());
  EXPECT_EQ(sim::run(node.process(), node.logged().get("/c"))->entry->value, "1");
  EXPECT_EQ(put(node, "/d", "1")->revision, 6U);
}

TEST(LoggedStore, StoreThatAnswersFromThePastIsNotBelieved) {
  LoggedMem node(1);
  put(node, "/a", "1").value();
  put(node, "/a", "2").value();
  node.mem().plan(MemFault::stale_read);
  EXPECT_EQ(code_of(sim::run(node.process(), node.logged().get("/a"))), Errc::unknown);
  EXPECT_EQ(sim::run(node.process(), node.logged().get("/a"))->entry->value, "2");
}

TEST(LoggedStore, WatchTellsNothingThatIsNotLogged) {
  LoggedMem node(1);
  std::vector<std::string> told;
  auto watch = sim::run(node.process(), node.logged().watch("/", 0, [&](const Event& event) {
    EXPECT_LE(event.entry.mod_revision, node.logged().logged_revision());
    told.push_back(event.entry.value);
  }));
  ASSERT_TRUE(watch.has_value());
  put(node, "/a", "1").value();
  node.files.fail({sim::FileOperation::sync, kLog, 1, Error(Errc::io_error, 5), false});
  EXPECT_EQ(code_of(put(node, "/a", "2")), Errc::unknown);
  EXPECT_EQ(told, std::vector<std::string>{"1"});
  node.world().run_for(std::chrono::seconds(3));
  EXPECT_EQ(told, (std::vector<std::string>{"1", "2"}));
}

TEST(LoggedStore, MissingLogIsMadeOnlyWhenAsked) {
  LoggedMem node(1);
  put(node, "/a", "1").value();
  node.stop();
  node.files.restart();
  ASSERT_TRUE(node.files.remove(kLog).has_value());
  EXPECT_EQ(node.start(LogStart::need), Errc::not_found);
  node.stop();
  node.files.restart();
  EXPECT_EQ(node.start(LogStart::make_missing), Errc::ok);
  EXPECT_EQ(CatalogueLog::load(node.files, kLog)->entries.at("/a").value, "1");
}

TEST(LoggedStore, DamagedLogIsReplacedOnlyByTheOperatorAndKept) {
  LoggedMem node(1);
  put(node, "/a", "1").value();
  put(node, "/a", "2").value();
  node.stop();
  node.files.restart();
  ASSERT_TRUE(node.files.flip_bit(kLog, log_format::kHeaderBytes + 20, 3));
  EXPECT_EQ(node.start(LogStart::make_missing), Errc::unknown);
  node.stop();
  node.files.restart();
  EXPECT_EQ(node.start(LogStart::replace), Errc::ok);
  EXPECT_EQ(CatalogueLog::load(node.files, kLog)->entries.at("/a").value, "2");
  EXPECT_EQ(code_of(CatalogueLog::load(node.files, kLog + ".old")), Errc::unknown);
}

TEST(LoggedStore, LogStaysWithinTwiceWhatIsLive) {
  LoggedMem node(1);
  for (int i = 0; i < 400; ++i) {
    put(node, "/a", std::string(5000, static_cast<char>('a' + i % 26))).value();
  }
  node.world().run_for(std::chrono::seconds(1));
  EXPECT_LT(node.files.used_bytes(), 600'000U);
  ASSERT_EQ(node.crash(), Errc::ok);
  EXPECT_EQ(sim::run(node.process(), node.logged().get("/a"))->entry->mod_revision, 401U);
}

}  // namespace
}  // namespace vmstore::meta
