// SPDX-License-Identifier: Apache-2.0
// `up` with real processes and sockets: the programs it starts are fake_program.
#include "cli/up_service.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "cli/run_folder.h"

namespace vmstore::cli {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kPatience{20000};

class UpServiceTest : public testing::Test {
 protected:
  UpServiceTest() {
    char pattern[] = "/tmp/vmstore-test-XXXXXX";
    folder_ = mkdtemp(pattern);
  }
  ~UpServiceTest() override {
    for (const pid_t pid : ups_) {
      kill(pid, SIGKILL);
      waitpid(pid, nullptr, 0);
    }
    std::filesystem::remove_all(folder_);
  }

  UpOptions options() const {
    UpOptions up;
    up.data_folder = folder_ + "/data";
    up.run_folder = folder_ + "/run";
    up.vmstored = FAKE_PROGRAM;
    up.nbdkit = FAKE_PROGRAM;
    up.plugin = "plugin";
    up.is_logging_to_file = true;
    return up;
  }
  /// `up` in a process of its own; its exit code is that of its failure.
  pid_t start(const UpOptions& up) {
    const pid_t pid = fork();
    if (pid == 0) {
      std::freopen("/dev/null", "w", stderr);
      UpService service(up);
      Answer<void> answer = service.open();
      if (answer) answer = service.run([] {});
      _exit(answer ? 0 : static_cast<int>(answer.error().exit_code));
    }
    ups_.push_back(pid);
    return pid;
  }
  int exit_code(pid_t pid) {
    std::erase(ups_, pid);
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  Answer<json::object> ask(ControlOp op,
                           const std::string& reference = {},
                           bool force = false,
                           bool persistent = false) {
    ControlRequest request;
    request.op = op;
    request.reference = reference;
    request.force = force;
    request.persistent = persistent;
    return call_supervisor(folder_ + "/run", request, kPatience);
  }
  void wait_until_ready() {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (std::chrono::steady_clock::now() < deadline) {
      if (ask(ControlOp::list)) return;
      poll(nullptr, 0, 10);
    }
    FAIL() << "up does not get ready";
  }
  /// Ended, although perhaps nobody has reaped it yet.
  static bool is_dead(pid_t pid) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (std::chrono::steady_clock::now() < deadline) {
      std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
      std::string number;
      std::string name;
      std::string state;
      if (!(file >> number >> name >> state) || state == "Z") return true;
      poll(nullptr, 0, 10);
    }
    return false;
  }
  pid_t pid_of(const std::string& reference) {
    const auto answer = ask(ControlOp::list);
    if (!answer) return -1;
    for (const json::value& entry : answer->at("exports").as_array()) {
      if (json_text(entry.as_object(), "name") != reference) continue;
      return static_cast<pid_t>(json_count(entry.as_object(), "pid").value_or(0));
    }
    return -1;
  }
  static std::string first_line(int fd) {
    std::string line;
    char c = 0;
    pollfd waited{fd, POLLIN, 0};
    while (poll(&waited, 1, static_cast<int>(kPatience.count())) > 0 && read(fd, &c, 1) == 1) {
      if (c == '\n') return line;
      line += c;
    }
    return {};
  }

