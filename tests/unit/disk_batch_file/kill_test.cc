// SPDX-License-Identifier: Apache-2.0
// Death at every instant: after every single store, and by a real SIGKILL.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>

#include "disk/batch_file_folder.h"
#include "tests/unit/disk_batch_file/batch_workload.h"
#include "tests/unit/disk_batch_file/temp_folder.h"

namespace vmstore::disk {
namespace {

// Goal: whatever the instant of death, the scan finds exactly the published prefix. Method: a
// single thread, so the memory between two stores is what a death there leaves. After every store
// of the batch file, and in the middle of every copy of data, the scan must find the content before
// the step or the content after it, and never the former after the latter.
class EveryInstant {
 public:
  explicit EveryInstant(std::uint64_t seed) : workload_(seed), file_(make_file(heap_.memory())) {
    workload_.on_instant([this](const Model& before, const Model& after) { check(before, after); });
    file_.set_store_hook(&EveryInstant::on_store, this);
    Workload::tighten(file_);
  }

  void run(int steps, Random& random) {
    for (int i = 0; i < steps && !::testing::Test::HasFailure(); ++i) {
      is_after_ = false;
      workload_.step(file_);
      is_after_ = true;
      check(workload_.model(), workload_.model());
      if (!random.one_in(40)) continue;
      workload_.adopt(file_, heap_.memory());
      file_.set_store_hook(&EveryInstant::on_store, this);
      check(workload_.model(), workload_.model());
    }
  }
  [[nodiscard]] std::uint64_t instants() const { return instants_; }

 private:
  static void on_store(void* context) { static_cast<EveryInstant*>(context)->workload_.instant(); }

  void check(const Model& before, const Model& after) {
    ++instants_;
    const Model found = scan_model(heap_.memory());
    if (found == after) {
      is_after_ = is_after_ || before != after;
      return;
    }
    EXPECT_EQ(found, before);
    EXPECT_FALSE(is_after_ && before != after) << "a published step was taken back";
  }

  HeapFile heap_;
  Workload workload_;
  BatchFile file_;
  bool is_after_ = false;
  std::uint64_t instants_ = 0;
};

TEST(BatchFileKill, AfterAnyStoreExactlyThePublishedPrefixIsFound) {
  std::uint64_t instants = 0;
  for (std::uint64_t seed = 1; seed <= 12; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Random random(seed * 1000);
    EveryInstant run(seed);
    run.run(250, random);
    instants += run.instants();
    if (HasFailure()) return;
  }
  EXPECT_GT(instants, 20000U);
}

// State changes are seen whole: the epochs, the base and the guest before or after, never a mix.
TEST(BatchFileKill, TheStateIsReplacedByOneStore) {
  HeapFile heap;
  BatchFile file = make_file(heap.memory());
  struct Watch {
    HeapFile* heap;
    BatchFileState before;
    BatchFileState after;
    static void check(void* context) {
      const auto* const self = static_cast<Watch*>(context);
      const auto content = scan_batch_file(self->heap->memory(), kTestIdentity);
      ASSERT_TRUE(content.has_value());
      EXPECT_TRUE(content->state == self->before || content->state == self->after);
    }
  };
  Watch watch{&heap, file.state(), file.state()};
  file.set_store_hook(&Watch::check, &watch);
  for (std::uint64_t i = 2; i < 40; ++i) {
    watch.before = file.state();
    watch.after = watch.before;
    watch.after.guest = {i, i * i};
    file.set_guest({i, i * i});
    watch.before = watch.after;
    watch.after.epochs = {Epoch(i), Epoch(i + 1)};
    watch.after.takeover_base = Sequence(7 * i);
    file.begin_takeover(Epoch(i), Epoch(i + 1), Sequence(7 * i));
    watch.before = watch.after;
    watch.after.epochs = {Epoch(i + 1), Epoch()};
    watch.after.takeover_base.reset();
    file.end_takeover();
    EXPECT_EQ(file.state(), watch.after);
  }
}

// ---- a real process ----

/// How many steps the child has finished: what it would have acknowledged.
class SharedCounter {
 public:
  SharedCounter()
      : memory_(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)),
        count_(*static_cast<std::uint64_t*>(memory_)) {}
  SharedCounter(const SharedCounter&) = delete;
  SharedCounter& operator=(const SharedCounter&) = delete;
  ~SharedCounter() { ::munmap(memory_, 4096); }
  void set(std::uint64_t value) { count_.store(value, std::memory_order_release); }
  [[nodiscard]] std::uint64_t get() { return count_.load(std::memory_order_acquire); }

 private:
  void* memory_;
  std::atomic_ref<std::uint64_t> count_;
};

[[noreturn]] void run_child(const std::string& folder, std::uint64_t seed, SharedCounter& done) {
  auto mapped = open_batch_file(folder, kTestIdentity.store, kTestIdentity.disk, true);
  if (!mapped || !(*mapped)->allocate()) ::_exit(1);
  BatchFile file = make_file((*mapped)->memory());
  Workload::tighten(file);
  Workload workload(seed);
  for (std::uint64_t steps = 1;; ++steps) {
    workload.step(file);
    done.set(steps);
  }
}

/// The content after `steps` steps, made on the heap.
void expect_content(const Model& found, std::uint64_t seed, std::uint64_t steps) {
  HeapFile heap;
  BatchFile file = make_file(heap.memory());
  Workload::tighten(file);
  Workload workload(seed);
  for (std::uint64_t i = 0; i < steps; ++i) workload.step(file);
  if (found == workload.model()) return;
  workload.step(file);  // it died after publishing, before it could say so
  EXPECT_EQ(found, workload.model()) << "seed " << seed << ", " << steps << " steps acknowledged";
}

TEST(BatchFileKill, C1_sigkill_loses_no_acknowledged_write) {
  const TempFolder folder;
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    SharedCounter done;
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) run_child(folder.path(), seed, done);
    const std::uint64_t enough = 1 + seed * 37;
    while (done.get() < enough) ASSERT_EQ(::waitpid(child, nullptr, WNOHANG), 0) << "child died";
    const auto locked =
        open_batch_file(folder.path(), kTestIdentity.store, kTestIdentity.disk, false);
    EXPECT_EQ(locked.error(), Errc::busy);
    ASSERT_EQ(::kill(child, SIGKILL), 0);
    ASSERT_EQ(::waitpid(child, nullptr, 0), child);
    const auto mapped =
        open_batch_file(folder.path(), kTestIdentity.store, kTestIdentity.disk, false);
    ASSERT_TRUE(mapped.has_value());
    expect_content(scan_model((*mapped)->memory()), seed, done.get());
    ASSERT_TRUE((*mapped)->remove().has_value());
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace vmstore::disk
