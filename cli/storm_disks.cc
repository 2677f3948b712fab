// SPDX-License-Identifier: Apache-2.0
#include "cli/storm_disks.h"

#include <algorithm>
#include <set>

#include "base/random.h"
#include "cli/arguments.h"
#include "cli/control.h"
#include "cli/interrupt.h"
#include "cli/leftover.h"
#include "cli/nbd_probe.h"

namespace vmstore::cli {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kControlWait{10000};
constexpr milliseconds kAnswerWait{60000};
constexpr milliseconds kStopWait{90000};  // a planned stop commits first
constexpr std::uint64_t kStartsMax = 3;   // of one nbdkit, before it has answered
constexpr std::uint64_t kWriteBytes = std::uint64_t{1} << 20;

Answer<json::object> ask(const Context& context, ControlOp op, const std::string& name) {
  ControlRequest request;
  request.op = op;
  request.reference = name;
  request.force = true;  // our own connections may not be gone yet
  const milliseconds wait = op == ControlOp::detach ? kStopWait : kControlWait;
  return call_supervisor(context.run_folder(), request, wait);
}

/// What of each export the supervisor tells; the node's process in `node`.
Answer<std::vector<json::object>> exports_of(const Context& context, pid_t* node) {
  VMS_TRY(const json::object answer, ask(context, ControlOp::list, {}));
  if (node != nullptr) *node = static_cast<pid_t>(json_count(answer, "node_pid").value_or(0));
  std::vector<json::object> exports;
  const json::value* list = answer.if_contains("exports");
  if (list == nullptr || !list->is_array()) return exports;
  for (const json::value& entry : list->get_array()) {
    if (entry.is_object()) exports.push_back(entry.get_object());
  }
  return exports;
}

/// They may be there although the answer was lost.
bool is_outcome_unknown(const Error& error) {
  return error == Errc::unknown || error == Errc::disconnected || error == Errc::timed_out;
}

Answer<void> write_noise(disk::BlockingDisk& disk, const std::vector<ByteRange>& ranges) {
  std::vector<std::byte> noise(kWriteBytes);
  Random random(1);
  for (const ByteRange& range : ranges) {
    for (std::uint64_t at = range.begin; at < range.end; at += kWriteBytes) {
      if (interrupted()) return interruption();
      const std::uint64_t bytes = std::min(kWriteBytes, range.end - at);
      for (std::uint64_t i = 0; i < bytes; ++i) noise[i] = static_cast<std::byte>(random.u64());
      VMS_CHECK(about(disk.write(at, ByteSpan(noise).first(bytes), false), disk.info().name));
    }
  }
  return {};
}

}  // namespace

std::vector<ByteRange> read_ranges(const BootTrace& trace) {
  constexpr std::uint64_t kBlock = 4096;
  std::vector<ByteRange> sorted;
  for (const TraceRequest& request : trace.requests) {
    if (request.op != TraceOp::read) continue;
    const std::uint64_t end = (request.offset + request.bytes + kBlock - 1) / kBlock * kBlock;
    sorted.push_back({request.offset / kBlock * kBlock, std::min(end, trace.size_bytes)});
  }
  std::sort(sorted.begin(), sorted.end(), [](const ByteRange& a, const ByteRange& b) {
    return a.begin < b.begin;
  });
  std::vector<ByteRange> merged;
  for (const ByteRange& range : sorted) {
    if (!merged.empty() && range.begin <= merged.back().end) {
      merged.back().end = std::max(merged.back().end, range.end);
    } else {
      merged.push_back(range);
    }
  }
  return merged;
}

Answer<void> wait_for_servers(std::size_t count, milliseconds wait, const ServerProbe& probe) {
  for (std::size_t i = 0; i < count; ++i) VMS_CHECK(probe(i, steady_clock::now() + wait));
  return {};
}

Answer<void> StormDisks::make(const std::string& source,
                              const BootTrace& trace,
                              std::uint64_t count) {
  VMS_TRY(disk::Client * client, context_.client());
  sweep(*client);
  prefix_ = std::string(kStormPrefix) + maker_tag();
  std::string from = source;
  if (from.empty()) {
    VMS_TRY(from, make_base(*client, trace));
  }
  VMS_TRY(const DiskReference reference, reference_argument(from));
  VMS_TRY(clones_, clone_names(prefix_, count, prefix_ + "-%04d"));
  const auto start = steady_clock::now();
  const Result<void> cloned = client->clone(from, clones_);
  clone_time_ = steady_clock::now() - start;
  if (cloned || is_outcome_unknown(cloned.error())) {
    made_.insert(made_.end(), clones_.begin(), clones_.end());
  }
  if (cloned) return {};
  if (reference.snapshot.empty()) return disk_failure(*client, cloned.error(), reference.disk);
  return snapshot_failure(*client, cloned.error(), reference);
}

