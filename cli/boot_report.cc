// SPDX-License-Identifier: Apache-2.0
#include "cli/boot_report.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "base/units.h"

namespace vmstore::cli {
namespace {

using std::chrono::nanoseconds;

std::string decimal(double value, const char* unit) {
  std::array<char, 32> text{};
  const int digits = value < 10 ? 2 : value < 100 ? 1 : 0;
  std::snprintf(text.data(), text.size(), "%.*f %s", digits, value, unit);
  return text.data();
}

std::string time_text(nanoseconds time) {
  const auto ns = static_cast<double>(time.count());
  if (ns < 1e6) return decimal(ns / 1e3, "us");
  if (ns < 1e9) return decimal(ns / 1e6, "ms");
  return decimal(ns / 1e9, "s");
}

json::object fields_of(const Percentiles& of) {
  return {{"count", of.count},
          {"p50_ns", of.p50.count()},
          {"p99_ns", of.p99.count()},
          {"max_ns", of.max.count()}};
}

template <class T>
json::value or_null(const std::optional<T>& value) {
  return value ? json::value(value->count()) : json::value(nullptr);
}

std::string line_of(const std::string& what, const Percentiles& of) {
  if (of.count == 0) return {};
  return "  " + what + std::string(what.size() < 10 ? 10 - what.size() : 1, ' ') + "p50 " +
         time_text(of.p50) + "  p99 " + time_text(of.p99) + "  max " + time_text(of.max) + "  (" +
         std::to_string(of.count) + ")\n";
}

}  // namespace

Percentiles percentiles_of(std::vector<nanoseconds> times) {
  Percentiles of;
  of.count = times.size();
  if (times.empty()) return of;
  std::sort(times.begin(), times.end());
  const auto rank = [&](std::size_t percent) {
    return times[(times.size() * percent + 99) / 100 - 1];
  };
  of.p50 = rank(50);
  of.p99 = rank(99);
  of.max = times.back();
  return of;
}

BootReport report_of(const std::vector<ReplayedBoot>& boots, bool paced) {
  BootReport report;
  report.vms = boots.size();
  report.paced = paced;
  std::vector<nanoseconds> whole;
  std::vector<nanoseconds> all;
  std::vector<nanoseconds> reads;
  std::vector<nanoseconds> writes;
  std::vector<nanoseconds> flushes;
  for (const ReplayedBoot& boot : boots) {
    whole.push_back(boot.took);
    report.read_bytes += boot.read_bytes;
    report.written_bytes += boot.written_bytes;
    report.skipped += boot.skipped;
    for (const ReplayedRequest& request : boot.requests) {
      all.push_back(request.took);
      (request.op == TraceOp::read    ? reads
       : request.op == TraceOp::flush ? flushes
                                      : writes)
          .push_back(request.took);
    }
  }
  if (whole.empty()) return report;
  report.first = *std::min_element(whole.begin(), whole.end());
  report.last = *std::max_element(whole.begin(), whole.end());
  report.boots = percentiles_of(std::move(whole));
  report.requests = percentiles_of(std::move(all));
  report.reads = percentiles_of(std::move(reads));
  report.writes = percentiles_of(std::move(writes));
  report.flushes = percentiles_of(std::move(flushes));
  const double seconds = std::chrono::duration<double>(report.last).count();
  const auto bytes = static_cast<double>(report.read_bytes + report.written_bytes);
  if (seconds > 0) report.bytes_per_second = static_cast<std::uint64_t>(bytes / seconds);
  return report;
}

json::object report_fields(const BootReport& report) {
  return {{"vms", report.vms},
          {"paced", report.paced},
          {"first_boot_ns", report.first.count()},
          {"last_boot_ns", report.last.count()},
          {"boots", fields_of(report.boots)},
          {"requests", fields_of(report.requests)},
          {"reads", fields_of(report.reads)},
          {"writes", fields_of(report.writes)},
          {"flushes", fields_of(report.flushes)},
          {"read_bytes", report.read_bytes},
          {"written_bytes", report.written_bytes},
          {"skipped_requests", report.skipped},
          {"bytes_per_second", report.bytes_per_second},
          {"nbdkit_cpu_us", or_null(report.server_cpu)},
          {"vmstored_cpu_us", or_null(report.node_cpu)},
          {"clone_ns", or_null(report.clone_time)},
          {"attach_ns", or_null(report.attach_time)}};
}

std::string report_text(const BootReport& report) {
  std::string text = std::to_string(report.vms) + (report.vms == 1 ? " boot" : " boots at once") +
                     (report.paced ? ", at the recorded pace" : ", as fast as possible") + "\n";
  text += "  first boot done after " + time_text(report.first) + ", last after " +
          time_text(report.last) + "\n";
  text += line_of("boots", report.boots) + line_of("requests", report.requests) +
          line_of("reads", report.reads) + line_of("writes", report.writes) +
          line_of("flushes", report.flushes);
  text += "  " + format_size(report.read_bytes) + " read, " + format_size(report.written_bytes) +
          " written: " + format_size(report.bytes_per_second) + "/s\n";
  if (report.server_cpu && report.node_cpu && report.vms > 0) {
    const auto each = static_cast<std::int64_t>(report.vms);
    text += "  CPU per boot " + time_text((*report.server_cpu + *report.node_cpu) / each) +
            ": nbdkit " + time_text(*report.server_cpu / each) + ", vmstored " +
            time_text(*report.node_cpu / each) + "\n";
  }
  if (report.clone_time && report.attach_time) {
    text += "  before: cloned in " + time_text(*report.clone_time) + ", attached in " +
            time_text(*report.attach_time) + "\n";
  }
  if (report.skipped > 0) {
    text += "  " + std::to_string(report.skipped) + " requests skipped: the server has no such\n";
  }
  return text;
}

}  // namespace vmstore::cli
