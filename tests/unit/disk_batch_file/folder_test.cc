// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "disk/batch_file_folder.h"
#include "tests/unit/disk_batch_file/batch_workload.h"
#include "tests/unit/disk_batch_file/temp_folder.h"

namespace vmstore::disk {
namespace {

constexpr StoreId kStore = kTestIdentity.store;
constexpr DiskId kDisk = kTestIdentity.disk;

Result<std::unique_ptr<MappedBatchFile>> open_in(const TempFolder& folder, bool create = true) {
  return open_batch_file(folder.path(), kStore, kDisk, create);
}

std::string path_in(const TempFolder& folder) {
  return folder.path() + "/" + kStore.hex() + "-" + kDisk.hex();
}

TEST(BatchFileFolder, AFileIsMadeOnlyWhenAskedFor) {
  const TempFolder folder;
  EXPECT_EQ(open_in(folder, false).error(), Errc::not_found);
  ASSERT_TRUE(open_in(folder).has_value());
  EXPECT_TRUE(open_in(folder, false).has_value());
}

TEST(BatchFileFolder, TakesNoSpaceBeforeTheFirstWriteAndAllOfItThen) {
  const TempFolder folder;
  const auto file = open_in(folder);
  ASSERT_TRUE(file.has_value());
  struct stat info {};
  ASSERT_EQ(::stat(path_in(folder).c_str(), &info), 0);
  EXPECT_EQ(info.st_size, 0);
  EXPECT_EQ(info.st_mode & 07777U, 0600U);
  EXPECT_TRUE((*file)->is_new());
  ASSERT_TRUE((*file)->allocate().has_value());
  EXPECT_FALSE((*file)->is_new());
  ASSERT_EQ(::stat(path_in(folder).c_str(), &info), 0);
  EXPECT_EQ(info.st_size, static_cast<off_t>(limits::kBatchFileBytes));
  EXPECT_GE(info.st_blocks * 512, static_cast<off_t>(limits::kBatchFileBytes));
}

TEST(BatchFileFolder, WhatOneSessionWroteTheNextOneFinds) {
  const TempFolder folder;
  {
    const auto file = open_in(folder);
    ASSERT_TRUE((*file)->allocate().has_value());
    BatchFile batches = make_file((*file)->memory());
    static_cast<void>(batches.close_batch(Sequence(77), true));
  }
  const auto file = open_in(folder, false);
  ASSERT_TRUE(file.has_value());
  EXPECT_FALSE((*file)->is_new());
  const auto content = scan_batch_file((*file)->memory(), kTestIdentity);
  ASSERT_TRUE(content.has_value());
  EXPECT_EQ(content->batches.at(0).sequence, Sequence(77));
}

TEST(BatchFileFolder, AFileInUseIsBusy) {
  const TempFolder folder;
  const auto file = open_in(folder);
  EXPECT_EQ(open_in(folder).error(), Errc::busy);
  EXPECT_EQ(open_in(folder, false).error(), Errc::busy);
}

TEST(BatchFileFolder, OtherDisksHaveFilesOfTheirOwn) {
  const TempFolder folder;
  const auto first = open_in(folder);
  const auto second = open_batch_file(folder.path(), kStore, DiskId{9, 9}, true);
  ASSERT_TRUE(second.has_value());
  EXPECT_NE((*first)->path(), (*second)->path());
}

TEST(BatchFileFolder, ARemovedFileIsGoneAndTheNextOneIsNew) {
  const TempFolder folder;
  {
    const auto file = open_in(folder);
    ASSERT_TRUE((*file)->allocate().has_value());
    ASSERT_TRUE((*file)->remove().has_value());
    const auto next = open_in(folder);  // the lock on the removed file is nobody's concern
    ASSERT_TRUE(next.has_value());
    EXPECT_TRUE((*next)->is_new());
  }
}

TEST(BatchFileFolder, AFileSetAsideIsKeptUnderAnotherName) {
  const TempFolder folder;
  std::set<std::string> names;
  for (int i = 0; i < 3; ++i) {
    const auto file = open_in(folder);
    ASSERT_TRUE((*file)->allocate().has_value());
    const auto name = (*file)->set_aside();
    ASSERT_TRUE(name.has_value());
    EXPECT_EQ(std::filesystem::file_size(*name), limits::kBatchFileBytes);
    names.insert(*name);
  }
  EXPECT_EQ(names.size(), 3U);
  EXPECT_EQ(open_in(folder, false).error(), Errc::not_found);
}

TEST(BatchFileFolder, AFolderThatOthersMayChangeOrAllMayEnterIsRefused) {
  for (const ::mode_t mode : {0770U, 0720U, 0755U, 0701U}) {
    const TempFolder folder;
    ASSERT_EQ(::chmod(folder.path().c_str(), mode), 0);
    EXPECT_EQ(open_in(folder).error(), Error(Errc::permission)) << mode;
  }
}

// The run folder of `vmstore up --socket-group`; the file in it is still ours alone.
TEST(BatchFileFolder, AGroupMayEnterTheFolder) {
  const TempFolder folder;
  ASSERT_EQ(::chmod(folder.path().c_str(), 0750), 0);
  ASSERT_TRUE(open_in(folder));
  struct stat info {};
  ASSERT_EQ(::stat(path_in(folder).c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0600U);
}

TEST(BatchFileFolder, AFileThatOthersMayReadIsRefused) {
  const TempFolder folder;
  ASSERT_TRUE(open_in(folder).has_value());
  ASSERT_EQ(::chmod(path_in(folder).c_str(), 0640), 0);
  EXPECT_EQ(open_in(folder).error(), Errc::permission);
}

TEST(BatchFileFolder, SymbolicLinksAreNotFollowed) {
  const TempFolder folder;
  const TempFolder elsewhere;
  std::ofstream(elsewhere.path() + "/target") << "x";
  ASSERT_EQ(::symlink((elsewhere.path() + "/target").c_str(), path_in(folder).c_str()), 0);
  EXPECT_FALSE(open_in(folder).has_value());
  const std::string link = elsewhere.path() + "/folder";
  ASSERT_EQ(::symlink(folder.path().c_str(), link.c_str()), 0);
  EXPECT_FALSE(open_batch_file(link, kStore, kDisk, true).has_value());
}

TEST(BatchFileFolder, AFolderInPlaceOfTheFileIsRefused) {
  const TempFolder folder;
  ASSERT_EQ(::mkdir(path_in(folder).c_str(), 0700), 0);
  EXPECT_FALSE(open_in(folder).has_value());
}

TEST(BatchFileFolder, AFileOfAnotherSizeIsRefusedByTheScanAndCanBeSetAside) {
  const TempFolder folder;
  { std::ofstream(path_in(folder)) << std::string(5000, 'x'); }
  ASSERT_EQ(::chmod(path_in(folder).c_str(), 0600), 0);
  const auto file = open_in(folder, false);
  ASSERT_TRUE(file.has_value());
  EXPECT_EQ(scan_batch_file((*file)->memory(), kTestIdentity).error(), Errc::foreign_store);
  EXPECT_TRUE((*file)->set_aside().has_value());
}

// The limit on file sizes stands in for a full tmpfs: both make posix_fallocate fail.
TEST(BatchFileFolder, WithoutSpaceTheFileStaysNew) {
  const TempFolder folder;
  const auto file = open_in(folder);
  ASSERT_TRUE(file.has_value());
  struct rlimit old {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old), 0);
  struct rlimit small = old;
  small.rlim_cur = limits::kBatchFileBytes / 2;
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const auto refused = (*file)->allocate();
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &old), 0);
  ::signal(SIGXFSZ, handler);
  EXPECT_FALSE(refused.has_value());
  EXPECT_TRUE((*file)->is_new());
  EXPECT_TRUE((*file)->allocate().has_value());
}

TEST(BatchFileFolder, ThisBootHasAnId) {
  const auto boot = read_boot_id();
  ASSERT_TRUE(boot.has_value());
  EXPECT_FALSE(boot->is_none());
  EXPECT_EQ(*boot, *read_boot_id());
}

TEST(BatchFileFolder, AProcessHasAStartTimeAndADeadOneIsNotFound) {
  const auto self = read_guest_process(static_cast<std::uint32_t>(::getpid()));
  ASSERT_TRUE(self.has_value());
  EXPECT_EQ(self->pid, static_cast<std::uint64_t>(::getpid()));
  EXPECT_GT(self->start_time, 0U);
  EXPECT_EQ(read_guest_process(0x7fffffff).error(), Errc::not_found);
}

}  // namespace
}  // namespace vmstore::disk
