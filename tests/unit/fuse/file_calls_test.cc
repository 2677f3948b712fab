// SPDX-License-Identifier: Apache-2.0
#include "fuse/file_calls.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <limits>
#include <memory>
#include <vector>

#include "base/limits.h"
#include "tests/support/fake_disks.h"

namespace vmstore::fuse {
namespace {

constexpr std::uint64_t kSize = 64 * 1024;
constexpr int kPunch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
constexpr int kZero = FALLOC_FL_ZERO_RANGE;
constexpr int kZeroKeepSize = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;

class FileCallsTest : public testing::Test {
 protected:
  FileCallsTest() { disk_ = open("web", kSize); }
  std::unique_ptr<disk::BlockingDisk> open(const std::string& name, std::uint64_t bytes) {
    store_->add(name, bytes);
    disk::DiskOpenOptions options;
    options.reference = name;
    return client_->open(options).value();
  }
  void fill(std::uint64_t offset, std::size_t bytes) {
    const std::vector<std::byte> ones(bytes, std::byte{1});
    ASSERT_TRUE(disk_->write(offset, ones, false));
  }
  bool is_zero(std::uint64_t offset, std::size_t bytes) {
    std::vector<std::byte> buffer(bytes);
    EXPECT_TRUE(disk_->read(offset, buffer));
    return buffer == std::vector<std::byte>(bytes);
  }

