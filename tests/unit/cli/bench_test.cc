// SPDX-License-Identifier: Apache-2.0
// bench boot-storm: what it makes and that it is gone afterwards, and how its figures come about.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "cli/boot_report.h"
#include "cli/control.h"
#include "cli/process_cpu.h"
#include "cli/run_folder.h"
#include "cli/storm_disks.h"
#include "tests/unit/cli/fake_client.h"

namespace vmstore::cli {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using test::FakeStore;
using test::Ran;
using test::run;

/// A supervisor that refuses every attachment.
class RefusingSupervisor {
 public:
  explicit RefusingSupervisor(const std::string& folder)
      : socket_(*listen_unix(control_socket(folder), 16)), thread_([this] { serve(); }) {}
  ~RefusingSupervisor() {
    stopping_ = true;
    thread_.join();
  }
  int attaches = 0;

 private:
  void serve() {
    while (!stopping_) {
      pollfd ready{socket_.get(), POLLIN, 0};
      if (poll(&ready, 1, 20) <= 0) continue;
      const UniqueFd peer(accept(socket_.get(), nullptr, nullptr));
      char buffer[4096];
      const auto got = recv(peer.get(), buffer, sizeof(buffer), 0);
      if (got <= 0) continue;  // somebody looked whether we are there
      ++attaches;
      const std::string answer =
          encode_failure(Failure::make(ExitCode::busy, "web", "is refused")) + "\n";
      EXPECT_EQ(send(peer.get(), answer.data(), answer.size(), 0),
                static_cast<ssize_t>(answer.size()));
    }
  }

  UniqueFd socket_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

class BootStorm : public testing::Test {
 protected:
  BootStorm() {
    char pattern[] = "/tmp/vmstore-test-XXXXXX";
    folder_ = mkdtemp(pattern);
    std::ofstream(trace()) << "vmstore-boot-trace 1\nsize 65536\n"
                              "r 0 1 512 1024\nr 2 1 8192 4096\nw 4 1 0 512\nend 3\n";
  }
  ~BootStorm() override { std::filesystem::remove_all(folder_); }
  std::string trace() const { return folder_ + "/boot.trace"; }
  Ran storm(std::vector<std::string> more) {
    std::vector<std::string> words{"bench", "boot-storm", "--trace", trace(), "--run-dir", folder_};
    words.insert(words.end(), more.begin(), more.end());
    return run(store_, words);
  }

