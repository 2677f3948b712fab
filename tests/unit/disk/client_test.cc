// SPDX-License-Identifier: Apache-2.0
// Client and BlockingDisk as nbdkit and FUSE use them: many foreign threads on one object, against
// a real vmstored. What ThreadSanitizer sees of disk/ it sees here.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/limits.h"
#include "base/random.h"
#include "disk/disk.h"
#include "tests/unit/disk/vmstored_process.h"

namespace vmstore::disk {
namespace {

using limits::kMiB;
using Bytes = std::vector<std::byte>;

constexpr std::uint64_t kThreads = 4;
constexpr std::uint64_t kPart = 2 * kMiB;  // what one thread writes, beside the others
constexpr std::uint64_t kSize = kThreads * kPart;
#if defined(__SANITIZE_THREAD__)
constexpr int kSteps = 150;
#else
constexpr int kSteps = 400;
#endif

class ClientTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(node_.start());
    client_ = connect();
    ASSERT_TRUE(client_);
  }
  std::unique_ptr<Client> connect() {
    ClientConfig config;
    config.endpoint = node_.endpoint();
    config.program = "client_test";
    config.run_folder = node_.run_folder();
    config.connect_timeout = std::chrono::seconds(30);
    auto connected = Client::connect(config);
    EXPECT_TRUE(connected) << to_string(connected.error());
    return connected ? std::move(*connected) : nullptr;
  }
  static std::unique_ptr<BlockingDisk> open(Client& client, const std::string& reference) {
    DiskOpenOptions options;
    options.reference = reference;
    auto opened = client.open(options);
    EXPECT_TRUE(opened) << to_string(opened.error());
    return opened ? std::move(*opened) : nullptr;
  }
  static Bytes whole(BlockingDisk& disk) {
    Bytes content(disk.info().size_bytes);
    const auto done = disk.read(0, content);
    EXPECT_TRUE(done) << to_string(done.error());
    return content;
  }

  VmstoredProcess node_;
  std::unique_ptr<Client> client_;
};

/// One guest thread: every kind of request on its own part of the disk, unaligned, each read
/// compared with what it wrote itself. Parts border on each other inside a block.
class Guest {
 public:
  Guest(BlockingDisk& disk, std::uint64_t number)
      : disk_(disk),
        begin_(number == 0 ? 0 : number * kPart + 1000),
        end_(number + 1 == kThreads ? kSize : (number + 1) * kPart + 1000),
        random_(number + 1),
        expected_(end_ - begin_) {}

  void run(int steps) {
    for (int step = 0; step < steps && failure_.empty(); ++step) this->step();
  }
  void run_until(const std::atomic<bool>& stop) {
    while (!stop.load() && failure_.empty()) {
      step();
      steps_.fetch_add(1);
    }
  }
  [[nodiscard]] bool failed() const noexcept { return failed_.load(); }
  [[nodiscard]] std::uint64_t steps() const noexcept { return steps_.load(); }
  void check(const Bytes& content) const {
    EXPECT_EQ(failure_, "");
    EXPECT_TRUE(std::equal(
        expected_.begin(), expected_.end(), content.begin() + static_cast<std::ptrdiff_t>(begin_)));
  }

