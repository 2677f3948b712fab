// SPDX-License-Identifier: Apache-2.0
// A file that appears under its name only when it is whole and durable.
#pragma once

#include <cstdint>
#include <string>

#include "base/bytes.h"
#include "cli/failure.h"
#include "cli/process.h"

namespace vmstore::cli {

/// Written beside its name; commit() syncs and renames it. Destroyed before that, nothing is left.
class OutputFile {
 public:
  /// `exists` when the name is taken, unless `replace`.
  [[nodiscard]] static Answer<OutputFile> create(const std::string& path, bool replace);
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&&) = delete;
  ~OutputFile();

  /// Path of the file while it is written, for programs that write it themselves.
  [[nodiscard]] const std::string& temporary_path() const noexcept { return temporary_; }
  [[nodiscard]] Answer<void> write_at(std::uint64_t offset, ByteSpan bytes);
  [[nodiscard]] Answer<void> append(std::string_view text);
  [[nodiscard]] Answer<void> set_size(std::uint64_t bytes);
  /// After another program replaced the content under temporary_path().
  [[nodiscard]] Answer<void> reopen();
  [[nodiscard]] Answer<void> commit();

 private:
  OutputFile(std::string path, std::string temporary, bool replace, UniqueFd fd)
      : path_(std::move(path)),
        temporary_(std::move(temporary)),
        replace_(replace),
        fd_(std::move(fd)) {}
  [[nodiscard]] Failure failed() const;

  std::string path_;
  std::string temporary_;
  bool replace_;
  UniqueFd fd_;
  std::uint64_t appended_ = 0;
};

}  // namespace vmstore::cli
