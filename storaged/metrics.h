// SPDX-License-Identifier: Apache-2.0
// Counters of requests, and the text format of Prometheus (version 0.0.4), written by hand: the
// node has a few dozen numbers and no labels but names of its own enumerators.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/errc.h"
#include "base/time.h"
#include "wire/frame.h"

namespace vmstore::storaged {

/// Writes one family after the other.
class MetricsText {
 public:
  /// `name` without the prefix vmstore_; `type` is counter or gauge.
  MetricsText& family(std::string_view name, std::string_view type, std::string_view help);
  /// A value of the newest family; `labels` as they stand between the braces, or empty.
  MetricsText& value(std::uint64_t value, std::string_view labels = {});
  MetricsText& seconds(Duration value, std::string_view labels = {});
  [[nodiscard]] std::string take() { return std::move(text_); }

 private:
  MetricsText& line(std::string_view labels, std::string_view value);
  std::string name_;
  std::string text_;
};

[[nodiscard]] std::string_view opcode_name(wire::Opcode opcode) noexcept;

/// THREADS: one.
class RequestCounters {
 public:
  void count(wire::Opcode opcode, Errc status, Duration took) noexcept;
  void write(MetricsText& out) const;
  [[nodiscard]] std::uint64_t total() const noexcept;

 private:
  static constexpr std::size_t kOpcodes = 64;  // numbers of Opcode; the rest share slot 0
  static constexpr std::size_t kCodes = 32;    // numbers of Errc
  struct Slot {
    std::uint64_t requests = 0;
    Duration time{0};
  };
  std::array<Slot, kOpcodes> slots_{};
  std::array<std::uint64_t, kCodes> errors_{};
};

}  // namespace vmstore::storaged
