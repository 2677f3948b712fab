// SPDX-License-Identifier: Apache-2.0
#include "base/process.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "base/errc.h"

namespace vmstore {
namespace {

const std::string kStat = "17 (a b) c) S 1 2 3 4 5 4194560 7 8 9 10 25 17 0 0 20 0 1 0 4711 5 6\n";

TEST(ProcessStat, FieldsAreCountedBehindAnyName) {
  const auto stat = parse_process_stat(kStat);
  ASSERT_TRUE(stat);
  EXPECT_EQ(stat->user_ticks, 25U);
  EXPECT_EQ(stat->system_ticks, 17U);
  EXPECT_EQ(stat->start_ticks, 4711U);
  EXPECT_FALSE(stat->is_over);
}

TEST(ProcessStat, WhoIsOnTheWayOutIsOver) {
  std::string exiting = kStat;
  exiting.replace(exiting.find(" 4194560 "), 9, " 4194564 ");  // PF_EXITING
  ASSERT_TRUE(parse_process_stat(exiting));
  EXPECT_TRUE(parse_process_stat(exiting)->is_over);
  std::string zombie = kStat;
  zombie.replace(zombie.find(" S "), 3, " Z ");
  ASSERT_TRUE(parse_process_stat(zombie));
  EXPECT_TRUE(parse_process_stat(zombie)->is_over);
}

TEST(ProcessStat, OfAKilledProcessSaysThatItIsOver) {
  const pid_t child = fork();
  if (child == 0) {
    for (;;) pause();
  }
  ASSERT_GT(child, 0);
  const auto number = static_cast<std::uint64_t>(child);
  const auto living = read_process_stat(number);
  EXPECT_TRUE(living && !living->is_over);
  kill(child, SIGKILL);
  siginfo_t info{};
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT), 0);
  const auto ended = read_process_stat(number);
  EXPECT_TRUE(ended && ended->is_over);
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
}

TEST(ProcessStat, TextThatIsCutShortIsNone) {
  for (std::size_t bytes = 0; bytes <= kStat.find(" 4711") + 5; ++bytes) {
    EXPECT_FALSE(parse_process_stat(kStat.substr(0, bytes))) << bytes;
  }
}

TEST(ProcessStat, WhatIsNoNumberIsNone) {
  std::string text = kStat;
  text.replace(text.find(" 25 "), 4, " -5 ");
  EXPECT_FALSE(parse_process_stat(text));
}

TEST(ProcessStat, OfAProcessThatIsNotThereIsNotFound) {
  const auto self = read_process_stat(static_cast<std::uint64_t>(getpid()));
  ASSERT_TRUE(self);
  EXPECT_NE(self->start_ticks, 0U);
  EXPECT_EQ(read_process_stat(0x7fffffff).error(), Errc::not_found);
}

}  // namespace
}  // namespace vmstore
