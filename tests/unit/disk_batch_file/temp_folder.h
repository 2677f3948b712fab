// SPDX-License-Identifier: Apache-2.0
// A private folder on tmpfs for one test, removed with everything in it.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>

namespace vmstore::disk {

class TempFolder {
 public:
  TempFolder() {
    std::string name = "/dev/shm/vmstore-test-XXXXXX";
    if (!std::filesystem::exists("/dev/shm")) name = "/tmp/vmstore-test-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp");
    path_ = name;
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

}  // namespace vmstore::disk
