// SPDX-License-Identifier: Apache-2.0
#include "base/fault.h"

#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <string>
#include <vector>

namespace vmstore {
namespace {

TEST(Fault, IsOffUntilAHandlerIsInstalled) {
  VMS_FAULT("a.point");
  std::vector<std::string> seen;
  fault::set_handler([&](std::string_view point) { seen.emplace_back(point); });
  VMS_FAULT("a.point");
  VMS_FAULT("b.point");
  fault::set_handler({});
  VMS_FAULT("c.point");
  EXPECT_EQ(seen, (std::vector<std::string>{"a.point", "b.point"}));
}

/// Runs in a death test's own process.
[[noreturn]] void hit_with(const char* environment, int hits) {
  ::setenv("VMSTORE_FAULT", environment, 1);
  fault::install_from_environment();
  for (int i = 0; i < hits; ++i) {
    VMS_FAULT("other.point");
    VMS_FAULT("journal.after_sync");
  }
  std::exit(0);
}

TEST(FaultDeathTest, KillsItsProcessAtTheHitAskedFor) {
  EXPECT_EXIT(hit_with("journal.after_sync=kill", 1), ::testing::KilledBySignal(SIGKILL), "");
  EXPECT_EXIT(hit_with("journal.after_sync:3=kill", 3), ::testing::KilledBySignal(SIGKILL), "");
  EXPECT_EXIT(hit_with("journal.after_sync:3=kill", 2), ::testing::ExitedWithCode(0), "");
  EXPECT_EXIT(hit_with("no.such.point=kill", 5), ::testing::ExitedWithCode(0), "");
}

TEST(FaultDeathTest, AMalformedVariableEndsTheProcess) {
  for (const char* const value : {"",
                                  "point",
                                  "=kill",
                                  "point=stop",
                                  "point:=kill",
                                  "point:0=kill",
                                  "point:x=kill",
                                  "point:-1=kill",
                                  "point:1x=kill",
                                  "point:99999999999999999999=kill"}) {
    EXPECT_EXIT(hit_with(value, 1), ::testing::ExitedWithCode(2), "VMSTORE_FAULT: want") << value;
  }
}

}  // namespace
}  // namespace vmstore
