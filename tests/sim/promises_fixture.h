// SPDX-License-Identifier: Apache-2.0
// Promises: a store, two hosts and named points of death, driven step by step. Each test is one
// promise of the design or one row of the list of what went wrong elsewhere.
//
// Invariants: a block is written with a tag and reads as that tag, as 0 (zeros), or as kTorn when
// it is neither; caches are so small that nearly everything is read again; a process that died is
// restarted only by the test.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "disk/admin.h"
#include "disk/async_disk.h"
#include "disk/session.h"
#include "disk/snapshot_disk.h"
#include "net/node_client.h"
#include "tests/sim/sim_store.h"
#include "tests/support/crash_points.h"

namespace vmstore::sim {

using Tag = std::uint64_t;
using Tags = std::vector<Tag>;
inline constexpr Tag kTorn = ~Tag{0};
using DiskPtr = std::shared_ptr<disk::AsyncDisk>;
using Outcome = Result<void>;
/// A request of a guest that the test does not wait for yet.
using Pending = std::unique_ptr<Running<Outcome>>;

/// `blocks` blocks from `lbn` on, all of `tag`.
[[nodiscard]] std::vector<std::byte> tagged(std::uint64_t lbn, std::uint64_t blocks, Tag tag);
[[nodiscard]] Tags tags_of(std::uint64_t lbn, ByteSpan blocks);

/// One more client process on the machine of another.
class SecondProcess {
 public:
  SecondProcess(World& world, SimNetwork& network, SimNode& node, SimHost& machine);
  SecondProcess(const SecondProcess&) = delete;
  SecondProcess& operator=(const SecondProcess&) = delete;
  ~SecondProcess() { scheduler.kill(); }

  VirtualScheduler scheduler;
  std::unique_ptr<net::Dialer> dialer;
  net::NodeClient node;
  net::NodePool nodes;
  disk::Session session;
  disk::Admin admin;
};

class Promises : public testing::Test {
 protected:
  static constexpr std::uint64_t kBlocks = 64;  // of most disks
  static constexpr Duration kStuck = std::chrono::minutes(10);

  Promises() : Promises("") {}
  /// `address`: what the node tells others.
  explicit Promises(const std::string& address);
  ~Promises() override;

  // ---- processes ----
  void start_node();
  void start_host(SimHost& host);
  /// The process dies now, or died before; what is open there is gone.
  void bury(SimHost& host, Death death = Death::kill);
  void bury_and_start(SimHost& host, Death death = Death::kill);
  void restart_node(Death death = Death::kill);
  /// Everything in one room.
  void cut_power();
  /// Dies at the `nth` time from now that it comes to `point`.
  void die_at(SimHost& host, const std::string& point, std::uint64_t nth = 1);
  void hold(SimHost& host) { network_.hold(host.process(), node_.process()); }
  void let_go(SimHost& host) { network_.release(host.process(), node_.process()); }
  /// The node's own client of its catalogue, to plan faults in.
  [[nodiscard]] meta::MemStore& catalogue() {
    return dynamic_cast<meta::MemStore&>(node_.node().meta());
  }
  [[nodiscard]] std::uint64_t hits(const std::string& point) const;
  /// Runs the world until `point` was reached once more.
  void run_to(const std::string& point);

  // ---- tasks ----
  /// Empty when the process died first: bury it then.
  template <class T>
  std::optional<T> wait(VirtualScheduler& process, Task<T> task) {
    Running<T> running(process, std::move(task));
    const bool ended = running.wait(kStuck);
    if (ended && !process.is_frozen()) return std::move(running.outcome());
    EXPECT_TRUE(ended || process.is_frozen()) << "stuck";
    process.kill();
    return std::nullopt;
  }
  template <class T>
  std::optional<T> wait(SimHost& host, Task<T> task) {
    return wait(host.process(), std::move(task));
  }
  /// Of a task in which nothing dies and nothing fails.
  template <class T>
  T must(SimHost& host, Task<Result<T>> task) {
    auto outcome = wait(host, std::move(task));
    EXPECT_TRUE(outcome.has_value()) << "the process died at " << points_.fired_at();
    if (!outcome) return T();
    EXPECT_TRUE(outcome->has_value()) << to_string(outcome->error());
    if (!*outcome) return T();
    return std::move(**outcome);
  }
  void must(SimHost& host, Task<Outcome> task);
  [[nodiscard]] Pending begin(SimHost& host, Task<Outcome> task) {
    return std::make_unique<Running<Outcome>>(host.process(), std::move(task));
  }
  /// Waits for it; it must succeed.
  void finish(const Pending& pending);
  [[nodiscard]] static Outcome answer_of(const std::optional<Outcome>& outcome);

  // ---- disks ----
  void create(const std::string& name, std::uint64_t blocks = kBlocks, std::uint32_t copies = 1);
  [[nodiscard]] DiskPtr open(SimHost& host,
                             const std::string& name,
                             disk::AsyncDiskOptions options = {});
  void close(SimHost& host, DiskPtr& disk);
  void write(SimHost& host, const DiskPtr& disk, std::uint64_t lbn, std::uint64_t blocks, Tag tag);
  void zero(SimHost& host, const DiskPtr& disk, std::uint64_t lbn, std::uint64_t blocks);
  void flush(SimHost& host, const DiskPtr& disk);
  void checkpoint(SimHost& host, const DiskPtr& disk);
  /// Empty, with a failure, when they cannot be read.
  [[nodiscard]] Tags read(SimHost& host,
                          const DiskPtr& disk,
                          std::uint64_t lbn,
                          std::uint64_t blocks);
  [[nodiscard]] Tags read_snapshot(SimHost& host,
                                   const std::string& name,
                                   const std::string& snap,
                                   std::uint64_t lbn,
                                   std::uint64_t blocks);
  void snapshot(SimHost& host, const std::string& name, const std::string& snap);
  /// Two whole rounds.
  void collect(SimHost& host);
  /// The host's process dies; the next one takes the disk over, which seals the key open now.
  [[nodiscard]] DiskPtr take_over(SimHost& host, const std::string& name);
  [[nodiscard]] bool is_written_out(const std::string& name, const std::string& snap);
  [[nodiscard]] disk::VersionedDisk record_of(SimHost& host, const std::string& name);

  /// The least of what a guest does: no try_ calls, so that each is a task.
  [[nodiscard]] static Task<Outcome> write_task(DiskPtr disk,
                                                std::uint64_t lbn,
                                                std::uint64_t blocks,
                                                Tag tag);
  [[nodiscard]] static Task<Outcome> read_task(DiskPtr disk, std::uint64_t lbn, MutableBytes into);

  /// Other delays and tears with --gtest_random_seed=N; every promise holds with each.
  World world_{static_cast<std::uint64_t>(GTEST_FLAG_GET(random_seed))};
  SimNetwork network_{world_};
  SimNode node_;
  CrashPoints points_{world_};
  SimHost a_;
  SimHost b_;
  std::vector<DiskPtr> opened_;  // tasks of a process refer to its disks until it is killed
};

}  // namespace vmstore::sim
