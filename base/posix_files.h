// SPDX-License-Identifier: Apache-2.0
// PosixFiles: the production Files, below one directory descriptor, O_NOFOLLOW everywhere.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "base/files.h"

namespace vmstore {

class PosixFiles final : public Files {
 public:
  /// Opens `folder`, which must exist and be a real directory.
  [[nodiscard]] static Result<std::unique_ptr<PosixFiles>> open_folder(const std::string& folder);
  ~PosixFiles() override;

  [[nodiscard]] Result<std::unique_ptr<File>> open(std::string_view path,
                                                   const OpenOptions& options) override;
  [[nodiscard]] Result<void> remove(std::string_view path) override;
  [[nodiscard]] Result<void> rename(std::string_view from, std::string_view to) override;
  [[nodiscard]] Result<void> make_folder(std::string_view path) override;
  [[nodiscard]] Result<std::vector<std::string>> list(std::string_view folder) override;
  [[nodiscard]] Result<void> sync_folder(std::string_view folder) override;
  [[nodiscard]] Result<FolderSpace> space() override;
  [[nodiscard]] bool used_direct() const noexcept override { return used_direct_; }
  /// Tries fallocate and hole punching on a scratch file; `unsupported` when one is missing.
  [[nodiscard]] Result<void> probe_hole_punching();

 private:
  explicit PosixFiles(int folder_fd) noexcept : folder_fd_(folder_fd) {}
  [[nodiscard]] Result<int> open_below(std::string_view path, int flags) const;
  struct Place;
  [[nodiscard]] Result<Place> place_of(std::string_view path) const;
  int folder_fd_;
  std::atomic<bool> used_direct_{true};
};

}  // namespace vmstore
