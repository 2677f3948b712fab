// SPDX-License-Identifier: Apache-2.0
#include "cli/process.h"

#include <gtest/gtest.h>
#include <sys/wait.h>

namespace vmstore::cli {
namespace {

TEST(RunAndCapture, KeepsBothStreamsAndTheExitCode) {
  const auto run = run_and_capture({"/bin/sh", "-c", "echo out; echo err >&2; exit 3"});
  ASSERT_TRUE(run);
  EXPECT_EQ(run->out, "out\n");
  EXPECT_EQ(run->err, "err\n");
  EXPECT_EQ(run->exit_code, 3);
}

TEST(RunAndCapture, HandsOverLinesAndStopsAtAFailure) {
  int lines = 0;
  const auto run = run_and_capture({"/bin/sh", "-c", "while :; do echo x; done"},
                                   [&](std::string_view line) -> Answer<void> {
                                     EXPECT_EQ(line, "x");
                                     if (++lines < 5) return {};
                                     return Failure::usage("enough");
                                   });
  ASSERT_FALSE(run);
  EXPECT_EQ(run.error().what, "enough");
  EXPECT_EQ(lines, 5);
}

TEST(StartProcess, AProgramThatIsNotThereIsToldAtOnce) {
  ProcessSpec spec;
  spec.argv = {"/nonexistent/program"};
  const auto pid = start_process(spec);
  ASSERT_FALSE(pid);
  EXPECT_EQ(pid.error().exit_code, ExitCode::not_found);
}

TEST(StartProcess, InheritsOnlyWhatIsNamed) {
  // The shell lists its own descriptors; the one that ls itself opens comes on top.
  const auto run = run_and_capture({"/bin/sh", "-c", "cd /proc/self/fd && echo *"});
  ASSERT_TRUE(run);
  EXPECT_TRUE(run->out == "0 1 2\n" || run->out == "0 1 2 3\n") << run->out;
}

TEST(FindProgram, LooksInThePathAndHintsAtThePackage) {
  EXPECT_TRUE(find_program("sh"));
  const auto missing = find_program("no-such-program", "some-package");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().hint, "install the package some-package");
}

TEST(ChildProcess, IsKilledAndReapedByItsOwner) {
  pid_t pid = -1;
  {
    ProcessSpec spec;
    spec.argv = {"/bin/sh", "-c", "while :; do read x; done"};
    const auto started = start_process(spec);
    ASSERT_TRUE(started);
    pid = *started;
    ChildProcess child(pid);
  }
  EXPECT_EQ(waitpid(pid, nullptr, WNOHANG), -1);
}

TEST(DescribeExit, NamesSignals) {
  EXPECT_EQ(describe_exit(9), "signal 9 (Killed)");
  EXPECT_EQ(describe_exit(2 << 8), "status 2");
}

}  // namespace
}  // namespace vmstore::cli