void StormDisks::sweep(disk::Client& client) {
  const Result<std::vector<disk::DiskSummary>> disks = client.list();
  for (std::size_t i = 0; disks && i < disks->size(); ++i) {
    const std::string& name = (*disks)[i].name;
    if (!name.starts_with(kStormPrefix)) continue;
    if (maker_of(std::string_view(name).substr(kStormPrefix.size())) != Maker::dead) continue;
    static_cast<void>(ask(context_, ControlOp::detach, name));  // it may have been attached
  }
  sweep_disks(context_, client, kStormPrefix);
}

Answer<std::string> StormDisks::make_base(disk::Client& client, const BootTrace& trace) {
  const std::string name = prefix_ + "-base";
  const Result<disk::DiskSummary> created = client.create(name, trace.size_bytes, 1);
  if (!created) return disk_failure(client, created.error(), name);
  made_.push_back(name);
  disk::DiskOpenOptions options;
  options.reference = name;
  options.bulk = true;
  VMS_TRY(const std::unique_ptr<disk::BlockingDisk> disk, about(client.open(options), name));
  VMS_CHECK(write_noise(*disk, read_ranges(trace)));
  VMS_CHECK(about(disk->flush(), name));
  VMS_CHECK(about(disk->close(), name));
  VMS_TRY(const disk::SnapshotTiming timing, about(client.snapshot(name, "boot"), name));
  static_cast<void>(timing);
  return name + "@boot";
}

Answer<void> StormDisks::attach() {
  const auto start = steady_clock::now();
  std::vector<std::string> sockets;
  for (const std::string& name : clones_) {
    if (interrupted()) return interruption();
    VMS_TRY(const json::object attached, ask(context_, ControlOp::attach, name));
    attached_.push_back(name);
    served_.push_back({name, json_text(attached, "uri").value_or("")});
    sockets.push_back(json_text(attached, "socket").value_or(""));
  }
  const auto probe = [&](std::size_t i, steady_clock::time_point deadline) -> Answer<void> {
    const std::string& name = served_[i].name;
    VMS_CHECK(probe_export(sockets[i], name, deadline, [&] { return check_server(name); }));
    return {};
  };
  VMS_CHECK(wait_for_servers(served_.size(), context_.timeout_or(kAnswerWait), probe));
  attach_time_ = steady_clock::now() - start;
  return {};
}

Answer<void> StormDisks::check_server(const std::string& name) const {
  if (interrupted()) return interruption();
  VMS_TRY(const std::vector<json::object> exports, exports_of(context_, nullptr));
  for (const json::object& exported : exports) {
    if (json_text(exported, "name") != name) continue;
    if (json_count(exported, "starts").value_or(0) <= kStartsMax) return {};
    return Failure::make(ExitCode::failed,
                         name,
                         "nbdkit ended again and again: " +
                             json_text(exported, "last_line").value_or("it said nothing"),
                         "see what `vmstore up` printed");
  }
  return Failure::make(ExitCode::failed, name, "was detached by somebody else");
}

Answer<StormDisks::Processes> StormDisks::processes() const {
  Processes found;
  VMS_TRY(const std::vector<json::object> exports, exports_of(context_, &found.node));
  const std::set<std::string> ours(clones_.begin(), clones_.end());
  for (const json::object& exported : exports) {
    if (!ours.contains(json_text(exported, "name").value_or(""))) continue;
    const std::uint64_t pid = json_count(exported, "pid").value_or(0);
    if (pid != 0) found.servers.push_back(static_cast<pid_t>(pid));
  }
  return found;
}

void StormDisks::remove() {
  for (const std::string& name : attached_) {
    const Answer<json::object> detached = ask(context_, ControlOp::detach, name);
    if (!detached) context_.output().note(name + ": stays attached: " + detached.error().what);
  }
  attached_.clear();
  if (made_.empty()) return;
  const Answer<disk::Client*> client = context_.client();
  for (auto name = made_.rbegin(); name != made_.rend(); ++name) {
    const Result<void> removed =
        client ? (*client)->remove(*name, true, true) : Result<void>(Errc::disconnected);
    if (!removed && removed.error() != Error(Errc::not_found)) {
      context_.output().note(*name + ": is left over: " + to_string(removed.error()) +
                             " (vmstore rm --now " + *name + ")");
    }
  }
  made_.clear();
}

}  // namespace vmstore::cli
