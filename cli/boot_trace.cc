// SPDX-License-Identifier: Apache-2.0
#include "cli/boot_trace.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <functional>
#include <limits>
#include <optional>
#include <queue>

#include "base/limits.h"

namespace vmstore::cli {
namespace {

using std::chrono::microseconds;

constexpr std::string_view kMagic = "vmstore-boot-trace";
constexpr std::uint64_t kSectorBytes = 512;

/// The fields of one line; more than there can be is as good as too many.
std::vector<std::string_view> fields_of(std::string_view line) {
  constexpr std::size_t kFieldsMax = 7;
  std::vector<std::string_view> fields;
  while (fields.size() < kFieldsMax) {
    const std::size_t space = line.find(' ');
    fields.push_back(line.substr(0, space));
    if (space == std::string_view::npos) break;
    line.remove_prefix(space + 1);
  }
  return fields;
}

std::optional<std::uint64_t> number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool is_whole = error == std::errc() && end == text.data() + text.size();
  if (!is_whole || value > std::numeric_limits<std::int64_t>::max()) return std::nullopt;
  return value;
}

std::optional<microseconds> time_field(std::string_view text) {
  const std::optional<std::uint64_t> value = number(text);
  const microseconds max = BootTrace::kTimeMax;
  if (!value || *value > static_cast<std::uint64_t>(max.count())) return std::nullopt;
  return microseconds(*value);
}

class Decoder {
 public:
  Decoder(std::string_view text, const std::string& name) : rest_(text), name_(name) {}

  Answer<BootTrace> run() {
    VMS_CHECK(first_line());
    VMS_CHECK(size_line());
    while (true) {
      VMS_TRY(const std::string_view line, next_line());
      if (line.starts_with("note ")) {
        VMS_CHECK(note_line(line.substr(5)));
      } else if (line.starts_with("end ")) {
        VMS_CHECK(end_line(line.substr(4)));
        return std::move(trace_);
      } else {
        VMS_CHECK(request_line(line));
      }
    }
  }

 private:
  [[nodiscard]] Failure damaged(const std::string& what) const {
    Failure failure = Failure::make(ExitCode::integrity,
                                    name_,
                                    "line " + std::to_string(line_) + " of the trace: " + what,
                                    "record it again: bench/record-trace");
    return failure;
  }

  Answer<std::string_view> next_line() {
    ++line_;
    const std::size_t end = rest_.find('\n');
    if (end == std::string_view::npos) return damaged("the file is cut off");
    const std::string_view line = rest_.substr(0, end);
    rest_.remove_prefix(end + 1);
    return line;
  }

  Answer<void> first_line() {
    const bool is_trace = rest_.starts_with(kMagic) && rest_.substr(kMagic.size()).starts_with(' ');
    if (!is_trace) {
      line_ = 1;
      return damaged("this is no boot trace");
    }
    VMS_TRY(const std::string_view line, next_line());
    const std::optional<std::uint64_t> version = number(line.substr(kMagic.size() + 1));
    if (!version) return damaged("no version");
    if (*version != BootTrace::kVersion) {
      Failure failure = Failure::from(Errc::newer_format, name_);
      failure.what = "a boot trace of version " + std::to_string(*version) + "; known is 1";
      return failure;
    }
    return {};
  }

  Answer<void> size_line() {
    VMS_TRY(const std::string_view line, next_line());
    if (!line.starts_with("size ")) return damaged("no size of the disk");
    const std::optional<std::uint64_t> size = number(line.substr(5));
    if (!size || *size < limits::kDiskBytesMin || *size > limits::kDiskBytesMax ||
        *size % kSectorBytes != 0) {
      return damaged("no disk has this size");
    }
    trace_.size_bytes = *size;
    return {};
  }

