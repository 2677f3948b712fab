// SPDX-License-Identifier: Apache-2.0
// A real vmstored on a folder of its own, for tests; ended by its process id, folders removed.
#pragma once

#include <sys/types.h>

#include <string>

namespace vmstore::disk {

/// THREADS: one.
class VmstoredProcess {
 public:
  /// Makes the folders; nothing runs yet.
  VmstoredProcess();
  VmstoredProcess(const VmstoredProcess&) = delete;
  VmstoredProcess& operator=(const VmstoredProcess&) = delete;
  ~VmstoredProcess();

  /// Starts it and returns when it says that it is ready; false if it ended before.
  [[nodiscard]] bool start();
  /// As in a crash. It can be started again.
  void kill();

  [[nodiscard]] std::string endpoint() const { return "unix:" + root_ + "/sock"; }
  /// Of clients, on tmpfs.
  [[nodiscard]] const std::string& run_folder() const noexcept { return run_folder_; }

 private:
  std::string root_;
  std::string run_folder_;
  ::pid_t pid_ = -1;
};

}  // namespace vmstore::disk