  std::string folder_;
  FakeStore store_;
};

TEST_F(BootStorm, NothingIsMadeWithoutASupervisor) {
  const Ran ran = storm({"--vms", "3"});
  EXPECT_EQ(ran.exit_code, 6);
  EXPECT_NE(ran.err.find("vmstore up --detach"), std::string::npos) << ran.err;
  EXPECT_TRUE(store_.calls.empty());
}

TEST_F(BootStorm, ClonesAreRemovedWhenTheyCannotBeAttached) {
  const RefusingSupervisor supervisor(folder_);
  store_.add("base", 65536).snapshots["v1"].resize(65536);
  const Ran ran = storm({"--vms", "3", "--image", "base@v1"});
  EXPECT_EQ(ran.exit_code, 5) << ran.err;
  EXPECT_EQ(supervisor.attaches, 1);
  EXPECT_EQ(store_.disks.size(), 1U) << "only the base is left";
  EXPECT_TRUE(store_.trash.empty());
}

TEST_F(BootStorm, WithoutAnImageWhatTheTraceReadsIsWritten) {
  const RefusingSupervisor supervisor(folder_);
  const Ran ran = storm({"--vms", "1"});
  EXPECT_EQ(ran.exit_code, 5) << ran.err;
  EXPECT_TRUE(store_.disks.empty());
  bool has_snapshot = false;
  for (const std::string& call : store_.calls) {
    has_snapshot = has_snapshot || (call.starts_with("snapshot ") && call.ends_with("-base@boot"));
  }
  EXPECT_TRUE(has_snapshot);
}

TEST_F(BootStorm, AnUnknownSnapshotIsNotFound) {
  const RefusingSupervisor supervisor(folder_);
  store_.add("base", 65536);
  EXPECT_EQ(storm({"--vms", "1", "--image", "base@v2"}).exit_code, 3);
  EXPECT_EQ(storm({"--vms", "1", "--image", "other"}).exit_code, 3);
}

TEST_F(BootStorm, AnImageTooSmallForTheTraceIsRefusedBeforeItIsCloned) {
  const RefusingSupervisor supervisor(folder_);
  store_.add("small", 65024).snapshots["v1"].resize(65536);
  store_.add("grown", 65536).snapshots["v1"].resize(65024);
  for (const std::string image : {"small", "grown@v1"}) {
    const Ran ran = storm({"--vms", "2", "--image", image});
    EXPECT_EQ(ran.exit_code, 8) << image << ran.err;
    EXPECT_NE(ran.err.find(image + ": is smaller"), std::string::npos) << ran.err;
    EXPECT_EQ(storm({"--vms", "2", "--image", image, "-n"}).exit_code, 8) << image;
  }
  for (const std::string& call : store_.calls) EXPECT_FALSE(call.starts_with("clone ")) << call;
  EXPECT_EQ(storm({"--vms", "2", "--image", "small@v1", "-n"}).exit_code, 0);
  EXPECT_EQ(storm({"--vms", "2", "--image", "grown", "-n"}).exit_code, 0);
}

TEST_F(BootStorm, WhatIsNoTraceIsExitEight) {
  std::ofstream(trace()) << "hello";
  EXPECT_EQ(storm({"--vms", "1"}).exit_code, 8);
}

TEST_F(BootStorm, TooManyOrNoneIsUsage) {
  EXPECT_EQ(storm({"--vms", "0"}).exit_code, 2);
  EXPECT_EQ(storm({"--vms", "1001"}).exit_code, 2);
  EXPECT_EQ(storm({}).exit_code, 2);
  EXPECT_EQ(storm({"--vms", "1", "--uri", "nbd://x", "--image", "base"}).exit_code, 2);
}

TEST_F(BootStorm, ADryRunChangesNothing) {
  const RefusingSupervisor supervisor(folder_);
  const Ran ran = storm({"--vms", "4", "-n"});
  EXPECT_EQ(ran.exit_code, 0) << ran.err;
  EXPECT_NE(ran.out.find("3 requests on each of 4 disks"), std::string::npos) << ran.out;
  EXPECT_EQ(supervisor.attaches, 0);
  EXPECT_TRUE(store_.disks.empty());
}

TEST(WaitForServers, EachHasItsTimeFromWhenTheOneBeforeAnswered) {
  using Clock = std::chrono::steady_clock;
  constexpr milliseconds kWait{60000};
  Clock::time_point answered = Clock::now();
  std::size_t probed = 0;
  const auto probe = [&](std::size_t number, Clock::time_point deadline) -> Answer<void> {
    EXPECT_EQ(number, probed++);
    EXPECT_GE(deadline, answered + kWait) << number;
    while (Clock::now() == answered) {
    }
    answered = Clock::now();
    return {};
  };
  EXPECT_TRUE(wait_for_servers(50, kWait, probe));
  EXPECT_EQ(probed, 50U);
}

TEST(WaitForServers, TheFirstThatDoesNotAnswerEndsIt) {
  std::size_t probed = 0;
  const auto probe = [&](std::size_t number, auto) -> Answer<void> {
    ++probed;
    if (number < 2) return {};
    return Failure::make(ExitCode::unreachable, "vm", "the export does not answer");
  };
  EXPECT_FALSE(wait_for_servers(50, milliseconds(1), probe));
  EXPECT_EQ(probed, 3U);
}

TEST(ReadRanges, AreMergedAndWholeBlocks) {
  BootTrace trace;
  trace.size_bytes = 20480 + 512;
  const auto add = [&](TraceOp op, std::uint64_t offset, std::uint64_t bytes) {
    TraceRequest request;
    request.op = op;
    request.offset = offset;
    request.bytes = bytes;
    trace.requests.push_back(request);
  };
  add(TraceOp::read, 20480, 512);
  add(TraceOp::read, 512, 512);
  add(TraceOp::write, 12288, 4096);
  add(TraceOp::read, 4000, 200);
  const auto ranges = read_ranges(trace);
  ASSERT_EQ(ranges.size(), 2U);
  EXPECT_EQ(ranges[0].begin, 0U);
  EXPECT_EQ(ranges[0].end, 8192U);
  EXPECT_EQ(ranges[1].begin, 20480U);
  EXPECT_EQ(ranges[1].end, 20992U) << "not beyond the end of the disk";
}

TEST(Percentiles, AreByNearestRank) {
  std::vector<nanoseconds> times;
  for (int i = 200; i > 0; --i) times.emplace_back(i);
  const Percentiles of = percentiles_of(times);
  EXPECT_EQ(of.p50, nanoseconds(100));
  EXPECT_EQ(of.p99, nanoseconds(198));
  EXPECT_EQ(of.max, nanoseconds(200));
  EXPECT_EQ(percentiles_of({nanoseconds(5)}).p99, nanoseconds(5));
  EXPECT_EQ(percentiles_of({}).count, 0U);
}

TEST(BootReport, SumsAllBootsAndTellsTheSlowest) {
  std::vector<ReplayedBoot> boots(2);
  boots[0].took = milliseconds(500);
  boots[1].took = milliseconds(2000);
  for (ReplayedBoot& boot : boots) {
    boot.read_bytes = 3'000'000;
    boot.written_bytes = 1'000'000;
    boot.requests = {{TraceOp::read, microseconds(10)}, {TraceOp::flush, microseconds(900)}};
  }
  BootReport report = report_of(boots, false);
  EXPECT_EQ(report.first, milliseconds(500));
  EXPECT_EQ(report.last, milliseconds(2000));
  EXPECT_EQ(report.bytes_per_second, 4'000'000U);
  EXPECT_EQ(report.requests.count, 4U);
  EXPECT_EQ(report.reads.p99, nanoseconds(microseconds(10)));
  EXPECT_EQ(report.writes.count, 0U);
  const json::object fields = report_fields(report);
  EXPECT_EQ(json_count(fields, "last_boot_ns"), 2'000'000'000U);
  EXPECT_TRUE(fields.at("vmstored_cpu_us").is_null()) << "not measured is not 0";
  report.server_cpu = milliseconds(30);
  report.node_cpu = milliseconds(10);
  EXPECT_NE(report_text(report).find("CPU per boot 20.0 ms"), std::string::npos)
      << report_text(report);
}

TEST(ProcessCpu, IsKnownOfProcessesThatAreThere) {
  EXPECT_TRUE(cpu_time_of(getpid()));
  EXPECT_FALSE(cpu_time_of(-1));
}

}  // namespace
}  // namespace vmstore::cli
