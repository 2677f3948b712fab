// SPDX-License-Identifier: Apache-2.0
#include "cli/control.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

namespace vmstore::cli {
namespace {

TEST(ControlRequest, SurvivesItsEncoding) {
  ControlRequest request;
  request.op = ControlOp::attach;
  request.reference = "g/web@s";
  request.persistent = true;
  const auto decoded = decode_request(encode_request(request));
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->op, ControlOp::attach);
  EXPECT_EQ(decoded->reference, "g/web@s");
  EXPECT_TRUE(decoded->persistent);
  EXPECT_FALSE(decoded->force);
}

TEST(ControlRequest, GarbageIsAUsageFailure) {
  const std::vector<std::string> garbage{"",
                                         "{",
                                         "null",
                                         "[]",
                                         "attach web",
                                         R"({"op":1})",
                                         R"({"op":"format"})",
                                         R"({"op":"attach"})",
                                         R"({"op":"attach","name":"../x"})",
                                         R"({"op":"attach","name":["web"]})",
                                         R"({"op":"detach","name":""})",
                                         R"({"op":"list"} {"op":"stop"})",
                                         std::string(100, '['),
                                         std::string("{\"op\":\"list\0\"}", 14)};
  for (const std::string& line : garbage) {
    const auto decoded = decode_request(line);
    ASSERT_FALSE(decoded) << line;
    EXPECT_EQ(decoded.error().exit_code, ExitCode::usage) << line;
  }
}

TEST(ControlRequest, DeepNestingIsRefused) {
  std::string line = R"({"op":"list","x":)";
  for (int i = 0; i < 1000; ++i) line += "[";
  for (int i = 0; i < 1000; ++i) line += "]";
  EXPECT_FALSE(decode_request(line + "}"));
}

TEST(ControlAnswer, CarriesAFailureWhole) {
  const Failure sent{ExitCode::busy, "busy", "web", "2 clients are connected", "stop the VM"};
  const auto answer = decode_answer(encode_failure(sent));
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().exit_code, ExitCode::busy);
  EXPECT_EQ(answer.error().object, "web");
  EXPECT_EQ(answer.error().what, sent.what);
  EXPECT_EQ(answer.error().hint, sent.hint);
}

TEST(ControlAnswer, AnUnknownExitCodeIsStillAFailure) {
  const auto zero = decode_answer(R"({"ok":false,"exit_code":0})");
  ASSERT_FALSE(zero);
  EXPECT_EQ(zero.error().exit_code, ExitCode::failed);
  EXPECT_FALSE(decode_answer("garbage"));
  EXPECT_FALSE(decode_answer("{}"));
}

TEST(ControlAnswer, SuccessKeepsItsFields) {
  const auto answer = decode_answer(encode_success({{"uri", "nbd+unix:///web"}}));
  ASSERT_TRUE(answer);
  EXPECT_EQ(json_text(*answer, "uri"), "nbd+unix:///web");
}

TEST(LineBuffer, GivesWholeLinesInOrder) {
  LineBuffer lines(10);
  EXPECT_TRUE(lines.push("ab"));
  EXPECT_EQ(lines.pop(), std::nullopt);
  EXPECT_TRUE(lines.push("c\nd\n"));
  EXPECT_EQ(lines.pop(), "abc");
  EXPECT_EQ(lines.pop(), "d");
  EXPECT_EQ(lines.pop(), std::nullopt);
}

TEST(LineBuffer, ALineWithoutEndIsRefused) {
  LineBuffer lines(10);
  EXPECT_TRUE(lines.push("0123456789"));
  EXPECT_FALSE(lines.push("x"));
}

TEST(ConnectUnix, NobodyThereIsNotFound) {
  const auto fd = connect_unix("/nonexistent/control.sock");
  ASSERT_FALSE(fd);
  EXPECT_EQ(fd.error(), Error(Errc::not_found));
  EXPECT_FALSE(connect_unix(std::string(200, 'x')));
}

TEST(ConnectUnix, AProbeDoesNotWaitForOneThatDoesNotAccept) {
  char pattern[] = "/tmp/vmstore-test-XXXXXX";
  const std::string folder = mkdtemp(pattern);
  const std::string path = folder + "/s";
  EXPECT_FALSE(somebody_listens(path));
  {
    const auto listener = listen_unix(path, 0);
    ASSERT_TRUE(listener);
    const auto first = connect_unix(path);  // the backlog is full now
    ASSERT_TRUE(first);
    EXPECT_TRUE(somebody_listens(path));
    EXPECT_TRUE(somebody_listens(path));
  }
  EXPECT_FALSE(somebody_listens(path));
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace vmstore::cli
