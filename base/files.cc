// SPDX-License-Identifier: Apache-2.0
#include "base/files.h"

#include <algorithm>

namespace vmstore {
namespace {

constexpr std::size_t kPathCharsMax = 255;

bool is_path_char(char c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

bool is_valid_part(std::string_view part) noexcept {
  return !part.empty() && part != "." && part != ".." &&
         std::all_of(part.begin(), part.end(), is_path_char);
}

}  // namespace

bool is_valid_path(std::string_view path) noexcept {
  if (path.size() > kPathCharsMax) return false;
  for (;;) {
    const auto slash = path.find('/');
    if (!is_valid_part(path.substr(0, slash))) return false;
    if (slash == std::string_view::npos) return true;
    path.remove_prefix(slash + 1);
  }
}

Result<std::vector<std::byte>> read_file(Files& files,
                                         std::string_view path,
                                         std::size_t bytes_max) {
  OpenOptions options;
  options.write = false;
  VMS_TRY(const auto file, files.open(path, options));
  VMS_TRY(const auto size, file->size());
  if (size > bytes_max) return Errc::corrupt;
  std::vector<std::byte> content(size);
  VMS_TRY(const auto got, file->read(0, content));
  if (got != size) return Errc::corrupt;
  return content;
}

Result<void> replace_file(Files& files, std::string_view path, ByteSpan content) {
  const std::string beside = std::string(path) + ".new";
  OpenOptions options;
  options.create = true;
  {
    VMS_TRY(const auto file, files.open(beside, options));
    VMS_CHECK(file->truncate(0));
    VMS_CHECK(file->write(0, content));
    VMS_CHECK(file->sync());
  }
  VMS_CHECK(files.rename(beside, path));
  const auto slash = path.rfind('/');
  return files.sync_folder(slash == std::string_view::npos ? "" : path.substr(0, slash));
}

}  // namespace vmstore
