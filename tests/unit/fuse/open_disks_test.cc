// SPDX-License-Identifier: Apache-2.0
#include "fuse/open_disks.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/fake_disks.h"

namespace vmstore::fuse {
namespace {

class OpenDisksTest : public testing::Test {
 protected:
  OpenDisksTest() {
    store_->add("web", 1 << 20);
    client_ = test::FakeStore::client(store_);
    disks_ = std::make_unique<OpenDisks>(*client_);
  }
  [[nodiscard]] Identity identity(const std::string& name) const {
    const auto& image = store_->images.at(name);
    const bool is_snapshot = name.find('@') != std::string::npos;
    return Identity{image.id, is_snapshot ? image.created_ns : 0};
  }
  [[nodiscard]] std::shared_ptr<OpenDisk> open(const std::string& name) {
    auto opened = disks_->open(name, identity(name));
    EXPECT_TRUE(opened);
    return opened ? *opened : nullptr;
  }
  static std::uint64_t size_of(OpenDisk& disk) {
    std::uint64_t bytes = 0;
    EXPECT_TRUE(disk.use([&](disk::BlockingDisk& open) -> Result<void> {
      bytes = open.info().size_bytes;
      return success();
    }));
    return bytes;
  }

  std::shared_ptr<test::FakeStore> store_ = std::make_shared<test::FakeStore>();
  std::unique_ptr<disk::Client> client_;
  std::unique_ptr<OpenDisks> disks_;
};

TEST_F(OpenDisksTest, FilesOfOneDiskShareIt) {
  const auto first = open("web");
  EXPECT_EQ(open("web"), first);
  EXPECT_EQ(store_->opened, 1);
  EXPECT_EQ(store_->connected, std::vector<bool>({true}));
}

TEST_F(OpenDisksTest, LastFileGivesTheDiskBack) {
  const auto first = open("web");
  const auto second = open("web");
  EXPECT_TRUE(disks_->release(first));
  EXPECT_EQ(store_->closed, 0);
  EXPECT_TRUE(disks_->release(second));
  EXPECT_EQ(store_->closed, 1);
  EXPECT_EQ(store_->connected, std::vector<bool>({true, false}));
  EXPECT_EQ(disks_->find("web", identity("web")), nullptr);
}

TEST_F(OpenDisksTest, WhatIsWrittenHereDiesWithThisProcess) {
  static_cast<void>(open("web"));
  EXPECT_EQ(store_->open_options.at(0).guest_pid, static_cast<std::uint32_t>(getpid()));
}

TEST_F(OpenDisksTest, FailureToOpenLeavesNothingBehind) {
  const Identity known = identity("web");
  store_->before_request = [](const char*) -> Result<void> { return Errc::busy; };
  EXPECT_EQ(disks_->open("web", known).error(), Errc::busy);
  EXPECT_EQ(disks_->find("web", known), nullptr);
  store_->before_request = nullptr;
  EXPECT_TRUE(disks_->open("web", known));
}

TEST_F(OpenDisksTest, AnotherDiskOfTheSameNameIsNotOpened) {
  const Identity old = identity("web");
  ASSERT_TRUE(client_->remove("web", true, false));
  store_->add("web", 1 << 20);
  EXPECT_EQ(disks_->open("web", old).error(), Errc::conflict);
}

TEST_F(OpenDisksTest, D2_AnotherSnapshotOfTheSameNameIsNotOpened) {
  ASSERT_TRUE(client_->snapshot("web", "s"));
  const Identity old = identity("web@s");
  EXPECT_TRUE(disks_->open("web@s", old));
  EXPECT_TRUE(disks_->close_all());
  ASSERT_TRUE(client_->snapshot("web", "s"));
  EXPECT_EQ(disks_->open("web@s", old).error(), Errc::conflict);
}

TEST_F(OpenDisksTest, GrowingIsSeenThroughOpenFiles) {
  const auto disk = open("web");
  EXPECT_TRUE(disk->resize(2 << 20, false));
  EXPECT_EQ(size_of(*disk), std::uint64_t{2 << 20});
  EXPECT_EQ(store_->opened, 2);
  EXPECT_EQ(store_->closed, 1);
}

TEST_F(OpenDisksTest, ShrinkingNeedsLeave) {
  const auto disk = open("web");
  EXPECT_EQ(disk->resize(4096, false).error(), Errc::permission);
  EXPECT_EQ(size_of(*disk), std::uint64_t{1 << 20});
  EXPECT_EQ(store_->closed, 0);  // refused before anything was given back
  EXPECT_TRUE(disk->resize(4096, true));
  EXPECT_EQ(size_of(*disk), 4096U);
}

TEST_F(OpenDisksTest, ResizeToTheSameSizeDoesNothing) {
  const auto disk = open("web");
  EXPECT_TRUE(disk->resize(1 << 20, false));
  EXPECT_EQ(store_->closed, 0);
}

TEST_F(OpenDisksTest, FileLivesOnAfterARefusedResize) {
  const auto disk = open("web");
  EXPECT_EQ(disk->resize((1 << 20) + 1, true).error(), Errc::invalid_argument);
  EXPECT_EQ(size_of(*disk), std::uint64_t{1 << 20});
}

TEST_F(OpenDisksTest, SnapshotsHaveOneSize) {
  ASSERT_TRUE(client_->snapshot("web", "v1"));
  const auto disk = open("web@v1");
  EXPECT_EQ(disk->resize(2 << 20, true).error(), Errc::read_only);
}

TEST_F(OpenDisksTest, EndOfTheMountClosesWhateverIsOpen) {
  store_->add("db", 4096);
  const auto web = open("web");
  const auto db = open("db");
  EXPECT_TRUE(disks_->close_all());
  EXPECT_EQ(store_->closed, 2);
}

TEST_F(OpenDisksTest, ManyThreadsOpenUseAndClose) {
  const Identity known = identity("web");
  const auto work = [&] {
    std::array<std::byte, 512> buffer{};
    for (int i = 0; i < 200; ++i) {
      const auto disk = disks_->open("web", known);
      ASSERT_TRUE(disk);
      EXPECT_TRUE((*disk)->use(
          [&](disk::BlockingDisk& open) { return open.read(0, MutableBytes(buffer)); }));
      EXPECT_TRUE(disks_->release(*disk));
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(store_->opened, store_->closed);
  EXPECT_EQ(disks_->find("web", known), nullptr);
}

}  // namespace
}  // namespace vmstore::fuse
