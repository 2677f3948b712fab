// SPDX-License-Identifier: Apache-2.0
// The catalogue in memory: the suite without faults, then what each fault does.
#include "meta/mem_store.h"
#include "tests/conformance/meta_store_suite.h"
#include "tests/support/code_of.h"

namespace vmstore::meta {
namespace {

class MemBackend final : public SimMetaBackend {
 public:
  MemBackend() { start(); }
  sim::VirtualScheduler& process() override { return *process_; }
  MetaStore& store() override { return *store_; }
  MemStore& mem() { return *store_; }
  void compact(std::uint64_t revision) override { catalogue_->compact(revision); }
  void restart() override { crash(); }
  void crash() override {
    process_->kill();
    store_ = nullptr;
    start();
  }

 private:
  void start() {
    process_ = std::make_unique<sim::VirtualScheduler>(world_, "mem");
    store_ = std::make_unique<MemStore>(*process_, catalogue_);
  }
  sim::World world_{1};
  std::shared_ptr<MemCatalogue> catalogue_ = std::make_shared<MemCatalogue>();
  std::unique_ptr<sim::VirtualScheduler> process_;
  std::unique_ptr<MemStore> store_;
};

std::unique_ptr<MetaBackend> make_mem() {
  return std::make_unique<MemBackend>();
}

INSTANTIATE_TEST_SUITE_P(Mem,
                         MetaStoreSuite,
                         ::testing::Values(MetaBackendMaker{"mem", make_mem}),
                         [](const auto& made) { return made.param.name; });

class MemStoreFaults : public ::testing::Test {
 protected:
  Result<TxnAnswer> put(const std::string& key, const std::string& value) {
    Txn request;
    request.then_ops.push_back(Op{key, value});
    return sim::run(backend_.process(), backend_.store().txn(std::move(request)));
  }
  Result<GetAnswer> get(const std::string& key) {
    return sim::run(backend_.process(), backend_.store().get(key));
  }
  MemBackend backend_;
};

TEST_F(MemStoreFaults, LostRequestWasNotApplied) {
  backend_.mem().plan(MemFault::lost_request);
  EXPECT_EQ(code_of(put("/a", "1")), Errc::timed_out);
  EXPECT_FALSE(get("/a")->entry.has_value());
}

TEST_F(MemStoreFaults, LostAnswerWasApplied) {
  backend_.mem().plan(MemFault::lost_answer);
  EXPECT_EQ(code_of(put("/a", "1")), Errc::timed_out);
  EXPECT_EQ(get("/a")->entry->value, "1");
}

TEST_F(MemStoreFaults, LateTxnIsAppliedBehindTheCallersBack) {
  put("/a", "0").value();
  backend_.mem().plan(MemFault::applied_late);
  EXPECT_EQ(code_of(put("/a", "1")), Errc::timed_out);
  EXPECT_EQ(backend_.mem().catalogue().revision(), 2U);
  EXPECT_EQ(get("/a")->entry->value, "1");
}

TEST_F(MemStoreFaults, StaleReadShowsAnEarlierRevision) {
  put("/a", "0").value();
  put("/a", "1").value();
  backend_.mem().plan(MemFault::stale_read);
  EXPECT_EQ(get("/a")->entry->value, "0");
  EXPECT_EQ(get("/a")->entry->value, "1");
}

TEST_F(MemStoreFaults, CompactionBeforeAWatchIsSaid) {
  put("/a", "0").value();
  backend_.mem().plan(MemFault::compacted);
  const auto watch =
      sim::run(backend_.process(), backend_.store().watch("/", 2, [](const Event&) {}));
  EXPECT_EQ(code_of(watch), Errc::compacted);
}

TEST_F(MemStoreFaults, StoreThatIsDownRefusesAndForgetsNothing) {
  put("/a", "0").value();
  backend_.mem().set_down(true);
  EXPECT_EQ(code_of(get("/a")), Errc::unavailable);
  EXPECT_EQ(code_of(put("/a", "1")), Errc::unavailable);
  backend_.mem().set_down(false);
  EXPECT_EQ(get("/a")->entry->value, "0");
}

TEST_F(MemStoreFaults, ChancesGiveEveryFaultAndOneHistoryPerSeed) {
  Random random(7);
  MemChances chances;
  chances.refused_one_in = 4;
  chances.lost_request_one_in = 4;
  chances.lost_answer_one_in = 4;
  chances.delay_most = std::chrono::milliseconds(5);
  backend_.mem().set_chances(chances, random);
  int failed = 0;
  for (int i = 0; i < 100; ++i) failed += put("/a", std::to_string(i)) ? 0 : 1;
  EXPECT_GT(failed, 20);
  EXPECT_LT(failed, 90);
}

}  // namespace
}  // namespace vmstore::meta
