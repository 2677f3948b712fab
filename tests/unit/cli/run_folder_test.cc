// SPDX-License-Identifier: Apache-2.0
#include "cli/run_folder.h"

#include <grp.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <set>

#include "base/units.h"

namespace vmstore::cli {
namespace {

TEST(NbdSocket, NamesNeverCollideAndNeverLeaveTheFolder) {
  // "a.sock" may be the name of a group: a subfolder would stand where the disk "a" has its socket.
  const std::vector<std::string> references{"a", "a.sock/b", "g/a", "g-a", "g.a", "a@s", "g/a@s"};
  std::set<std::string> sockets;
  for (const std::string& reference : references) {
    const std::string socket = nbd_socket("/run/vmstore", reference);
    EXPECT_TRUE(socket.starts_with("/run/vmstore/nbd/"));
    EXPECT_EQ(socket.rfind('/'), std::string("/run/vmstore/nbd").size()) << socket;
    EXPECT_TRUE(sockets.insert(socket).second) << socket;
  }
}

TEST(NbdSocket, LongestNamesFitASocketAndStayApart) {
  const std::string group(63, 'g');
  const std::string name(62, 'n');
  const std::string one = group + "/" + name + "1@" + std::string(63, 's');
  const std::string two = group + "/" + name + "2@" + std::string(63, 's');
  ASSERT_TRUE(parse_disk_reference(one));
  const std::string first = nbd_socket("/run/vmstore", one);
  EXPECT_LT(first.size(), sizeof(sockaddr_un::sun_path));
  EXPECT_NE(first, nbd_socket("/run/vmstore", two));
}

TEST(NbdUri, IsReadByTheUsualClients) {
  EXPECT_EQ(nbd_uri("g/a@s", "/run/vmstore/nbd/g~a@s.sock"),
            "nbd+unix:///g/a@s?socket=/run/vmstore/nbd/g~a@s.sock");
  EXPECT_EQ(nbd_uri("a", "/tmp/my run/a.sock"), "nbd+unix:///a?socket=/tmp/my%20run/a.sock");
}

class RunFolder : public testing::Test {
 protected:
  RunFolder() {
    char pattern[] = "/tmp/vmstore-test-XXXXXX";
    folder_ = mkdtemp(pattern);
  }
  ~RunFolder() override { std::filesystem::remove_all(folder_); }
  std::string folder_;
};

TEST_F(RunFolder, IsMadePrivate) {
  const std::string path = folder_ + "/run";
  ASSERT_TRUE(make_run_folder(path));
  ASSERT_TRUE(make_run_folder(path));
  struct stat info {};
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0700U);
}

TEST_F(RunFolder, AGroupMayEnterUntilItIsMadeWithoutOne) {
  const std::string path = folder_ + "/run";
  const SocketGroup group{"ours", getegid()};
  struct stat info {};
  ASSERT_TRUE(make_run_folder(path, group));
  for (const std::string& made : {path, path + "/nbd"}) {
    ASSERT_EQ(stat(made.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777U, 0750U) << made;
    EXPECT_EQ(info.st_gid, group.id) << made;
  }
  ASSERT_TRUE(make_run_folder(path));
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0700U);
}

/// As a user without rights: 42 when the folder was closed before its group was to change.
[[noreturn]] void make_for_a_foreign_group(const std::string& path) {
  constexpr unsigned kNobody = 65534;
  if (geteuid() == 0 &&
      (setgroups(0, nullptr) != 0 || setgid(kNobody) != 0 || setuid(kNobody) != 0)) {
    _exit(2);
  }
  if (mkdir(path.c_str(), 0700) != 0 || chmod(path.c_str(), 0770) != 0) _exit(3);
  if (make_run_folder(path, SocketGroup{"root", 0})) _exit(4);
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) _exit(5);
  _exit((info.st_mode & 0777U) == 0700U ? 42 : 1);
}

TEST_F(RunFolder, AnotherGroupNeverGetsTheRightsOfTheOneBefore) {
  std::filesystem::permissions(folder_, std::filesystem::perms::all);
  EXPECT_EXIT(make_for_a_foreign_group(folder_ + "/run"), testing::ExitedWithCode(42), "");
}

TEST_F(RunFolder, AGroupThatIsNotThereIsAUsageFailure) {
  const auto found = find_group("no-such-group-at-all");
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().exit_code, ExitCode::usage);
  EXPECT_EQ(find_group("root")->id, 0U);
}

TEST_F(RunFolder, ALinkIsRefused) {
  std::filesystem::create_directory(folder_ + "/elsewhere");
  std::filesystem::create_directory_symlink(folder_ + "/elsewhere", folder_ + "/run");
  EXPECT_FALSE(make_run_folder(folder_ + "/run"));
}

TEST_F(RunFolder, TooLongIsRefusedAtOnce) {
  EXPECT_FALSE(make_run_folder(folder_ + "/" + std::string(90, 'x')));
}

}  // namespace
}  // namespace vmstore::cli