  std::shared_ptr<test::FakeStore> store_ = std::make_shared<test::FakeStore>();
  std::unique_ptr<disk::Client> client_ = test::FakeStore::client(store_);
  std::unique_ptr<disk::BlockingDisk> disk_;
};

TEST_F(FileCallsTest, PunchedAndZeroedRangesReadAsZeros) {
  fill(0, kSize);
  EXPECT_TRUE(allocate(*disk_, kPunch, {4096, 4096}));
  EXPECT_TRUE(allocate(*disk_, kZero, {8192, 100}));
  EXPECT_TRUE(is_zero(4096, 4096 + 100));
  EXPECT_FALSE(is_zero(0, 4096));
  EXPECT_FALSE(is_zero(8292, 1));
}

TEST_F(FileCallsTest, RangesArePunchedUpToTheEnd) {
  fill(0, kSize);
  EXPECT_TRUE(allocate(*disk_, kPunch, {kSize - 4096, 1 << 30}));
  EXPECT_TRUE(allocate(*disk_, kZeroKeepSize, {kSize - 8192, 1 << 30}));
  EXPECT_TRUE(is_zero(kSize - 8192, 8192));
  EXPECT_TRUE(allocate(*disk_, kPunch, {kSize, 4096}));
  EXPECT_TRUE(allocate(*disk_, kPunch, {kSize * 2, 4096}));
}

TEST_F(FileCallsTest, NothingMakesTheFileLonger) {
  EXPECT_EQ(allocate(*disk_, kZero, {kSize - 4096, 8192}).error(), Errc::unsupported);
  EXPECT_EQ(disk_->info().size_bytes, kSize);
}

TEST_F(FileCallsTest, SpaceIsNotReservedAndBytesAreNotMoved) {
  for (const int mode : {0,
                         FALLOC_FL_KEEP_SIZE,
                         FALLOC_FL_COLLAPSE_RANGE,
                         FALLOC_FL_INSERT_RANGE,
                         FALLOC_FL_UNSHARE_RANGE,
                         int{FALLOC_FL_PUNCH_HOLE},
                         kPunch | kZero}) {
    EXPECT_EQ(allocate(*disk_, mode, {0, 4096}).error(), Errc::unsupported) << mode;
  }
}

TEST_F(FileCallsTest, ImpossibleRangesAreRefused) {
  constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();
  EXPECT_EQ(allocate(*disk_, kPunch, {0, 0}).error(), Errc::invalid_argument);
  EXPECT_EQ(allocate(*disk_, kPunch, {kMax, kMax}).error(), Errc::invalid_argument);
}

TEST_F(FileCallsTest, SeekFindsDataAndHoles) {
  fill(8192, 8192);
  using Place = std::optional<std::uint64_t>;
  EXPECT_EQ(seek(*disk_, 0, SeekFor::data).value(), Place(8192));
  EXPECT_EQ(seek(*disk_, 9000, SeekFor::data).value(), Place(9000));
  EXPECT_EQ(seek(*disk_, 0, SeekFor::hole).value(), Place(0));
  EXPECT_EQ(seek(*disk_, 9000, SeekFor::hole).value(), Place(16384));
  EXPECT_EQ(seek(*disk_, 16384, SeekFor::data).value(), Place());
}

TEST_F(FileCallsTest, EveryFileEndsInAHole) {
  fill(0, kSize);
  EXPECT_EQ(seek(*disk_, 0, SeekFor::hole).value(), std::optional(kSize));
  EXPECT_EQ(seek(*disk_, kSize, SeekFor::hole).value(), std::nullopt);
  EXPECT_EQ(seek(*disk_, kSize + 1, SeekFor::data).value(), std::nullopt);
}

TEST_F(FileCallsTest, SeekGoesOnBehindOneAnswerOfExtents) {
  const auto big = open("big", 10 * limits::kTiB);
  const std::vector<std::byte> block(4096, std::byte{1});
  ASSERT_TRUE(big->write(10 * limits::kTiB - 4096, block, false));
  EXPECT_EQ(seek(*big, 0, SeekFor::data).value(), std::optional(10 * limits::kTiB - 4096));
}

TEST_F(FileCallsTest, S13_SeekOverAnErrorIsAnErrorNotAHole) {
  store_->before_request = [](const char*) -> Result<void> { return Errc::io_error; };
  EXPECT_EQ(seek(*disk_, 0, SeekFor::data).error(), Errc::io_error);
}

TEST(Clip, StaysInsideTheFile) {
  EXPECT_EQ(clip({0, 10}, 100).bytes, 10U);
  EXPECT_EQ(clip({95, 10}, 100).bytes, 5U);
  EXPECT_EQ(clip({100, 10}, 100).bytes, 0U);
  EXPECT_EQ(clip({500, 10}, 100).bytes, 0U);
  EXPECT_EQ(clip({500, 10}, 100).offset, 100U);
}

TEST(BlockCount, IsNeverZero) {
  for (const std::uint64_t size : {std::uint64_t{512}, std::uint64_t{4096}, limits::kTiB}) {
    for (const std::uint64_t mapped : {std::uint64_t{0}, std::uint64_t{4096}, limits::kTiB}) {
      EXPECT_GT(block_count(size, mapped), 0U);
    }
  }
}

TEST(BlockCount, IsWhatIsMappedOrLessThanAllWhenUnknown) {
  EXPECT_EQ(block_count(limits::kMiB, 64 * 1024), 128U);
  EXPECT_EQ(block_count(limits::kMiB, limits::kGiB), 2048U);
  EXPECT_LT(block_count(limits::kMiB, 0), 2048U);
}

TEST(FileErrno, SaysWhatTheUserCanActOn) {
  EXPECT_EQ(file_errno(Errc::busy), EBUSY);
  EXPECT_EQ(file_errno(Errc::not_found), ENOENT);
  EXPECT_EQ(file_errno(Errc::no_space), ENOSPC);
  EXPECT_EQ(file_errno(Errc::read_only), EROFS);
  EXPECT_EQ(file_errno(Errc::permission), EPERM);
  EXPECT_EQ(file_errno(Errc::conflict), ESTALE);
  EXPECT_EQ(file_errno(Errc::unsupported), EOPNOTSUPP);
  EXPECT_EQ(file_errno(Errc::stale_token), EIO);
  EXPECT_EQ(file_errno(Errc::disconnected), EIO);
  for (const Errc code : all_errcs()) {
    EXPECT_EQ(file_errno(code) == 0, code == Errc::ok) << errc_name(code);
  }
}

}  // namespace
}  // namespace vmstore::fuse
