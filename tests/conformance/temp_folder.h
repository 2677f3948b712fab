// SPDX-License-Identifier: Apache-2.0
// A folder that is gone with its test, and a limit that makes writes to real files fail.
#pragma once

#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <string>

#include "base/assert.h"

namespace vmstore {

class TempFolder {
 public:
  TempFolder() {
    // These tests are about what is written, not about how fast a device syncs.
    const bool has_shm = ::access("/dev/shm", W_OK) == 0;
    const auto parent = has_shm ? "/dev/shm" : std::filesystem::temp_directory_path();
    std::string pattern = parent / "vmstore-test-XXXXXX";
    const char* const made = ::mkdtemp(pattern.data());
    VMS_ASSERT(made != nullptr);
    path_ = made;
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// While it lives, this process can write no file beyond `bytes`.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    handler_ = std::signal(SIGXFSZ, SIG_IGN);
    VMS_ASSERT(::getrlimit(RLIMIT_FSIZE, &before_) == 0);
    const rlimit limit{bytes, before_.rlim_max};
    VMS_ASSERT(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;
  ~FileSizeLimit() {
    lift();
    std::signal(SIGXFSZ, handler_);
  }
  void lift() const { VMS_ASSERT(::setrlimit(RLIMIT_FSIZE, &before_) == 0); }

 private:
  rlimit before_{};
  void (*handler_)(int) = nullptr;
};

}  // namespace vmstore
