// SPDX-License-Identifier: Apache-2.0
// bench boot-storm: a recorded boot on many clones at once.
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "cli/arguments.h"
#include "cli/boot_report.h"
#include "cli/boot_trace.h"
#include "cli/control.h"
#include "cli/interrupt.h"
#include "cli/process_cpu.h"
#include "cli/run_folder.h"
#include "cli/storm_disks.h"
#include "cli/verbs.h"

namespace vmstore::cli {
namespace {

using std::chrono::microseconds;

constexpr std::uint64_t kVmsMax = 1000;
constexpr std::uint64_t kRequestsMax = 50'000'000;  // of all boots: their times are kept

struct StormOptions {
  std::uint64_t vms = 0;
  std::string trace;
  std::string image;
  std::vector<std::string> uris;
  bool paced = false;
};

std::optional<microseconds> cpu_of_all(const std::vector<pid_t>& pids) {
  microseconds sum{0};
  for (const pid_t pid : pids) {
    const std::optional<microseconds> one = cpu_time_of(pid);
    if (!one) return std::nullopt;
    sum += *one;
  }
  return sum;
}

/// Measures between two moments; nothing when a process ended in between or is not known.
class CpuMeter {
 public:
  explicit CpuMeter(std::vector<pid_t> pids) : pids_(std::move(pids)) {}
  void begin() { before_ = cpu_of_all(pids_); }
  void end() { after_ = cpu_of_all(pids_); }
  [[nodiscard]] std::optional<microseconds> used() const {
    if (pids_.empty() || !before_ || !after_) return std::nullopt;
    return *after_ - *before_;
  }

 private:
  std::vector<pid_t> pids_;
  std::optional<microseconds> before_;
  std::optional<microseconds> after_;
};

Answer<BootReport> storm_on_clones(Context& context,
                                   const StormOptions& options,
                                   const BootTrace& trace) {
  StormDisks disks(context);
  VMS_CHECK(disks.make(options.image, trace, options.vms));
  VMS_CHECK(disks.attach());
  VMS_TRY(StormDisks::Processes processes, disks.processes());
  CpuMeter servers(processes.servers.size() == options.vms ? std::move(processes.servers)
                                                           : std::vector<pid_t>());
  CpuMeter node(processes.node > 0 ? std::vector<pid_t>{processes.node} : std::vector<pid_t>());
  std::vector<ReplayTarget> targets;
  for (const StormDisks::Served& served : disks.served()) {
    targets.push_back({served.name, served.uri});
  }
  ReplayHooks hooks;
  hooks.before = [&] { servers.begin(), node.begin(); };
  hooks.after = [&] { servers.end(), node.end(); };
  VMS_TRY(const std::vector<ReplayedBoot> boots,
          replay_boots(trace, options.paced, targets, hooks));
  BootReport report = report_of(boots, options.paced);
  report.server_cpu = servers.used();
  report.node_cpu = node.used();
  report.clone_time = disks.clone_time();
  report.attach_time = disks.attach_time();
  return report;
}

Answer<BootReport> storm_on_uris(const StormOptions& options, const BootTrace& trace) {
  std::vector<ReplayTarget> targets;
  for (std::uint64_t i = 0; i < options.vms; ++i) {
    const std::string& uri = options.uris[i % options.uris.size()];
    targets.push_back({uri, uri});
  }
  VMS_TRY(const std::vector<ReplayedBoot> boots, replay_boots(trace, options.paced, targets, {}));
  return report_of(boots, options.paced);
}

/// How large its clones will be.
Answer<std::uint64_t> image_bytes(disk::Client& client, const DiskReference& reference) {
  if (!reference.snapshot.empty()) {
    VMS_TRY(const disk::SnapshotSummary snapshot, find_snapshot(client, reference));
    return snapshot.size_bytes;
  }
  const Result<disk::DiskSummary> disk = client.details(reference.disk);
  if (!disk) return disk_failure(client, disk.error(), reference.disk);
  return disk->size_bytes;
}

Answer<void> check_options(Context& context, const StormOptions& options, const BootTrace& trace) {
  if (options.vms == 0 || options.vms > kVmsMax) {
    return Failure::usage("--vms is 1 to " + std::to_string(kVmsMax));
  }
  if (!options.uris.empty()) {
    if (!options.image.empty()) return Failure::usage("either --image or --uri");
    return {};
  }
  if (!options.image.empty()) {
    VMS_TRY(const DiskReference reference, reference_argument(options.image));
    VMS_TRY(disk::Client * client, context.client());
    VMS_TRY(const std::uint64_t bytes, image_bytes(*client, reference));
    if (bytes < trace.size_bytes) return too_small_for(trace, options.image);
  }
  if (supervisor_is_there(context.run_folder())) return {};
  return Failure::make(ExitCode::unreachable,
                       control_socket(context.run_folder()),
                       "no `vmstore up` answers here, and it is what serves the clones",
                       "vmstore up --detach (or name its folder with --run-dir)");
}

Answer<void> boot_storm(Context& context, const StormOptions& options) {
  VMS_TRY(const BootTrace trace, read_boot_trace(options.trace));
  VMS_CHECK(check_options(context, options, trace));
  if (trace.requests.size() * options.vms > kRequestsMax) {
    return Failure::usage("--vms is too many for a trace of " +
                          std::to_string(trace.requests.size()) + " requests");
  }
  json::object fields{{"action", "bench boot-storm"}, {"trace", options.trace}};
  if (!options.image.empty()) fields["image"] = options.image;
  if (context.options().dry_run) {
    fields["dry_run"] = true;
    fields["vms"] = options.vms;
    context.output().done("would replay " + std::to_string(trace.requests.size()) +
                              " requests on each of " + std::to_string(options.vms) + " disks",
                          std::move(fields));
    return {};
  }
  const KeepGoing until_done;
  VMS_TRY(const BootReport report,
          options.uris.empty() ? storm_on_clones(context, options, trace)
                               : storm_on_uris(options, trace));
  if (!context.output().for_programs()) {
    context.output().text("report", report_text(report));
    return {};
  }
  for (const auto& field : report_fields(report)) fields.insert(field);
  context.output().done({}, std::move(fields));
  return {};
}

}  // namespace

void add_bench_verbs(VerbBook& book) {
  CLI::App& bench = book.group("bench",
                               {"Measures a store.",
                                "bench boot-storm --vms 20 --trace debian-12-boot.trace",
                                "bench boot-storm --help"});
  CLI::App& storm =
      book.verb(bench,
                "boot-storm",
                {"Replays a recorded boot on many clones at once. The clones are made, "
                 "attached and removed by the command.",
                 "bench boot-storm --vms 20 --trace debian-12-boot.trace",
                 "bench boot-storm --vms 5 --trace debian-12-boot.trace "
                 "--image base/debian-12@v1 --json"});
  auto options = std::make_shared<StormOptions>();
  storm.add_option("--vms", options->vms, "So many boots at once")->required();
  storm.add_option("--trace", options->trace, "The recorded boot (see bench/record-trace)")
      ->required();
  storm.add_option("--image",
                   options->image,
                   "NAME@SNAP to clone; without it a disk with noise where the trace reads");
  storm.add_flag("--paced",
                 options->paced,
                 "Send nothing before its recorded time; else as fast as the answers come");
  storm.add_option("--uri",
                   options->uris,
                   "Instead of clones: these NBD servers in turn, whose content is overwritten");
  book.action(storm, [options](Context& context) { return boot_storm(context, *options); });
}

}  // namespace vmstore::cli