 private:
  void step() {
    const std::uint64_t offset = random_.below(expected_.size());
    const std::uint64_t bytes =
        1 + random_.below(std::min<std::uint64_t>(expected_.size() - offset, 70'000));
    const auto at = expected_.begin() + static_cast<std::ptrdiff_t>(offset);
    const std::uint64_t choice = random_.below(100);
    const bool fua = random_.below(20) == 0;
    if (choice < 45) {
      std::generate_n(at, bytes, [this] { return static_cast<std::byte>(random_.below(256)); });
      expect(disk_.write(begin_ + offset, ByteSpan(expected_).subspan(offset, bytes), fua));
    } else if (choice < 60) {
      std::fill_n(at, bytes, std::byte{0});
      expect(choice < 53 ? disk_.zero(begin_ + offset, bytes, fua)
                         : disk_.trim(begin_ + offset, bytes, fua));
    } else if (choice < 90) {
      Bytes found(bytes);
      expect(disk_.read(begin_ + offset, found));
      if (!std::equal(found.begin(), found.end(), at)) fail("bytes differ");
    } else if (choice < 95) {
      expect(disk_.flush());
    } else if (choice < 98) {
      check_extents(offset, bytes);
    } else {
      expect(disk_.prefetch(begin_ + offset, bytes));
    }
  }
  /// What is said to be zeros is.
  void check_extents(std::uint64_t offset, std::uint64_t bytes) {
    const auto extents = disk_.extents(begin_ + offset, bytes, 16);
    if (!extents) {
      fail(std::string(to_string(extents.error())));
      return;
    }
    for (const DiskExtent& extent : *extents) {
      const auto at = expected_.begin() + static_cast<std::ptrdiff_t>(extent.offset - begin_);
      if (extent.zero && std::any_of(at,
                                     at + static_cast<std::ptrdiff_t>(extent.bytes),
                                     [](auto b) { return b != std::byte{0}; })) {
        fail("data is called a hole");
      }
    }
  }
  void expect(const Result<void>& done) {
    if (!done) fail(std::string(to_string(done.error())));
  }
  void fail(std::string why) {
    failure_ = std::move(why);
    failed_.store(true);
  }

  BlockingDisk& disk_;
  const std::uint64_t begin_;
  const std::uint64_t end_;
  Random random_;
  Bytes expected_;
  std::string failure_;  // Of its own thread until that one ended.
  std::atomic<bool> failed_{false};
  std::atomic<std::uint64_t> steps_{0};
};

std::vector<std::unique_ptr<Guest>> guests_of(BlockingDisk& disk) {
  std::vector<std::unique_ptr<Guest>> guests;
  for (std::uint64_t i = 0; i < kThreads; ++i) guests.push_back(std::make_unique<Guest>(disk, i));
  return guests;
}

TEST_F(ClientTest, ManyThreadsOnOneDiskEachFindWhatTheyWrote) {
  ASSERT_TRUE(client_->create("web", kSize, 1));
  auto disk = open(*client_, "web");
  ASSERT_TRUE(disk);
  auto guests = guests_of(*disk);
  std::vector<std::thread> threads;
  for (auto& guest : guests) threads.emplace_back([&guest] { guest->run(kSteps); });
  for (auto& thread : threads) thread.join();
  const Bytes content = whole(*disk);
  for (const auto& guest : guests) guest->check(content);
  ASSERT_TRUE(disk->close());
  disk.reset();
  client_.reset();

  client_ = connect();
  ASSERT_TRUE(client_);
  disk = open(*client_, "web");
  ASSERT_TRUE(disk);
  EXPECT_TRUE(whole(*disk) == content);
  EXPECT_TRUE(disk->close());
}

TEST_F(ClientTest, ADeadNodeIsAPauseForEveryThread) {
  ASSERT_TRUE(client_->create("web", kSize, 1));
  auto disk = open(*client_, "web");
  ASSERT_TRUE(disk);
  auto guests = guests_of(*disk);
  std::atomic<bool> stop = false;
  std::vector<std::thread> threads;
  for (auto& guest : guests) threads.emplace_back([&guest, &stop] { guest->run_until(stop); });
  // Each thread gets on between two deaths.
  const auto get_on = [&guests] {
    for (const auto& guest : guests) {
      const std::uint64_t wanted = guest->steps() + 20;
      while (guest->steps() < wanted && !guest->failed()) std::this_thread::yield();
    }
  };
  for (int death = 0; death < 3; ++death) {
    get_on();
    node_.kill();
    ASSERT_TRUE(node_.start());
  }
  get_on();
  stop.store(true);
  for (auto& thread : threads) thread.join();
  EXPECT_TRUE(disk->flush());
  const Bytes content = whole(*disk);
  for (const auto& guest : guests) guest->check(content);
  EXPECT_TRUE(disk->close());
}

TEST_F(ClientTest, I13_what_was_answered_outlives_an_object_that_was_never_closed) {
  ASSERT_TRUE(client_->create("web", kSize, 1));
  auto disk = open(*client_, "web");
  ASSERT_TRUE(disk);
  auto guests = guests_of(*disk);
  std::vector<std::thread> threads;
  for (auto& guest : guests) threads.emplace_back([&guest] { guest->run(kSteps / 4); });
  for (auto& thread : threads) thread.join();
  disk.reset();
  client_.reset();
  client_ = connect();
  ASSERT_TRUE(client_);
  disk = open(*client_, "web");
  ASSERT_TRUE(disk);
  const Bytes content = whole(*disk);
  for (const auto& guest : guests) guest->check(content);
  EXPECT_TRUE(disk->close());
}

TEST_F(ClientTest, ASnapshotIsReadBesideWritersAndCommands) {
  ASSERT_TRUE(client_->create("web", kSize, 1));
  auto disk = open(*client_, "web");
  ASSERT_TRUE(disk);
  ASSERT_TRUE(disk->write(0, Bytes(kMiB, std::byte{7}), false));
  ASSERT_TRUE(client_->snapshot("web", "s"));
  auto snapshot = open(*client_, "web@s");
  ASSERT_TRUE(snapshot);
  const Bytes before = whole(*snapshot);
  EXPECT_EQ(before[0], std::byte{7});

  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  threads.emplace_back([&] {
    for (int i = 0; i < 20; ++i) {
      const Bytes bytes(kMiB, static_cast<std::byte>(i));
      if (!disk->write(static_cast<std::uint64_t>(i % 8) * kMiB, bytes, false)) ++wrong;
    }
  });
  threads.emplace_back([&] {
    for (int i = 0; i < 5; ++i) {
      if (whole(*snapshot) != before) ++wrong;
    }
  });
  threads.emplace_back([&] {
    for (int i = 0; i < 5; ++i) {
      const std::string name = "t" + std::to_string(i);
      if (!client_->snapshot("web", name) || !client_->list()) ++wrong;
      if (!client_->remove_snapshot("web", name)) ++wrong;
    }
  });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0);
  EXPECT_TRUE(whole(*snapshot) == before);
  EXPECT_EQ(snapshot->write(0, before, false).error(), Errc::read_only);
  EXPECT_EQ(snapshot->trim(0, 4096, false).error(), Errc::read_only);
  EXPECT_TRUE(snapshot->close());
  EXPECT_TRUE(disk->close());
}

TEST_F(ClientTest, WhatLiesOutsideIsRefused) {
  ASSERT_TRUE(client_->create("web", kMiB, 1));
  auto disk = open(*client_, "web");
  ASSERT_TRUE(disk);
  Bytes two(2);
  constexpr std::uint64_t kFar = ~std::uint64_t{0};
  for (const std::uint64_t offset : {kMiB - 1, kMiB, kMiB + 1, kFar - 1, kFar}) {
    EXPECT_EQ(disk->read(offset, two).error(), Errc::invalid_argument) << offset;
    EXPECT_EQ(disk->write(offset, two, false).error(), Errc::invalid_argument) << offset;
    EXPECT_EQ(disk->zero(offset, 2, false).error(), Errc::invalid_argument) << offset;
    EXPECT_EQ(disk->extents(offset, 2, 1).error(), Errc::invalid_argument) << offset;
    EXPECT_EQ(disk->prefetch(offset, 2).error(), Errc::invalid_argument) << offset;
  }
  EXPECT_TRUE(disk->read(kMiB, MutableBytes()));
  EXPECT_TRUE(disk->close());
}

TEST_F(ClientTest, AStoppedVerifyLeavesNoSnapshotBehind) {
  ASSERT_TRUE(client_->create("web", kSize, 1));
  const auto disk = open(*client_, "web");
  ASSERT_TRUE(disk);
  ASSERT_TRUE(disk->write(0, Bytes(kSize, std::byte{1}), true));
  std::atomic<int> asked = 0;
  VerifyControl control;
  control.snapshot = "check-1";
  control.stop = [&asked] { return ++asked == 2; };
  const auto report = client_->verify("web", control);
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error(), Error(Errc::interrupted));
  const auto left = client_->snapshots("web");
  ASSERT_TRUE(left);
  EXPECT_TRUE(left->empty());
  control.stop = nullptr;
  EXPECT_TRUE(client_->verify("web", control));
  EXPECT_TRUE(disk->close());
}

}  // namespace
}  // namespace vmstore::disk
