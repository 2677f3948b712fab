// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/promises_fixture.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/units.h"

namespace vmstore::sim {
namespace {

constexpr unsigned kTagShift = 32;

SimNodeOptions node_options(const std::string& address) {
  SimNodeOptions options;
  options.address = address;
  options.collect_by_itself = false;
  return options;
}

SimHostOptions host_options() {
  SimHostOptions options;
  options.page_cache_bytes = 16 * limits::kKiB;
  options.block_cache_bytes = 16 * limits::kKiB;
  return options;
}

disk::SessionOptions session_options(World& world, SimHost& machine) {
  disk::SessionOptions options;
  options.boot = machine.session().boot();
  options.seed = world.random().u64();
  return options;
}

net::ClientOptions client_options(SimNode& node, SimHost& machine) {
  net::ClientOptions options;
  options.endpoint.text = node.endpoint();
  options.program = "second";
  options.boot = machine.session().boot();
  return options;
}

Tag tag_of(std::uint64_t lbn, ByteSpan block) {
  std::uint64_t first = 0;
  std::memcpy(&first, block.data(), sizeof first);
  for (std::size_t at = 0; at < block.size(); at += sizeof first) {
    if (std::memcmp(block.data() + at, &first, sizeof first) != 0) return kTorn;
  }
  if (first == 0) return 0;
  const bool placed = (first & ((std::uint64_t{1} << kTagShift) - 1)) == lbn;
  return placed ? first >> kTagShift : kTorn;
}

Task<Result<DiskPtr>> open_task(SimHost& host, std::string name, disk::AsyncDiskOptions options) {
  VMS_CO_TRY(auto found, co_await host.session().catalogue().disk_by_name(std::move(name)));
  co_return co_await host.admin().open_for_guest(std::move(found), options);
}

Task<Result<std::vector<std::byte>>> snapshot_bytes(SimHost& host,
                                                    std::string name,
                                                    std::string snap) {
  VMS_CO_TRY(const auto found, co_await host.session().catalogue().disk_by_name(std::move(name)));
  disk::SnapshotDisk opened(host.session());
  VMS_CO_CHECK(co_await opened.open_snapshot(disk::disk_id_of(found.record), std::move(snap)));
  std::vector<std::byte> bytes(opened.size_bytes());
  VMS_CO_CHECK(co_await opened.read(0, bytes));
  co_return bytes;
}

}  // namespace

std::vector<std::byte> tagged(std::uint64_t lbn, std::uint64_t blocks, Tag tag) {
  std::vector<std::byte> bytes(blocks * kBlockBytes);
  for (std::size_t at = 0; at < bytes.size(); at += sizeof(std::uint64_t)) {
    const std::uint64_t word = tag == 0 ? 0 : (tag << kTagShift) | (lbn + at / kBlockBytes);
    std::memcpy(bytes.data() + at, &word, sizeof word);
  }
  return bytes;
}

Tags tags_of(std::uint64_t lbn, ByteSpan blocks) {
  Tags tags;
  for (std::size_t at = 0; at < blocks.size(); at += kBlockBytes) {
    tags.push_back(tag_of(lbn + at / kBlockBytes, blocks.subspan(at, kBlockBytes)));
  }
  return tags;
}

SecondProcess::SecondProcess(World& world, SimNetwork& network, SimNode& server, SimHost& machine)
    : scheduler(world, "second"),
      dialer(network.dialer(scheduler)),
      node(scheduler, *dialer, client_options(server, machine)),
      nodes(scheduler, *dialer, node, client_options(server, machine)),
      session(scheduler, nodes, machine.batches(), session_options(world, machine)),
      admin(session) {
  node.start();
  const auto started = run(scheduler, session.start(std::nullopt));
  EXPECT_TRUE(started.has_value());
}

Promises::Promises(const std::string& address)
    : node_(world_, network_, node_options(address)),
      a_(world_, network_, node_, host_options()),
      b_(world_, network_, node_, host_options()) {
  start_node();
  start_host(a_);
  start_host(b_);
}

Promises::~Promises() {
  if (a_.is_running()) a_.process().kill();
  if (b_.is_running()) b_.process().kill();
}

// ---- processes ----

void Promises::start_node() {
  node_.start();
  const auto done = [this] { return node_.is_ready() || node_.failure(); };
  EXPECT_TRUE(world_.run_until(done, kStuck));
  EXPECT_FALSE(node_.failure()) << to_string(*node_.failure());
}

void Promises::start_host(SimHost& host) {
  host.start();
  EXPECT_TRUE(world_.run_until([&host] { return host.is_ready(); }, kStuck));
}

void Promises::bury(SimHost& host, Death death) {
  points_.disarm();
  host.process().kill();
  host.bury(death);
}

void Promises::bury_and_start(SimHost& host, Death death) {
  bury(host, death);
  start_host(host);
}

void Promises::restart_node(Death death) {
  points_.disarm();
  node_.bury(death);
  start_node();
}

void Promises::cut_power() {
  points_.disarm();
  node_.process().freeze();
  bury(a_, Death::power);
  bury(b_, Death::power);
  restart_node(Death::power);
  start_host(a_);
  start_host(b_);
}

void Promises::die_at(SimHost& host, const std::string& point, std::uint64_t nth) {
  points_.arm(host.process(), point, nth);
}

std::uint64_t Promises::hits(const std::string& point) const {
  const auto found = points_.hits().find(point);
  return found == points_.hits().end() ? 0 : found->second;
}

void Promises::run_to(const std::string& point) {
  const std::uint64_t before = hits(point);
  EXPECT_TRUE(world_.run_until([&] { return hits(point) > before; }, kStuck)) << point;
}

// ---- tasks ----

void Promises::must(SimHost& host, Task<Outcome> task) {
  const auto outcome = wait(host, std::move(task));
  ASSERT_TRUE(outcome.has_value()) << "the process died at " << points_.fired_at();
  EXPECT_TRUE(outcome->has_value()) << to_string(outcome->error());
}

void Promises::finish(const Pending& pending) {
  ASSERT_TRUE(pending->wait(kStuck)) << "stuck";
  EXPECT_TRUE(pending->outcome().has_value()) << to_string(pending->outcome().error());
}

Outcome Promises::answer_of(const std::optional<Outcome>& outcome) {
  return outcome ? *outcome : Outcome(Errc::interrupted);
}

// ---- disks ----

void Promises::create(const std::string& name, std::uint64_t blocks, std::uint32_t copies) {
  must(b_, b_.admin().create(name, blocks * kBlockBytes, copies));
}

DiskPtr Promises::open(SimHost& host, const std::string& name, disk::AsyncDiskOptions options) {
  return opened_.emplace_back(must(host, open_task(host, name, options)));
}

void Promises::close(SimHost& host, DiskPtr& disk) {
  must(host, disk->leave());
  disk.reset();
}

Task<Outcome> Promises::write_task(DiskPtr disk, std::uint64_t lbn, std::uint64_t blocks, Tag tag) {
  const std::vector<std::byte> bytes = tagged(lbn, blocks, tag);
  co_return co_await disk->write(lbn * kBlockBytes, bytes);
}

Task<Outcome> Promises::read_task(DiskPtr disk, std::uint64_t lbn, MutableBytes into) {
  co_return co_await disk->read(lbn * kBlockBytes, into);
}

void Promises::write(
    SimHost& host, const DiskPtr& disk, std::uint64_t lbn, std::uint64_t blocks, Tag tag) {
  must(host, write_task(disk, lbn, blocks, tag));
}

void Promises::zero(SimHost& host, const DiskPtr& disk, std::uint64_t lbn, std::uint64_t blocks) {
  must(host, disk->zero(lbn * kBlockBytes, blocks * kBlockBytes));
}

void Promises::flush(SimHost& host, const DiskPtr& disk) {
  must(host, disk->flush());
}

void Promises::checkpoint(SimHost& host, const DiskPtr& disk) {
  must(host, disk->checkpoint());
}

Tags Promises::read(SimHost& host, const DiskPtr& disk, std::uint64_t lbn, std::uint64_t blocks) {
  std::vector<std::byte> bytes(blocks * kBlockBytes);
  const auto outcome = wait(host, read_task(disk, lbn, bytes));
  EXPECT_TRUE(outcome.has_value()) << "the process died at " << points_.fired_at();
  if (!outcome) return {};
  EXPECT_TRUE(outcome->has_value()) << to_string(outcome->error());
  return *outcome ? tags_of(lbn, bytes) : Tags();
}

Tags Promises::read_snapshot(SimHost& host,
                             const std::string& name,
                             const std::string& snap,
                             std::uint64_t lbn,
                             std::uint64_t blocks) {
  const auto bytes = must(host, snapshot_bytes(host, name, snap));
  EXPECT_GE(bytes.size(), (lbn + blocks) * kBlockBytes);
  if (bytes.size() < (lbn + blocks) * kBlockBytes) return {};
  return tags_of(lbn, ByteSpan(bytes).subspan(lbn * kBlockBytes, blocks * kBlockBytes));
}

void Promises::snapshot(SimHost& host, const std::string& name, const std::string& snap) {
  must(host, host.admin().snapshot(name, snap));
}

void Promises::collect(SimHost& host) {
  must(host, host.admin().collect_garbage(false));
  must(host, host.admin().collect_garbage(false));
}

DiskPtr Promises::take_over(SimHost& host, const std::string& name) {
  bury_and_start(host);
  DiskPtr disk = open(host, name);
  EXPECT_FALSE(read(host, disk, 0, 1).empty());
  return disk;
}

bool Promises::is_written_out(const std::string& name, const std::string& snap) {
  for (const auto& found : must(b_, b_.admin().snapshots(name))) {
    if (found.name == snap) return found.written_out;
  }
  return false;
}

disk::VersionedDisk Promises::record_of(SimHost& host, const std::string& name) {
  return must(host, host.session().catalogue().disk_by_name(name));
}

}  // namespace vmstore::sim