  Answer<void> note_line(std::string_view text) {
    if (!trace_.requests.empty()) return damaged("a note behind the first request");
    const bool is_clean =
        std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; });
    if (!is_clean) return damaged("a note has characters that are not printable ASCII");
    trace_.notes.emplace_back(text);
    return {};
  }

  Answer<void> end_line(std::string_view text) {
    if (number(text) != trace_.requests.size()) return damaged("the number of requests differs");
    if (trace_.requests.empty()) return damaged("there are no requests");
    if (!rest_.empty()) return damaged("something follows the end");
    return {};
  }

  Answer<void> request_line(std::string_view line) {
    const std::vector<std::string_view> fields = fields_of(line);
    TraceRequest request;
    VMS_CHECK(set_op(fields, request));
    const bool is_flush = request.op == TraceOp::flush;
    const std::size_t wanted = is_flush ? 3 : request.fua ? 6 : 5;
    if (fields.size() != wanted) return damaged("a request has the wrong number of fields");
    const std::optional<microseconds> begin = time_field(fields[1]);
    const std::optional<microseconds> took = time_field(fields[2]);
    if (!begin || !took) return damaged("a time is no number of microseconds within a day");
    if (*begin < last_begin_) return damaged("a request begins before the one above it");
    if (trace_.requests.empty() && begin->count() != 0) return damaged("time begins above 0");
    request.begin = last_begin_ = *begin;
    request.end = *begin + *took;
    if (!is_flush) VMS_CHECK(set_range(fields, request));
    if (trace_.requests.size() == BootTrace::kRequestsMax) return damaged("too many requests");
    VMS_CHECK(count_under_way(request));
    trace_.requests.push_back(request);
    return {};
  }

  Answer<void> set_op(const std::vector<std::string_view>& fields, TraceRequest& request) const {
    constexpr std::string_view kOps = "rwztf";
    const std::size_t op = fields[0].size() == 1 ? kOps.find(fields[0][0]) : std::string_view::npos;
    if (op == std::string_view::npos) return damaged("neither a request nor the end");
    request.op = static_cast<TraceOp>(op);
    request.fua = fields.size() == 6;
    if (!request.fua) return {};
    const bool may = request.op != TraceOp::read && request.op != TraceOp::flush;
    if (!may || fields[5] != "fua") return damaged("a request has the wrong number of fields");
    return {};
  }

  Answer<void> set_range(const std::vector<std::string_view>& fields, TraceRequest& request) {
    const std::optional<std::uint64_t> offset = number(fields[3]);
    const std::optional<std::uint64_t> bytes = number(fields[4]);
    if (!offset || !bytes || *bytes == 0 || *bytes > BootTrace::kRequestBytesMax) {
      return damaged("a request has no possible offset or length");
    }
    if (*offset > trace_.size_bytes || *bytes > trace_.size_bytes - *offset) {
      return damaged("a request goes beyond the end of the disk");
    }
    request.offset = *offset;
    request.bytes = *bytes;
    if (request.op == TraceOp::read || request.op == TraceOp::write) {
      trace_.request_bytes_max = std::max(trace_.request_bytes_max, *bytes);
    }
    return {};
  }

  Answer<void> count_under_way(const TraceRequest& request) {
    while (!ends_.empty() && ends_.top() <= request.begin) ends_.pop();
    ends_.push(request.end);
    if (ends_.size() > BootTrace::kUnderWayMax) return damaged("too many requests at a time");
    return {};
  }

  std::string_view rest_;
  const std::string& name_;
  std::uint64_t line_ = 0;
  BootTrace trace_;
  microseconds last_begin_{0};
  std::priority_queue<microseconds, std::vector<microseconds>, std::greater<>> ends_;
};

}  // namespace

Answer<BootTrace> decode_boot_trace(std::string_view text, const std::string& name) {
  return Decoder(text, name).run();
}

Answer<BootTrace> read_boot_trace(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return Failure::from(last_os_error(), path);
  std::string text;
  std::vector<char> part(std::size_t{64} << 10);
  while (file.read(part.data(), static_cast<std::streamsize>(part.size())) || file.gcount() > 0) {
    text.append(part.data(), static_cast<std::size_t>(file.gcount()));
    if (text.size() > BootTrace::kFileBytesMax) {
      return Failure::make(ExitCode::integrity, path, "too long for a boot trace");
    }
  }
  if (file.bad()) return Failure::from(Errc::io_error, path);
  return decode_boot_trace(text, path);
}

}  // namespace vmstore::cli
