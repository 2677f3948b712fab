// SPDX-License-Identifier: Apache-2.0
// Stands for vmstored and nbdkit in tests of `up`: serves connections with one line and waits.
//
// As nbdkit it takes its listening socket from descriptor 3 and ends itself by SIGKILL at SIGUSR1;
// as vmstored it makes its --data folder if told to --create, listens on the socket of its --listen
// argument and ends at SIGTERM.
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

namespace {

int listen_on(std::string_view endpoint) {
  if (endpoint.starts_with("unix:")) endpoint.remove_prefix(5);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (endpoint.size() >= sizeof(address.sun_path)) return -1;
  std::memcpy(address.sun_path, endpoint.data(), endpoint.size());
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) return -1;
  return listen(fd, 16) == 0 ? fd : -1;
}

/// Descriptor 3, if it was handed over the way systemd does.
int passed_socket() {
  const char* pid = std::getenv("LISTEN_PID");
  const char* count = std::getenv("LISTEN_FDS");
  if (pid == nullptr || count == nullptr || std::string(count) != "1") return -1;
  return std::string(pid) == std::to_string(getpid()) ? 3 : -1;
}

extern "C" void end_by_kill(int /*number*/) {
  kill(getpid(), SIGKILL);
}
extern "C" void end_well(int /*number*/) {
  _exit(0);
}

}  // namespace

int main(int argc, char** argv) {
  int fd = -1;
  bool creates = false;
  for (int i = 1; i < argc; ++i) creates = creates || std::string_view(argv[i]) == "--create";
  for (int i = 1; i + 1 < argc; ++i) {
    if (creates && std::string_view(argv[i]) == "--data") {
      static_cast<void>(mkdir(argv[i + 1], 0700));
    }
    if (std::string_view(argv[i]) == "--listen") fd = listen_on(argv[i + 1]);
  }
  if (fd < 0) fd = passed_socket();
  if (fd < 0) {
    constexpr std::string_view kText = "fake: no socket to listen on\n";
    static_cast<void>(!write(STDERR_FILENO, kText.data(), kText.size()));
    return 1;
  }
  std::signal(SIGUSR1, end_by_kill);
  std::signal(SIGTERM, end_well);
  while (true) {
    const int client = accept(fd, nullptr, nullptr);
    if (client < 0) continue;
    const std::string line = "served by " + std::to_string(getpid()) + "\n";
    static_cast<void>(!write(client, line.data(), line.size()));
    // Connections stay open: whoever asks how many clients there are sees them.
  }
}
