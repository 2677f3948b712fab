// SPDX-License-Identifier: Apache-2.0
#include "fuse/background.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace vmstore::fuse {

Result<Background> Background::enter() {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return last_os_error();
  const pid_t child = fork();
  if (child < 0) {
    const Error error = last_os_error();
    close(ends[0]);
    close(ends[1]);
    return error;
  }
  if (child == 0) {
    close(ends[0]);
    setsid();
    return Background(ends[1]);
  }
  close(ends[1]);
  char ready = 0;
  ssize_t got = 0;
  do {
    got = read(ends[0], &ready, 1);
  } while (got < 0 && errno == EINTR);
  _exit(got == 1 ? 0 : 1);
}

Background::~Background() {
  if (to_parent_ >= 0) close(to_parent_);
}

Result<void> Background::ready(const std::string& log_file) {
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0) return last_os_error();
  const int log =
      log_file.empty()
          ? dup(null)
          : open(log_file.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (log < 0) {
    const Error error = last_os_error();
    close(null);
    return error;
  }
  const bool left = chdir("/") == 0 && dup2(null, STDIN_FILENO) >= 0 &&
                    dup2(null, STDOUT_FILENO) >= 0 && dup2(log, STDERR_FILENO) >= 0;
  const Error error = last_os_error();
  close(null);
  close(log);
  if (!left) return error;
  const char ready = 1;
  const bool told = write(to_parent_, &ready, 1) == 1;
  close(std::exchange(to_parent_, -1));
  return told ? success() : Result<void>(Errc::interrupted);
}

}  // namespace vmstore::fuse
