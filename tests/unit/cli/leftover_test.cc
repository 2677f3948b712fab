// SPDX-License-Identifier: Apache-2.0
#include "cli/leftover.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>

#include "cli/interrupt.h"
#include "cli/output_file.h"
#include "tests/unit/cli/fake_client.h"

namespace vmstore::cli {
namespace {

using test::FakeStore;
using test::run;

constexpr std::uint64_t kDayNs = std::uint64_t{24} * 3600 * 1'000'000'000;

/// The tag of a process that has ended.
std::string tag_of_the_dead() {
  std::array<int, 2> ends{};
  if (pipe(ends.data()) != 0) return {};
  const pid_t pid = fork();
  if (pid == 0) {
    const std::string tag = maker_tag();
    _exit(write(ends[1], tag.data(), tag.size()) > 0 ? 0 : 1);
  }
  std::array<char, 64> tag{};
  const ssize_t size = read(ends[0], tag.data(), tag.size());
  waitpid(pid, nullptr, 0);
  for (const int end : ends) close(end);
  return {tag.data(), static_cast<std::size_t>(std::max<ssize_t>(size, 0))};
}

TEST(LeftOver, TheLivingTheDeadAndTheUnknownAreToldApart) {
  EXPECT_EQ(maker_of(maker_tag()), Maker::alive);
  EXPECT_EQ(maker_of(tag_of_the_dead() + "-0001"), Maker::dead);
  std::string elsewhere = tag_of_the_dead();
  elsewhere[0] = elsewhere[0] == '0' ? '1' : '0';
  EXPECT_EQ(maker_of(elsewhere), Maker::unknown);
}

TEST(LeftOver, AProcessIdThatWasGivenOutAgainIsAnotherProcess) {
  EXPECT_EQ(maker_of(maker_tag() + "0"), Maker::dead);
}

TEST(LeftOver, AProcessThatCannotBeSeenIsNotDead) {
  EXPECT_EQ(judge_maker(5, {}, 0), Maker::unknown);
  EXPECT_EQ(judge_maker(5, {}, EPERM), Maker::alive);  // /proc with hidepid
  EXPECT_EQ(judge_maker(5, 0, 0), Maker::unknown);
  EXPECT_EQ(judge_maker(0, 7, 0), Maker::unknown);
  EXPECT_EQ(judge_maker(0, {}, ENOSYS), Maker::unknown);
  EXPECT_EQ(judge_maker(5, 5, 0), Maker::alive);
  EXPECT_EQ(judge_maker(5, 6, EPERM), Maker::dead);
  EXPECT_EQ(judge_maker(0, {}, ESRCH), Maker::dead);
}

TEST(LeftOver, ATagWithoutAStartIsNotProofOfDeath) {
  const std::string tag = maker_tag();
  EXPECT_EQ(maker_of(tag.substr(0, tag.rfind('-')) + "-0"), Maker::unknown);
}

TEST(LeftOver, WithoutAFreeDescriptorNobodyIsDead) {
  rlimit old{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
  const std::string known = maker_tag();
  rlimit none = old;
  none.rlim_cur = 0;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const std::string made_without = maker_tag();
  const std::optional<Maker> of_known = maker_of(known);
  const std::optional<Maker> of_made_without = maker_of(made_without);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
  EXPECT_EQ(of_known, Maker::unknown);
  EXPECT_EQ(of_made_without, Maker::unknown);
  EXPECT_EQ(maker_of(made_without), Maker::unknown);
}

TEST(LeftOver, OtherNamesAreNobodysLeftOvers) {
  for (const char* const name :
       {"", "web", "4711", "12345678-x-1", "12345678-1-1x", "1234567-1-1"}) {
    EXPECT_FALSE(maker_of(name)) << name;
  }
}

TEST(LeftOver, WhoseMakerIsUnknownIsLeftOverAfterADay) {
  std::string tag = tag_of_the_dead();
  const std::string dead = std::string(kImportPrefix) + tag + "-1";
  tag[0] = tag[0] == '0' ? '1' : '0';
  const std::string unknown = std::string(kImportPrefix) + tag + "-1";
  EXPECT_TRUE(is_left_over(dead, kImportPrefix, kDayNs, kDayNs));
  EXPECT_FALSE(is_left_over(dead, kStormPrefix, kDayNs, kDayNs));
  EXPECT_FALSE(is_left_over(unknown, kImportPrefix, kDayNs, 2 * kDayNs));
  EXPECT_TRUE(is_left_over(unknown, kImportPrefix, kDayNs, 2 * kDayNs + 1));
  EXPECT_FALSE(is_left_over(unknown, kImportPrefix, 2 * kDayNs, kDayNs));
  EXPECT_FALSE(is_left_over(temporary_name(kImportPrefix), kImportPrefix, 0, 9 * kDayNs));
}

class LeftOverFiles : public testing::Test {
 protected:
  LeftOverFiles() {
    char pattern[] = "/tmp/vmstore-test-XXXXXX";
    folder_ = mkdtemp(pattern);
  }
  ~LeftOverFiles() override { std::filesystem::remove_all(folder_); }
  std::string folder_;
};

TEST_F(LeftOverFiles, OnlyThoseOfTheDeadAndOfThisNameGo) {
  const std::string dead = folder_ + "/.out.part-" + tag_of_the_dead();
  const std::string converted = dead + ".qcow2";
  const std::string other = folder_ + "/.out2.part-" + tag_of_the_dead();
  const std::string alive = folder_ + "/.out.part-" + maker_tag() + "-x";
  for (const std::string& name : {dead, converted, other, alive}) std::ofstream(name) << "x";
  ASSERT_TRUE(OutputFile::create(folder_ + "/out", false));
  EXPECT_FALSE(std::filesystem::exists(dead));
  EXPECT_FALSE(std::filesystem::exists(converted));
  EXPECT_TRUE(std::filesystem::exists(other));
  EXPECT_TRUE(std::filesystem::exists(alive));
}

TEST_F(LeftOverFiles, TheNextImportRemovesWhatADeadOneLeft) {
  FakeStore store;
  const std::string dead = std::string(kImportPrefix) + tag_of_the_dead() + "-1";
  const std::string alive = std::string(kImportPrefix) + maker_tag() + "-1";
  store.add(dead, 512);
  store.add(alive, 512);
  std::ofstream(folder_ + "/raw") << std::string(4096, 'x');
  const auto ran = run(store, {"import", folder_ + "/raw", "web", "--source-format", "raw"});
  EXPECT_EQ(ran.exit_code, 0) << ran.err;
  EXPECT_FALSE(store.disks.contains(dead));
  EXPECT_TRUE(store.disks.contains(alive));
}

TEST_F(LeftOverFiles, ASnapshotWhoseMakerIsUnknownIsNamedAndStays) {
  FakeStore store;
  std::string tag = tag_of_the_dead();
  const std::string dead = std::string(kExportPrefix) + tag + "-1";
  tag[0] = tag[0] == '0' ? '1' : '0';
  const std::string unknown = std::string(kExportPrefix) + tag + "-1";  // of 1970, for the fake
  FakeStore::Disk& web = store.add("web", 4096);
  for (const std::string& name : {dead, unknown}) web.snapshots[name].resize(4096);
  const auto ran = run(store, {"export", "web", folder_ + "/out"});
  EXPECT_EQ(ran.exit_code, 0) << ran.err;
  EXPECT_FALSE(store.disks.at("web").snapshots.contains(dead));
  EXPECT_TRUE(store.disks.at("web").snapshots.contains(unknown));
  EXPECT_NE(ran.err.find("vmstore snap rm web@" + unknown), std::string::npos) << ran.err;
}

TEST_F(LeftOverFiles, VerifyRemovesWhatADeadOneLeftAndGivesItsOwnATag) {
  FakeStore store;
  const std::string dead = std::string(kVerifyPrefix) + tag_of_the_dead() + "-1";
  store.add("web", 4096).snapshots[dead].resize(4096);
  EXPECT_EQ(run(store, {"verify", "web"}).exit_code, 0);
  EXPECT_FALSE(store.disks.at("web").snapshots.contains(dead));
  ASSERT_EQ(store.verify_snapshots.size(), 1U);
  const std::string_view own = store.verify_snapshots[0];
  ASSERT_TRUE(own.starts_with(kVerifyPrefix)) << own;
  EXPECT_EQ(maker_of(own.substr(kVerifyPrefix.size())), Maker::alive);
}

/// In a process of its own: what a signal was stays known.
[[noreturn]] void verify_with_a_signal(int number) {
  install_interrupt_handlers();
  FakeStore store;
  for (const char* const name : {"db", "web"}) store.add(name, 512);
  store.during_verify = [number] { raise(number); };
  const auto ran = run(store, {"verify", "web", "db"});
  const bool stopped = ran.exit_code == 130 && store.verify_snapshots.size() == 1;
  _exit(stopped ? 42 : 1);
}

TEST_F(LeftOverFiles, AnInterruptedVerifyStopsAndLetsItsSnapshotBeRemoved) {
  EXPECT_EXIT(verify_with_a_signal(SIGINT), testing::ExitedWithCode(42), "");
  EXPECT_EXIT(verify_with_a_signal(SIGTERM), testing::ExitedWithCode(42), "");
}

}  // namespace
}  // namespace vmstore::cli
