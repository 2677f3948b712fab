// SPDX-License-Identifier: Apache-2.0
#include "cli/exports.h"

#include <grp.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "cli/control.h"
#include "cli/run_folder.h"

namespace vmstore::cli {
namespace {

constexpr unsigned kNobody = 65534;

class ExportsTest : public testing::Test {
 protected:
  ExportsTest() {
    char pattern[] = "/tmp/vmstore-test-XXXXXX";
    folder_ = mkdtemp(pattern);
    run_ = folder_ + "/run";
    data_ = folder_ + "/data";
    std::filesystem::create_directory(data_);
    EXPECT_TRUE(make_run_folder(run_));
  }
  ~ExportsTest() override { std::filesystem::remove_all(folder_); }
  std::string folder_;
  std::string run_;
  std::string data_;
};

TEST_F(ExportsTest, ASecondUpAfterACrashKnowsWhatWasAttached) {
  {
    Exports exports(run_, data_);
    ASSERT_TRUE(exports.add({"web", false, false}));
    ASSERT_TRUE(exports.add({"g/db@s", true, true}));
  }  // no planned stop
  const auto remembered = Exports(run_, data_).remembered();
  ASSERT_TRUE(remembered);
  ASSERT_EQ(remembered->size(), 2U);
  EXPECT_EQ(remembered->at(0).reference, "g/db@s");
  EXPECT_TRUE(remembered->at(0).read_only);
  EXPECT_EQ(remembered->at(1).reference, "web");
}

TEST_F(ExportsTest, APlannedStopKeepsOnlyWhatIsPersistent) {
  Exports exports(run_, data_);
  ASSERT_TRUE(exports.add({"web", false, false}));
  ASSERT_TRUE(exports.add({"db", false, true}));
  ASSERT_TRUE(exports.remove_all());
  const auto remembered = Exports(run_, data_).remembered();
  ASSERT_TRUE(remembered);
  ASSERT_EQ(remembered->size(), 1U);
  EXPECT_EQ(remembered->at(0).reference, "db");
}

/// As a user without rights: 42 when the failed attach left no socket.
[[noreturn]] void attach_for_a_foreign_group(const std::string& run, const std::string& data) {
  if (geteuid() == 0 &&
      (setgroups(0, nullptr) != 0 || setgid(kNobody) != 0 || setuid(kNobody) != 0)) {
    _exit(2);
  }
  if (!make_run_folder(run)) _exit(3);
  Exports exports(run, data, SocketGroup{"root", 0});
  const auto added = exports.add({"web", false, false});
  const bool is_gone = access(nbd_socket(run, "web").c_str(), F_OK) != 0;
  _exit(!added && is_gone && exports.all().empty() ? 42 : 1);
}

TEST_F(ExportsTest, NoSocketStaysWhereTheGroupCannotBeLetIn) {
  std::filesystem::permissions(folder_, std::filesystem::perms::all);
  EXPECT_EXIT(
      attach_for_a_foreign_group(folder_ + "/other", data_), testing::ExitedWithCode(42), "");
}

TEST_F(ExportsTest, DetachForgetsForGood) {
  Exports exports(run_, data_);
  ASSERT_TRUE(exports.add({"db", false, true}));
  ASSERT_TRUE(exports.remove("db"));
  EXPECT_TRUE(exports.remembered()->empty());
  EXPECT_EQ(access(nbd_socket(run_, "db").c_str(), F_OK), -1);
}

TEST_F(ExportsTest, RestoreRemembersAllOfThemWhateverHappensBetween) {
  {
    Exports exports(run_, data_);
    ASSERT_TRUE(exports.add({"a", false, true}));
    ASSERT_TRUE(exports.add({"b", false, true}));
  }
  Exports again(run_, data_);
  ASSERT_TRUE(again.restore(*again.remembered()));
  EXPECT_EQ(again.remembered()->size(), 2U);
}

TEST_F(ExportsTest, StaleSocketsDoNotMatter) {
  std::ofstream(nbd_socket(run_, "web")) << "left behind";
  Exports exports(run_, data_);
  ASSERT_TRUE(exports.add({"web", false, false}));
  EXPECT_TRUE(connect_unix(nbd_socket(run_, "web")));
}

TEST_F(ExportsTest, ADamagedFileIsNeverTakenForNothingAttached) {
  std::ofstream(data_ + "/attached.json") << "{\"version\":1,";
  const auto remembered = Exports(run_, data_).remembered();
  ASSERT_FALSE(remembered);
  EXPECT_EQ(remembered.error().exit_code, ExitCode::integrity);
}

TEST_F(ExportsTest, CountsClientsAcceptedAndWaiting) {
  Exports exports(run_, data_);
  const auto exported = exports.add({"web", false, false});
  ASSERT_TRUE(exported);
  const std::string socket = (*exported)->socket;
  EXPECT_EQ(count_clients(read_proc_net_unix(), socket), 0U);
  const auto client = connect_unix(socket);
  ASSERT_TRUE(client);
  EXPECT_EQ(count_clients(read_proc_net_unix(), socket), 1U);
}

TEST(CountClients, ReadsTheKernelsTable) {
  const std::string table =
      "Num       RefCount Protocol Flags    Type St Inode Path\n"
      "0000000000000000: 00000002 00000000 00010000 0001 01 100 /run/web.sock\n"
      "0000000000000000: 00000003 00000000 00000000 0001 03   101 /run/web.sock\n"
      "0000000000000000: 00000002 00000000 00000000 0001 02     0 /run/web.sock\n"
      "0000000000000000: 00000003 00000000 00000000 0001 03   102 /run/web.sock.old\n"
      "0000000000000000: 00000003 00000000 00000000 0001 03   103\n";
  EXPECT_EQ(count_clients(table, "/run/web.sock"), 2U);
  EXPECT_EQ(count_clients("", "/run/web.sock"), 0U);
}

TEST(Attachments, WhatIsNotAListIsAFailure) {
  for (const char* text : {"",
                           "[]",
                           "{}",
                           R"({"version":2,"attached":[]})",
                           R"({"version":1,"attached":[{"name":"../x"}]})",
                           R"({"version":1,"attached":["web"]})"}) {
    EXPECT_FALSE(decode_attachments(text)) << text;
  }
  EXPECT_TRUE(decode_attachments(encode_attachments({}))->empty());
}

}  // namespace
}  // namespace vmstore::cli