  std::string folder_;
  std::vector<pid_t> ups_;
};

TEST_F(UpServiceTest, ServesAnAttachedDiskAndStopsInOrder) {
  const pid_t up = start(options());
  wait_until_ready();
  const auto attached = ask(ControlOp::attach, "g/web");
  ASSERT_TRUE(attached) << attached.error().what;
  const std::string socket = json_text(*attached, "socket").value();
  EXPECT_EQ(socket, nbd_socket(folder_ + "/run", "g/web"));
  {
    const auto client = connect_unix(socket);
    ASSERT_TRUE(client);
    EXPECT_EQ(first_line(client->get()), "served by " + std::to_string(pid_of("g/web")));
  }
  ASSERT_TRUE(ask(ControlOp::stop, {}, true));
  EXPECT_EQ(exit_code(up), 0);
  EXPECT_FALSE(connect_unix(socket));
  EXPECT_FALSE(connect_unix(node_socket(folder_ + "/run")));
}

TEST_F(UpServiceTest, WithoutANodeItServesDisksOfTheStoreThatIsElsewhere) {
  UpOptions elsewhere = options();
  elsewhere.vmstored = "/nowhere";
  elsewhere.nodes = "10.0.0.1:7000,10.0.0.2:7000";
  elsewhere.tls.ca = "/tls/ca.pem";
  const pid_t up = start(elsewhere);
  wait_until_ready();
  const auto attached = ask(ControlOp::attach, "web", false, true);
  ASSERT_TRUE(attached) << attached.error().what;
  std::ifstream file("/proc/" + std::to_string(pid_of("web")) + "/cmdline");
  const std::string words((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  EXPECT_NE(words.find("endpoint=10.0.0.1:7000,10.0.0.2:7000"), std::string::npos) << words;
  EXPECT_NE(words.find("tls-ca=/tls/ca.pem"), std::string::npos);
  EXPECT_EQ(words.find("tls-key"), std::string::npos);
  ASSERT_TRUE(ask(ControlOp::stop, {}, true));
  EXPECT_EQ(exit_code(up), 0);
  // It remembers beside no store, and has made none.
  EXPECT_TRUE(std::filesystem::exists(folder_ + "/data/attached.json"));
  EXPECT_FALSE(std::filesystem::exists(node_socket(folder_ + "/run")));
}

TEST_F(UpServiceTest, AClientThatConnectsWhileTheServerIsDeadJustWaits) {
  start(options());
  wait_until_ready();
  const auto attached = ask(ControlOp::attach, "web");
  ASSERT_TRUE(attached);
  const pid_t first = pid_of("web");
  ASSERT_GT(first, 0);
  kill(first, SIGSTOP);  // it accepts no more
  const auto client = connect_unix(json_text(*attached, "socket").value());
  ASSERT_TRUE(client);
  kill(first, SIGKILL);
  const std::string line = first_line(client->get());
  EXPECT_TRUE(line.starts_with("served by ")) << line;
  EXPECT_NE(line, "served by " + std::to_string(first));
}

TEST_F(UpServiceTest, ASecondUpIsRefused) {
  start(options());
  wait_until_ready();
  EXPECT_EQ(exit_code(start(options())), static_cast<int>(ExitCode::busy));
  EXPECT_TRUE(ask(ControlOp::list));
}

TEST_F(UpServiceTest, AnUpThatWasKilledIsFollowedByOneThatServesTheSame) {
  const pid_t first = start(options());
  wait_until_ready();
  ASSERT_TRUE(ask(ControlOp::attach, "web"));
  const pid_t served = pid_of("web");
  ASSERT_GT(served, 0);
  kill(first, SIGKILL);
  exit_code(first);
  start(options());
  wait_until_ready();
  EXPECT_GT(pid_of("web"), 0);
  EXPECT_NE(pid_of("web"), served);
  EXPECT_TRUE(is_dead(served));  // its children died with it
}

TEST_F(UpServiceTest, APlannedStopKeepsWhatIsPersistentOnly) {
  const pid_t first = start(options());
  wait_until_ready();
  ASSERT_TRUE(ask(ControlOp::attach, "web"));
  ASSERT_TRUE(ask(ControlOp::attach, "db", false, true));
  ASSERT_TRUE(ask(ControlOp::stop));
  EXPECT_EQ(exit_code(first), 0);
  start(options());
  wait_until_ready();
  EXPECT_GT(pid_of("db"), 0);
  EXPECT_EQ(pid_of("web"), -1);
}

TEST_F(UpServiceTest, DetachWaitsForTheProcessAndRefusesWhileAClientIsConnected) {
  start(options());
  wait_until_ready();
  const auto attached = ask(ControlOp::attach, "web");
  ASSERT_TRUE(attached);
  const pid_t served = pid_of("web");
  auto client = connect_unix(json_text(*attached, "socket").value());
  ASSERT_TRUE(client);
  EXPECT_NE(first_line(client->get()), "");
  const auto refused = ask(ControlOp::detach, "web");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().exit_code, ExitCode::busy);
  EXPECT_TRUE(ask(ControlOp::detach, "web", true));
  EXPECT_EQ(pid_of("web"), -1);
  EXPECT_TRUE(is_dead(served));
}

TEST_F(UpServiceTest, GarbageOnTheControlSocketHarmsNobody) {
  start(options());
  wait_until_ready();
  const std::string path = control_socket(folder_ + "/run");
  const auto garbage = connect_unix(path);
  ASSERT_TRUE(garbage);
  const std::string text = "GET / HTTP/1.0\n{\"op\":\"attach\"}\n\n";
  ASSERT_EQ(write(garbage->get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(first_line(garbage->get()).starts_with("{\"ok\":false"));
  }
  const auto endless = connect_unix(path);
  ASSERT_TRUE(endless);
  const std::string flood(kControlLineBytesMax + 5000, 'x');
  static_cast<void>(!send(endless->get(), flood.data(), flood.size(), MSG_NOSIGNAL));
  EXPECT_EQ(first_line(endless->get()), "");  // the connection was ended
  EXPECT_TRUE(ask(ControlOp::list));
}

TEST_F(UpServiceTest, ANodeThatCannotStartIsAFailureNotALoop) {
  UpOptions up = options();
  up.vmstored = "/bin/false";
  EXPECT_EQ(exit_code(start(up)), static_cast<int>(ExitCode::failed));
}

TEST_F(UpServiceTest, ADiskCannotBeAttachedInTwoWays) {
  start(options());
  wait_until_ready();
  ASSERT_TRUE(ask(ControlOp::attach, "web"));
  const auto again = ask(ControlOp::attach, "web");
  ASSERT_TRUE(again);
  EXPECT_FALSE(json_flag(*again, "is_new"));
  ControlRequest read_only;
  read_only.op = ControlOp::attach;
  read_only.reference = "web";
  read_only.read_only = true;
  const auto refused = call_supervisor(folder_ + "/run", read_only, kPatience);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().exit_code, ExitCode::busy);
}

}  // namespace
}  // namespace vmstore::cli
