// SPDX-License-Identifier: Apache-2.0
#include "nbd-plugin/served_disk.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <memory>
#include <semaphore>
#include <string>
#include <thread>

#include "tests/support/fake_disks.h"

namespace vmstore::nbd_plugin {
namespace {

class ServedDiskTest : public testing::Test {
 protected:
  ServedDiskTest() {
    store_->add("web", 1 << 20);
    store_->add("db", 1 << 20);
    served_ = std::make_shared<ServedDisk>(test::FakeStore::client(store_));
  }
  Result<void> connect(const std::string& reference, std::optional<std::uint32_t> pid = 42) {
    disk::DiskOpenOptions options;
    options.reference = reference;
    options.guest_pid = pid;
    return served_->connect(options);
  }

  std::shared_ptr<test::FakeStore> store_ = std::make_shared<test::FakeStore>();
  std::shared_ptr<ServedDisk> served_;
};

TEST_F(ServedDiskTest, FirstConnectionOpensWithItsProcessId) {
  EXPECT_EQ(store_->opened, 0);
  ASSERT_TRUE(connect("web"));
  ASSERT_EQ(store_->open_options.size(), 1U);
  EXPECT_EQ(store_->open_options[0].guest_pid, 42U);
}

TEST_F(ServedDiskTest, N3_AllConnectionsShareOneDisk) {
  ASSERT_TRUE(connect("web"));
  disk::BlockingDisk* first = &served_->disk();
  ASSERT_TRUE(connect("web"));
  EXPECT_EQ(&served_->disk(), first);
  EXPECT_EQ(store_->opened, 1);
}

TEST_F(ServedDiskTest, DiskIsKeptWhenTheConnectionCloses) {
  ASSERT_TRUE(connect("web"));
  served_->disconnect();
  ASSERT_TRUE(connect("web"));
  EXPECT_EQ(store_->opened, 1);
  EXPECT_EQ(store_->closed, 0);
}

TEST_F(ServedDiskTest, LastConnectionThatClosesIsTold) {
  ASSERT_TRUE(connect("web"));
  ASSERT_TRUE(connect("web"));
  served_->disconnect();
  EXPECT_EQ(store_->connected, std::vector<bool>({true}));
  served_->disconnect();
  EXPECT_EQ(store_->connected, std::vector<bool>({true, false}));
  ASSERT_TRUE(connect("web"));
  EXPECT_EQ(store_->connected, std::vector<bool>({true, false, true}));
}

TEST_F(ServedDiskTest, SecondDiskIsRefusedWhileOneIsInUse) {
  ASSERT_TRUE(connect("web"));
  EXPECT_EQ(connect("db").error(), Errc::exists);
  served_->disconnect();
  ASSERT_TRUE(connect("db"));
  EXPECT_EQ(served_->reference(), "db");
  EXPECT_EQ(store_->closed, 1);
}

TEST_F(ServedDiskTest, NewSizeIsSeenByTheNextClient) {
  ASSERT_TRUE(connect("web"));
  ASSERT_TRUE(test::FakeStore::client(store_)->resize("web", 2 << 20, false, false));
  ASSERT_TRUE(connect("web"));
  EXPECT_EQ(served_->disk().info().size_bytes, std::uint64_t{1 << 20});  // not under a client
  served_->disconnect();
  served_->disconnect();
  ASSERT_TRUE(connect("web"));
  EXPECT_EQ(served_->disk().info().size_bytes, std::uint64_t{2 << 20});
}

// Whatever happened to it meanwhile: fenced, handed over, rolled back (DESIGN 4.2, 6).
TEST_F(ServedDiskTest, ClientOfAnotherProcessFindsTheDiskOpenedForIt) {
  ASSERT_TRUE(connect("web"));
  ASSERT_TRUE(connect("web", 43));  // beside the first: no time to open anything again
  EXPECT_EQ(store_->opened, 1);
  served_->disconnect();
  served_->disconnect();
  store_->outdated = true;
  ASSERT_TRUE(connect("web", 43));
  EXPECT_EQ(store_->opened, 2);
  EXPECT_EQ(store_->closed, 1);
  EXPECT_EQ(store_->open_options.back().guest_pid, 43U);
}

// The client that was fenced is gone, its connection is not closed yet: the next one waits for that
// instead of getting its errors.
TEST_F(ServedDiskTest, ClientOfAnotherProcessWaitsForTheOneThatIsLeaving) {
  ASSERT_TRUE(connect("web"));
  store_->outdated = true;
  auto next = std::async(std::launch::async, [this] { return connect("web", 43); });
  served_->disconnect();
  ASSERT_TRUE(next.get());
  EXPECT_EQ(store_->opened, 2);
}

// It may not know that others wrote since: errors, never other bytes than it believes in.
TEST_F(ServedDiskTest, SameProcessKeepsTheDiskThatRefusesIt) {
  ASSERT_TRUE(connect("web"));
  served_->disconnect();
  store_->outdated = true;
  ASSERT_TRUE(test::FakeStore::client(store_)->resize("web", 2 << 20, false, false));
  for (const auto pid : {std::optional<std::uint32_t>(42), std::optional<std::uint32_t>()}) {
    ASSERT_TRUE(connect("web", pid));
    EXPECT_EQ(store_->opened, 1);
    served_->disconnect();
  }
}

TEST_F(ServedDiskTest, D2_SnapshotThatWasMadeAnewIsServedToAnotherProcessOnly) {
  const auto client = test::FakeStore::client(store_);
  ASSERT_TRUE(client->snapshot("web", "s"));
  ASSERT_TRUE(connect("web@s"));
  served_->disconnect();
  ASSERT_TRUE(client->snapshot("web", "s"));
  store_->outdated = true;
  ASSERT_TRUE(connect("web@s"));  // still the old one
  EXPECT_EQ(store_->opened, 1);
  served_->disconnect();
  EXPECT_EQ(connect("web@s", std::nullopt).error(), Errc::stale_token);
  ASSERT_TRUE(connect("web@s", 43));
  EXPECT_EQ(store_->opened, 2);
}

TEST_F(ServedDiskTest, DiskThatIsNotThereCanBeAskedForAgain) {
  EXPECT_EQ(connect("new").error(), Errc::not_found);
  store_->add("new", 1 << 20);
  EXPECT_TRUE(connect("new"));
}

TEST_F(ServedDiskTest, PlannedStopWaitsForRequestsUnderWay) {
  ASSERT_TRUE(connect("web"));
  std::binary_semaphore reached(0);
  std::binary_semaphore go_on(0);
  store_->before_request = [&](const char*) -> Result<void> {
    reached.release();
    go_on.acquire();
    EXPECT_EQ(store_->closed, 0);
    return success();
  };
  std::thread client([&] {
    const ServedDisk::Request held(*served_);
    EXPECT_TRUE(served_->disk().flush());
  });
  reached.acquire();
  auto stopped = std::async(std::launch::async, [&] { return served_->stop(); });
  go_on.release();
  EXPECT_TRUE(stopped.get());
  client.join();
  EXPECT_EQ(store_->flushed, 1);
  EXPECT_EQ(store_->closed, 1);
}

TEST_F(ServedDiskTest, NothingIsAnsweredAfterAPlannedStop) {
  ASSERT_TRUE(connect("web"));
  ASSERT_TRUE(served_->stop());
  struct Seen {
    std::binary_semaphore began{0};
    std::atomic<bool> answered{false};
  };
  // Never ends, like a worker of nbdkit that waits for SIGKILL: so it shares what it uses.
  const auto seen = std::make_shared<Seen>();
  std::thread([served = served_, seen] {
    seen->began.release();
    const ServedDisk::Request held(*served);
    seen->answered = true;
  }).detach();
  seen->began.acquire();
  EXPECT_FALSE(seen->answered);
  EXPECT_EQ(store_->flushed, 0);
}

TEST_F(ServedDiskTest, ConnectionThatClosesDuringAPlannedStopIsNoNews) {
  ASSERT_TRUE(connect("web"));
  ASSERT_TRUE(served_->stop());
  served_->disconnect();
  EXPECT_EQ(store_->connected, std::vector<bool>({true}));
}

TEST_F(ServedDiskTest, StopWithoutADiskIsQuick) {
  EXPECT_TRUE(served_->stop());
}

}  // namespace
}  // namespace vmstore::nbd_plugin
