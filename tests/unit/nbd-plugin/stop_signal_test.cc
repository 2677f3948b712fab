// SPDX-License-Identifier: Apache-2.0
#include "nbd-plugin/stop_signal.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <semaphore>
#include <thread>

namespace vmstore::nbd_plugin {
namespace {

TEST(StopSignal, RunsTheStopOnAThreadOfItsOwn) {
  StopSignal::block();
  std::binary_semaphore ran(0);
  std::thread::id where;
  const auto watch = StopSignal::watch([&] {
    where = std::this_thread::get_id();
    ran.release();
  });
  ASSERT_TRUE(watch);
  kill(getpid(), SIGUSR1);
  ran.acquire();
  EXPECT_NE(where, std::this_thread::get_id());
}

TEST(StopSignal, SignalBeforeTheWatchIsNotLost) {
  StopSignal::block();
  kill(getpid(), SIGUSR1);
  std::binary_semaphore ran(0);
  const auto watch = StopSignal::watch([&] { ran.release(); });
  ASSERT_TRUE(watch);
  ran.acquire();
}

TEST(StopSignal, EndsQuietlyWhenNothingHappened) {
  StopSignal::block();
  bool ran = false;
  {
    const auto watch = StopSignal::watch([&] { ran = true; });
    ASSERT_TRUE(watch);
  }
  EXPECT_FALSE(ran);
}

}  // namespace
}  // namespace vmstore::nbd_plugin
