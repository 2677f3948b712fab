// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/disk/vmstored_process.h"

#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <utility>
#include <vector>

namespace vmstore::disk {
namespace {

std::string temporary_folder(std::string pattern) {
  return ::mkdtemp(pattern.data()) == nullptr ? std::string() : pattern;
}

/// Reads until `word` or the end of the pipe.
bool says(int descriptor, std::string_view word) {
  std::string said;
  char part[256];
  while (said.find(word) == std::string::npos) {
    const ::ssize_t count = ::read(descriptor, part, sizeof part);
    if (count <= 0) return false;
    said.append(part, static_cast<std::size_t>(count));
  }
  return true;
}

}  // namespace

VmstoredProcess::VmstoredProcess()
    : root_(temporary_folder("/tmp/vmstore-client-test-XXXXXX")),
      run_folder_(temporary_folder("/dev/shm/vmstore-client-test-XXXXXX")) {}

VmstoredProcess::~VmstoredProcess() {
  kill();
  std::error_code ignored;
  std::filesystem::remove_all(root_, ignored);
  std::filesystem::remove_all(run_folder_, ignored);
}

bool VmstoredProcess::start() {
  int out[2];
  if (root_.empty() || run_folder_.empty() || ::pipe(out) != 0) return false;
  std::vector<std::string> words = {
      VMSTORED_PROGRAM, "--data", root_ + "/data", "--create", "--listen", endpoint()};
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  ::setenv("VMSTORE_JOURNAL_SIZE", "16M", 1);
  ::posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
  ::posix_spawn_file_actions_addclose(&actions, out[0]);
  const int failed =
      ::posix_spawn(&pid_, VMSTORED_PROGRAM, &actions, nullptr, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(out[1]);
  if (failed != 0) pid_ = -1;
  const bool ready = failed == 0 && says(out[0], "ready\n");
  ::close(out[0]);
  return ready;
}

void VmstoredProcess::kill() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(std::exchange(pid_, -1), nullptr, 0);
}

}  // namespace vmstore::disk
