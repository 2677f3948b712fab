// SPDX-License-Identifier: Apache-2.0
// The embedded catalogue: the suite, then its folder and its own limits.
#include <filesystem>
#include <fstream>

#include "meta/rocks_store.h"
#include "tests/conformance/meta_store_suite.h"
#include "tests/conformance/temp_folder.h"
#include "tests/support/code_of.h"
#include "tests/support/crash_points.h"
#include "tests/support/sim_worker_pool.h"

namespace vmstore::meta {
namespace {

namespace fs = std::filesystem;

class RocksBackend final : public SimMetaBackend {
 public:
  explicit RocksBackend(RocksOptions options = {}) : options_(options) { start(true); }
  ~RocksBackend() override { stop(); }
  sim::VirtualScheduler& process() override { return *process_; }
  MetaStore& store() override { return *store_; }
  RocksStore& rocks() { return *store_; }
  void compact(std::uint64_t revision) override {
    EXPECT_TRUE(sim::run(*process_, store_->compact(revision)).has_value());
  }
  void restart() override {
    EXPECT_TRUE(sim::run(*process_, store_->close()).has_value());
    stop();
    start(false);
  }
  void crash() override {
    stop();
    start(false);
  }
  [[nodiscard]] const std::string& folder() const { return folder_.path(); }
  void stop() {
    if (process_ != nullptr) process_->kill();
    store_ = nullptr;
    process_ = nullptr;
  }

 private:
  void start(bool create) {
    process_ = std::make_unique<sim::VirtualScheduler>(world_, "rocks");
    auto opened = sim::run(*process_,
                           create ? RocksStore::create(*process_, pool_, folder(), options_)
                                  : RocksStore::open(*process_, pool_, folder(), options_));
    ASSERT_TRUE(opened.has_value()) << opened.error();
    store_ = std::move(*opened);
  }
  RocksOptions options_;
  TempFolder folder_;
  sim::World world_{1};
  sim::SimWorkerPool pool_{world_};
  std::unique_ptr<sim::VirtualScheduler> process_;
  std::unique_ptr<RocksStore> store_;
};

std::unique_ptr<MetaBackend> make_rocks() {
  return std::make_unique<RocksBackend>();
}

INSTANTIATE_TEST_SUITE_P(Rocks,
                         MetaStoreSuite,
                         ::testing::Values(MetaBackendMaker{"rocks", make_rocks}),
                         [](const auto& made) { return made.param.name; });

void write_text(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
}

TEST(RocksFolder, EachKindOfWrongFolderIsItsOwnError) {
  const TempFolder folder;
  EXPECT_EQ(code_of(RocksTables::open(folder.path() + "/none")), Errc::not_found);
  EXPECT_EQ(code_of(RocksTables::open(folder.path())), Errc::unknown);
  write_text(folder.path() + "/somebody.txt", "hello");
  EXPECT_EQ(code_of(RocksTables::open(folder.path())), Errc::foreign_store);
  EXPECT_EQ(code_of(RocksTables::create(folder.path(), {}, 1)), Errc::foreign_store);
  EXPECT_FALSE(fs::exists(folder.path() + "/lock"));
}

TEST(RocksFolder, NewerFormatIsRefusedAndNotTouched) {
  const TempFolder folder;
  ASSERT_TRUE(RocksTables::create(folder.path(), {}, 1).has_value());
  write_text(folder.path() + "/format", "vmstore metadata 2 complete\n");
  const auto before = fs::last_write_time(folder.path() + "/db");
  EXPECT_EQ(code_of(RocksTables::open(folder.path())), Errc::newer_format);
  EXPECT_EQ(code_of(RocksTables::create(folder.path(), {}, 1)), Errc::newer_format);
  EXPECT_EQ(fs::last_write_time(folder.path() + "/db"), before);
  for (const char* text : {"vmstore metadata x complete\n", "vmstore metadata 1 comp", ""}) {
    write_text(folder.path() + "/format", text);
    EXPECT_FALSE(RocksTables::open(folder.path()).has_value()) << text;
  }
}

TEST(RocksFolder, StoreThatIsInUseIsBusy) {
  const TempFolder folder;
  const auto used = RocksTables::create(folder.path(), {}, 1);
  ASSERT_TRUE(used.has_value());
  EXPECT_EQ(code_of(RocksTables::open(folder.path())), Errc::busy);
  EXPECT_EQ(code_of(RocksTables::create(folder.path(), {}, 1)), Errc::busy);
}

TEST(RocksFolder, ExistingStoreIsNeverMadeAnew) {
  const TempFolder folder;
  ASSERT_TRUE(RocksTables::create(folder.path(), {}, 1).has_value());
  EXPECT_EQ(code_of(RocksTables::create(folder.path(), {}, 1)), Errc::exists);
  fs::remove(folder.path() + "/format");
  EXPECT_EQ(code_of(RocksTables::open(folder.path())), Errc::unknown);
  EXPECT_EQ(code_of(RocksTables::create(folder.path(), {}, 1)), Errc::foreign_store);
}

TEST(RocksFolder, LostDatabaseIsNotAnEmptyCatalogue) {
  const TempFolder folder;
  ASSERT_TRUE(RocksTables::create(folder.path(), {}, 1).has_value());
  fs::remove_all(folder.path() + "/db");
  EXPECT_EQ(code_of(RocksTables::open(folder.path())), Errc::unknown);
}

TEST(RocksFolder, MakingThatWasCutShortIsNoStoreAndCanBeRepeated) {
  const TempFolder folder;
  const Changes content = {{{"/a", "1", 5}, false}, {{"/b", "2", 7}, false}};
  ASSERT_TRUE(RocksTables::create(folder.path(), content, 9).has_value());
  write_text(folder.path() + "/format", "vmstore metadata 1 being made\n");
  EXPECT_EQ(code_of(RocksTables::open(folder.path())), Errc::unknown);
  const auto again = RocksTables::create(folder.path(), content, 9);
  ASSERT_TRUE(again.has_value());
  const auto b = (*again)->get("/b");
  ASSERT_TRUE(b.has_value() && b->entry.has_value());
  EXPECT_EQ(b->entry->mod_revision, 7U);
  EXPECT_EQ(b->revision, 9U);
  EXPECT_EQ(code_of((*again)->history(9, 10)), Errc::compacted);
}

/// Damages the write-ahead log of a database that was not closed: copies the folder while it is
/// open, as a power cut would leave it, and changes the copy.
class CopiedFolder {
 public:
  explicit CopiedFolder(const std::string& source) {
    fs::copy(source, folder_.path(), fs::copy_options::recursive);
  }
  [[nodiscard]] const std::string& path() const { return folder_.path(); }
  [[nodiscard]] std::string log() const {
    for (const auto& entry : fs::directory_iterator(path() + "/db")) {
      if (entry.path().extension() == ".log" && entry.file_size() > 0) return entry.path();
    }
    return "";
  }

