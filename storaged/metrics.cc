// SPDX-License-Identifier: Apache-2.0
#include "storaged/metrics.h"

#include <algorithm>
#include <cstdio>
#include <utility>

namespace vmstore::storaged {
namespace {

constexpr std::array kOpcodeNames{
    std::pair{wire::Opcode::hello, "hello"},
    std::pair{wire::Opcode::ping, "ping"},
    std::pair{wire::Opcode::key_create, "key_create"},
    std::pair{wire::Opcode::key_append, "key_append"},
    std::pair{wire::Opcode::key_fence, "key_fence"},
    std::pair{wire::Opcode::key_seal, "key_seal"},
    std::pair{wire::Opcode::key_read, "key_read"},
    std::pair{wire::Opcode::key_read_log, "key_read_log"},
    std::pair{wire::Opcode::key_reserve, "key_reserve"},
    std::pair{wire::Opcode::key_free, "key_free"},
    std::pair{wire::Opcode::key_committed, "key_committed"},
    std::pair{wire::Opcode::key_files, "key_files"},
    std::pair{wire::Opcode::key_info, "key_info"},
    std::pair{wire::Opcode::key_repair, "key_repair"},
    std::pair{wire::Opcode::key_draw, "key_draw"},
    std::pair{wire::Opcode::meta_get, "meta_get"},
    std::pair{wire::Opcode::meta_txn, "meta_txn"},
    std::pair{wire::Opcode::meta_range, "meta_range"},
    std::pair{wire::Opcode::meta_watch, "meta_watch"},
    std::pair{wire::Opcode::meta_unwatch, "meta_unwatch"},
    std::pair{wire::Opcode::meta_event, "meta_event"},
    std::pair{wire::Opcode::disk_hold, "disk_hold"},
    std::pair{wire::Opcode::disk_release, "disk_release"},
    std::pair{wire::Opcode::disk_renew, "disk_renew"},
    std::pair{wire::Opcode::disk_holder, "disk_holder"},
    std::pair{wire::Opcode::disk_call, "disk_call"},
    std::pair{wire::Opcode::node_status, "node_status"},
    std::pair{wire::Opcode::gc_run, "gc_run"},
    std::pair{wire::Opcode::meta_backup, "meta_backup"},
};

std::string op_label(wire::Opcode opcode) {
  return std::string("op=\"").append(opcode_name(opcode)).append("\"");
}

}  // namespace

std::string_view opcode_name(wire::Opcode opcode) noexcept {
  const auto* const found = std::find_if(kOpcodeNames.begin(),
                                         kOpcodeNames.end(),
                                         [&](const auto& pair) { return pair.first == opcode; });
  return found == kOpcodeNames.end() ? "unknown" : found->second;
}

MetricsText& MetricsText::family(std::string_view name,
                                 std::string_view type,
                                 std::string_view help) {
  name_ = std::string("vmstore_").append(name);
  text_.append("# HELP ").append(name_).append(" ").append(help).append("\n");
  text_.append("# TYPE ").append(name_).append(" ").append(type).append("\n");
  return *this;
}

MetricsText& MetricsText::value(std::uint64_t value, std::string_view labels) {
  return line(labels, std::to_string(value));
}

MetricsText& MetricsText::seconds(Duration value, std::string_view labels) {
  std::array<char, 48> digits{};
  const double amount = std::chrono::duration<double>(value).count();
  std::snprintf(digits.data(), digits.size(), "%.9g", amount);
  return line(labels, digits.data());
}

MetricsText& MetricsText::line(std::string_view labels, std::string_view value) {
  text_.append(name_);
  if (!labels.empty()) text_.append("{").append(labels).append("}");
  text_.append(" ").append(value).append("\n");
  return *this;
}

void RequestCounters::count(wire::Opcode opcode, Errc status, Duration took) noexcept {
  const auto number = static_cast<std::size_t>(opcode);
  Slot& slot = slots_[number < kOpcodes ? number : 0];
  ++slot.requests;
  slot.time += took;
  const auto code = static_cast<std::size_t>(status);
  ++errors_[code < kCodes ? code : static_cast<std::size_t>(Errc::unknown)];
}

std::uint64_t RequestCounters::total() const noexcept {
  std::uint64_t sum = 0;
  for (const Slot& slot : slots_) sum += slot.requests;
  return sum;
}

void RequestCounters::write(MetricsText& out) const {
  out.family("requests_total", "counter", "Requests answered.");
  for (std::size_t i = 0; i < kOpcodes; ++i) {
    if (slots_[i].requests == 0) continue;
    out.value(slots_[i].requests, op_label(static_cast<wire::Opcode>(i)));
  }
  out.family("request_seconds_total", "counter", "Time from a request's arrival to its answer.");
  for (std::size_t i = 0; i < kOpcodes; ++i) {
    if (slots_[i].requests == 0) continue;
    out.seconds(slots_[i].time, op_label(static_cast<wire::Opcode>(i)));
  }
  out.family("request_errors_total", "counter", "Requests answered with an error.");
  for (const Errc code : all_errcs()) {
    const auto number = static_cast<std::size_t>(code);
    if (code == Errc::ok || number >= kCodes || errors_[number] == 0) continue;
    out.value(errors_[number], std::string("code=\"").append(errc_name(code)).append("\""));
  }
}

}  // namespace vmstore::storaged
