// SPDX-License-Identifier: Apache-2.0
#include "cli/supervisor.h"

#include <gtest/gtest.h>

namespace vmstore::cli {
namespace {

using std::chrono::milliseconds;

constexpr int kKilled = SIGKILL;  // wait status: killed by signal 9
constexpr int kFailed = 1 << 8;   // wait status: exit status 1

class FakeHost final : public Supervisor::Host {
 public:
  Answer<pid_t> start(const ServiceSpec& spec) override {
    if (refuse) return Failure::make(ExitCode::failed, spec.name, "cannot be started");
    started.push_back(spec.name);
    return next_pid++;
  }
  void signal(pid_t pid, int number) override { signals.emplace_back(pid, number); }
  void report(std::string_view service, std::string_view what) override {
    reports.push_back(std::string(service) + " " + std::string(what));
  }
  bool refuse = false;
  pid_t next_pid = 100;
  std::vector<std::string> started;
  std::vector<std::pair<pid_t, int>> signals;
  std::vector<std::string> reports;
};

class SupervisorTest : public testing::Test {
 protected:
  ServiceSpec spec(const std::string& name) {
    ServiceSpec made;
    made.name = name;
    made.stop_signal = SIGUSR1;
    return made;
  }
  void pass(milliseconds duration) {
    now_ += duration;
    supervisor_.on_time(now_);
  }
  FakeHost host_;
  Supervisor supervisor_{host_, Supervisor::Options{}};
  SupervisorTime now_ = SupervisorTime() + std::chrono::hours(1);
};

TEST_F(SupervisorTest, StartsAtOnce) {
  supervisor_.add(spec("web"), now_);
  EXPECT_EQ(supervisor_.find("web")->state, ServiceState::running);
  EXPECT_EQ(host_.started, std::vector<std::string>{"web"});
  EXPECT_EQ(supervisor_.next_time(), std::nullopt);
}

TEST_F(SupervisorTest, FirstDeathIsFollowedByAStartAtOnce) {
  supervisor_.add(spec("web"), now_);
  EXPECT_TRUE(supervisor_.on_exit(100, kKilled, now_));
  EXPECT_EQ(supervisor_.next_time(), now_);
  supervisor_.on_time(now_);
  EXPECT_EQ(supervisor_.find("web")->pid, 101);
  EXPECT_EQ(supervisor_.find("web")->last_end, "signal 9 (Killed)");
}

TEST_F(SupervisorTest, DeathAfterDeathIsFollowedByLongerPausesUpToABound) {
  supervisor_.add(spec("web"), now_);
  std::vector<std::int64_t> pauses;
  for (int i = 0; i < 9; ++i) {
    supervisor_.on_exit(supervisor_.find("web")->pid, kFailed, now_);
    const auto pause = *supervisor_.next_time() - now_;
    pauses.push_back(std::chrono::duration_cast<milliseconds>(pause).count());
    pass(std::chrono::duration_cast<milliseconds>(pause));
  }
  EXPECT_EQ(pauses, (std::vector<std::int64_t>{0, 100, 200, 400, 800, 1600, 3200, 5000, 5000}));
}

TEST_F(SupervisorTest, HavingRunWellForgetsEarlierDeaths) {
  supervisor_.add(spec("web"), now_);
  for (int i = 0; i < 5; ++i) {
    supervisor_.on_exit(supervisor_.find("web")->pid, kFailed, now_);
    pass(milliseconds(5000));
  }
  pass(milliseconds(10000));
  supervisor_.on_exit(supervisor_.find("web")->pid, kKilled, now_);
  EXPECT_EQ(supervisor_.next_time(), now_);
}

TEST_F(SupervisorTest, AProgramThatCannotBeStartedIsTriedAgain) {
  host_.refuse = true;
  supervisor_.add(spec("web"), now_);
  EXPECT_EQ(supervisor_.find("web")->state, ServiceState::waiting);
  supervisor_.on_time(now_);
  host_.refuse = false;
  pass(milliseconds(100));
  EXPECT_EQ(supervisor_.find("web")->state, ServiceState::running);
  EXPECT_EQ(supervisor_.find("web")->starts, 3U);
}

TEST_F(SupervisorTest, PlannedStopAsksAndIsGoneOnlyWithItsProcess) {
  supervisor_.add(spec("web"), now_);
  supervisor_.stop("web", now_);
  supervisor_.stop("web", now_);
  EXPECT_EQ(host_.signals, (std::vector<std::pair<pid_t, int>>{{100, SIGUSR1}}));
  EXPECT_EQ(supervisor_.find("web")->state, ServiceState::stopping);
  supervisor_.on_exit(100, kKilled, now_);
  EXPECT_EQ(supervisor_.find("web"), nullptr);
  EXPECT_EQ(host_.started.size(), 1U);
}

TEST_F(SupervisorTest, AStopThatTakesTooLongBecomesAKill) {
  supervisor_.add(spec("web"), now_);
  supervisor_.stop("web", now_);
  pass(milliseconds(29999));
  EXPECT_EQ(host_.signals.size(), 1U);
  pass(milliseconds(1));
  EXPECT_EQ(host_.signals.back(), (std::pair<pid_t, int>{100, SIGKILL}));
}

TEST_F(SupervisorTest, StoppingWhileItWaitsNeedsNoProcess) {
  supervisor_.add(spec("web"), now_);
  supervisor_.on_exit(100, kFailed, now_);
  supervisor_.stop("web", now_);
  EXPECT_EQ(supervisor_.find("web"), nullptr);
  supervisor_.on_time(now_ + std::chrono::hours(1));
  EXPECT_EQ(host_.started.size(), 1U);
}

TEST_F(SupervisorTest, OtherChildrenAreNotItsOwn) {
  supervisor_.add(spec("web"), now_);
  EXPECT_FALSE(supervisor_.on_exit(99, kKilled, now_));
}

}  // namespace
}  // namespace vmstore::cli