 private:
  TempFolder folder_;
};

Result<std::unique_ptr<RocksTables>> hundred_changes(const std::string& folder) {
  VMS_TRY(auto tables, RocksTables::create(folder, {}, 1));
  for (int i = 0; i < 100; ++i) {
    Txn txn;
    txn.then_ops.push_back(Op{"/" + std::to_string(i), std::string(100, 'v')});
    VMS_CHECK(tables->apply(std::span(&txn, 1)));
  }
  return tables;
}

TEST(RocksTables, AnsweredChangeSurvivesThePowerCut) {
  const TempFolder folder;
  const auto tables = hundred_changes(folder.path());
  ASSERT_TRUE(tables.has_value());
  const CopiedFolder copy(folder.path());
  const auto after = RocksTables::open(copy.path());
  ASSERT_TRUE(after.has_value());
  EXPECT_EQ((*after)->revision().value(), 101U);
}

TEST(RocksTables, DamageInsideTheLogIsAnErrorNeverAShorterCatalogue) {
  const TempFolder folder;
  const auto tables = hundred_changes(folder.path());
  ASSERT_TRUE(tables.has_value());
  const CopiedFolder copy(folder.path());
  const std::string log = copy.log();
  ASSERT_FALSE(log.empty());
  std::fstream file(log, std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(static_cast<std::streamoff>(fs::file_size(log) / 2));
  file << "damage";
  file.close();
  const auto after = RocksTables::open(copy.path());
  ASSERT_FALSE(after.has_value());
  EXPECT_EQ(code_of(after), Errc::corrupt);
}

TEST(RocksTables, WriteThatFailedEndsServiceUntilTheFolderIsOpenedAgain) {
  const TempFolder folder;
  auto tables = hundred_changes(folder.path());
  ASSERT_TRUE(tables.has_value());
  // A file size limit makes the next write fail; the signal it would send is ignored.
  const FileSizeLimit limit(1);
  Txn txn;
  txn.then_ops.push_back(Op{"/new", "v"});
  EXPECT_EQ(code_of((*tables)->apply(std::span(&txn, 1))), Errc::unknown);
  EXPECT_EQ(code_of((*tables)->get("/new")), Errc::unavailable);
  EXPECT_EQ(code_of((*tables)->apply(std::span(&txn, 1))), Errc::unavailable);
  limit.lift();
  *tables = nullptr;
  const auto after = RocksTables::open(folder.path());
  ASSERT_TRUE(after.has_value()) << after.error();
  EXPECT_GE((*after)->revision().value(), 101U);
}

TEST(RocksStore, HistoryIsBoundedByNumber) {
  RocksOptions options;
  options.keep_revisions = 40;
  RocksBackend backend(options);
  for (int i = 0; i < 200; ++i) {
    Txn txn;
    txn.then_ops.push_back(Op{"/a", std::to_string(i)});
    ASSERT_TRUE(sim::run(backend.process(), backend.store().txn(txn)).has_value());
  }
  backend.process().world().run_for(std::chrono::seconds(1));
  RangeRequest request;
  request.revision = 201 - 55;
  EXPECT_EQ(code_of(sim::run(backend.process(), backend.store().range(request))), Errc::compacted);
  request.revision = 201 - 40;
  EXPECT_TRUE(sim::run(backend.process(), backend.store().range(request)).has_value());
}

TEST(RocksStore, HistoryIsBoundedByTime) {
  RocksOptions options;
  options.keep_time = std::chrono::minutes(16);
  RocksBackend backend(options);
  std::map<std::uint64_t, TimePoint> made;
  for (int i = 0; i < 60; ++i) {
    Txn txn;
    txn.then_ops.push_back(Op{"/a", std::to_string(i)});
    const auto answer = sim::run(backend.process(), backend.store().txn(txn));
    ASSERT_TRUE(answer.has_value());
    made[answer->revision] = backend.process().now();
    backend.process().world().run_for(std::chrono::minutes(1));
  }
  for (const auto& [revision, time] : made) {
    RangeRequest request;
    request.revision = revision;
    const auto answer = sim::run(backend.process(), backend.store().range(request));
    const auto age = made.rbegin()->second - time;
    if (age > std::chrono::minutes(18)) {
      EXPECT_EQ(code_of(answer), Errc::compacted) << revision;
    } else if (age < std::chrono::minutes(16)) {
      EXPECT_TRUE(answer.has_value()) << revision;
    }
  }
}

// A device that is full for a while: no answer is given that might not hold, and afterwards the
// store serves again without a restart; its watch is told of what turned out to be there, once.
TEST(RocksStore, FullDeviceStopsServiceUntilItHasSpaceAgain) {
  RocksBackend backend;
  sim::VirtualScheduler& process = backend.process();
  std::vector<std::uint64_t> told;
  const auto watch = sim::run(process, backend.store().watch("", 0, [&told](const Event& event) {
    told.push_back(event.entry.mod_revision);
  }));
  ASSERT_TRUE(watch.has_value());
  Txn txn;
  txn.then_ops.push_back(Op{"/a", std::string(5000, 'v')});
  ASSERT_TRUE(sim::run(process, backend.store().txn(txn)).has_value());
  {
    const FileSizeLimit limit(1);
    EXPECT_EQ(code_of(sim::run(process, backend.store().txn(txn))), Errc::unknown);
    EXPECT_EQ(code_of(sim::run(process, backend.store().get("/a"))), Errc::unavailable);
    process.world().run_for(std::chrono::seconds(5));  // it tries, in vain
    EXPECT_EQ(code_of(sim::run(process, backend.store().txn(txn))), Errc::unavailable);
  }
  process.world().run_for(std::chrono::seconds(5));
  const auto answer = sim::run(process, backend.store().txn(txn));
  ASSERT_TRUE(answer.has_value()) << answer.error();
  process.world().run_for(std::chrono::seconds(1));
  ASSERT_GE(told.size(), 2U);
  for (std::size_t i = 0; i < told.size(); ++i) EXPECT_EQ(told[i], 2 + i);
  EXPECT_EQ(told.back(), answer->revision);
}

TEST(RocksStore, RoomIsAskedForBeforeAChangeAndAfterOneFailed) {
  std::optional<FileSizeLimit> full;
  bool gives_before = true;
  RocksOptions options;
  options.make_room = [&](bool failed) {
    if (failed || gives_before) full.reset();
  };
  RocksBackend backend(options);
  Txn txn;
  txn.then_ops.push_back(Op{"/a", std::string(5000, 'v')});
  full.emplace(1);
  ASSERT_TRUE(sim::run(backend.process(), backend.store().txn(txn)).has_value());
  gives_before = false;
  full.emplace(1);
  EXPECT_EQ(code_of(sim::run(backend.process(), backend.store().txn(txn))), Errc::unknown);
  backend.process().world().run_for(std::chrono::seconds(3));
  ASSERT_TRUE(sim::run(backend.process(), backend.store().txn(txn)).has_value());
}

TEST(RocksStore, WaitingTransactionsShareOneSync) {
  RocksBackend backend;
  sim::CrashPoints points(backend.process().world());
  int won = 0;
  for (int i = 0; i < 32; ++i) {
    backend.process().spawn(suite_detail::put_once(backend.store(), i, won));
  }
  backend.process().world().run_for(std::chrono::seconds(1));
  EXPECT_EQ(won, 32);
  EXPECT_LE(points.hits().at("meta.rocks.before_write"), 2U);
}

}  // namespace
}  // namespace vmstore::meta
