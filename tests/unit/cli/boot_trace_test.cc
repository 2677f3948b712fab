// SPDX-License-Identifier: Apache-2.0
#include "cli/boot_trace.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace vmstore::cli {
namespace {

using std::chrono::microseconds;

const std::string kHead = "vmstore-boot-trace 1\nsize 1048576\n";

Answer<BootTrace> decode(const std::string& text) {
  return decode_boot_trace(text, "boot.trace");
}
Answer<BootTrace> decode_requests(const std::vector<std::string>& lines) {
  std::string text = kHead;
  for (const std::string& line : lines) text += line + "\n";
  return decode(text + "end " + std::to_string(lines.size()) + "\n");
}
/// The line that is named in the failure; 0 when there was none.
std::uint64_t complained_line(const Answer<BootTrace>& answer) {
  if (answer) return 0;
  EXPECT_EQ(answer.error().exit_code, ExitCode::integrity);
  const std::string& what = answer.error().what;
  return what.starts_with("line ") ? std::stoull(what.substr(5)) : 0;
}

TEST(BootTrace, EveryKindOfRequestIsRead) {
  const auto trace = decode(kHead +
                            "note one\nnote two\nr 0 10 0 512\nw 20 1 4096 8192 fua\n"
                            "z 20 2 0 4096\nt 21 3 1044480 4096\nf 30 400\nend 5\n");
  ASSERT_TRUE(trace) << trace.error().what;
  EXPECT_EQ(trace->size_bytes, 1048576U);
  EXPECT_EQ(trace->notes, (std::vector<std::string>{"one", "two"}));
  ASSERT_EQ(trace->requests.size(), 5U);
  EXPECT_EQ(trace->requests[1].op, TraceOp::write);
  EXPECT_TRUE(trace->requests[1].fua);
  EXPECT_EQ(trace->requests[1].begin, microseconds(20));
  EXPECT_EQ(trace->requests[1].end, microseconds(21));
  EXPECT_EQ(trace->requests[1].offset, 4096U);
  EXPECT_EQ(trace->requests[1].bytes, 8192U);
  EXPECT_EQ(trace->requests[3].op, TraceOp::trim);
  EXPECT_EQ(trace->requests[4].op, TraceOp::flush);
  EXPECT_EQ(trace->request_bytes_max, 8192U);
}

TEST(BootTrace, TheTraceOfTheRepositoryIsRead) {
  const auto trace = read_boot_trace(SOURCE_DIR "/bench/traces/debian-12-boot.trace");
  ASSERT_TRUE(trace) << trace.error().what;
  EXPECT_GT(trace->requests.size(), 500U);
}

TEST(BootTrace, CutOffAtAnyByteIsRefused) {
  const std::string text = kHead + "note x\nr 0 10 0 512\nf 30 400\nend 2\n";
  ASSERT_TRUE(decode(text));
  for (std::size_t bytes = 0; bytes < text.size(); ++bytes) {
    EXPECT_FALSE(decode(text.substr(0, bytes))) << bytes;
  }
}

TEST(BootTrace, AChangedByteNeverBreaksABound) {
  const std::string text = kHead + "note x\nr 0 10 0 512\nw 5 9 4096 4096\nf 30 400\nend 3\n";
  for (std::size_t at = 0; at < text.size(); ++at) {
    for (int value = 0; value < 256; ++value) {
      std::string changed = text;
      changed[at] = static_cast<char>(value);
      const auto trace = decode(changed);
      if (!trace) continue;
      for (const TraceRequest& request : trace->requests) {
        EXPECT_LE(request.offset + request.bytes, trace->size_bytes);
        EXPECT_LE(request.begin, request.end);
        EXPECT_LE(request.bytes, BootTrace::kRequestBytesMax);
      }
    }
  }
}

TEST(BootTrace, AnotherVersionIsRefusedBeforeAnythingElse) {
  const auto trace = decode("vmstore-boot-trace 2\nwhatever");
  ASSERT_FALSE(trace);
  EXPECT_EQ(trace.error().code, "newer_format");
}

TEST(BootTrace, NoTraceIsTold) {
  EXPECT_EQ(complained_line(decode("")), 1U);
  EXPECT_EQ(complained_line(decode("vmstore-boot-tracer 1\n")), 1U);
  EXPECT_EQ(complained_line(decode(std::string(100, '\0'))), 1U);
  EXPECT_EQ(complained_line(decode("vmstore-boot-trace one\n")), 1U);
}

TEST(BootTrace, ImpossibleSizesAreRefused) {
  for (const std::string size :
       {"0", "511", "513", "281474976710657", "9223372036854775808", "-1", "", "512x", "+512"}) {
    const auto trace = decode("vmstore-boot-trace 1\nsize " + size + "\nf 0 1\nend 1\n");
    EXPECT_EQ(complained_line(trace), 2U) << size;
  }
}

TEST(BootTrace, ImpossibleRequestsAreRefused) {
  for (const std::string line : {"",
                                 " ",
                                 "x 0 1 0 512",
                                 "r",
                                 "r 0 1 0",
                                 "r 0 1 0 512 ",
                                 "r 0 1 0 512 fua",
                                 "f 0 1 fua",
                                 "f 0 1 0 512",
                                 "w 0 1 0 512 sync",
                                 "w 0 1 0 512 fua fua",
                                 "w 0 1 0 512 fua fua fua",
                                 "r 0 1 0 0",
                                 "r 0 1 0 33554433",
                                 "r 0 1 1048576 1",
                                 "r 0 1 1048065 512",
                                 "r 0 1 9223372036854775807 512",
                                 "r 0 1 18446744073709551615 512",
                                 "r 0 1 99999999999999999999999 512",
                                 "r -1 1 0 512",
                                 "r 0 86400000001 0 512",
                                 "r 0  1 0 512",
                                 "r 0 1 0x0 512",
                                 "r 7 1 0 512",
                                 "note late\nr 0 1 0 512\nnote late"}) {
    const auto trace = decode_requests({line});
    EXPECT_FALSE(trace) << line;
  }
}

TEST(BootTrace, RequestsAreInTheOrderOfTheirBeginning) {
  EXPECT_EQ(complained_line(decode_requests({"f 0 1", "f 5 1", "f 4 1"})), 5U);
}

TEST(BootTrace, TheCountAtTheEndIsChecked) {
  EXPECT_EQ(complained_line(decode(kHead + "f 0 1\nend 2\n")), 4U);
  EXPECT_EQ(complained_line(decode(kHead + "end 0\n")), 3U);
  EXPECT_EQ(complained_line(decode(kHead + "f 0 1\nend 1\nf 0 1\n")), 4U);
}

TEST(BootTrace, TooManyAtATimeAreRefused) {
  std::vector<std::string> lines(BootTrace::kUnderWayMax, "r 0 10 0 512");
  EXPECT_TRUE(decode_requests(lines));
  lines.push_back("r 10 10 0 512");  // the others have ended
  EXPECT_TRUE(decode_requests(lines));
  lines.insert(lines.begin(), "r 0 11 0 512");
  EXPECT_EQ(complained_line(decode_requests(lines)), 2 + BootTrace::kUnderWayMax + 1);
}

TEST(BootTrace, ANoteWithWhatATerminalObeysIsRefused) {
  EXPECT_EQ(complained_line(decode(kHead + "note \x1b[2J\nf 0 1\nend 1\n")), 3U);
}

TEST(BootTrace, AMissingFileIsNotFound) {
  const auto trace = read_boot_trace("/nonexistent/boot.trace");
  ASSERT_FALSE(trace);
  EXPECT_EQ(trace.error().exit_code, ExitCode::not_found);
}

}  // namespace
}  // namespace vmstore::cli
