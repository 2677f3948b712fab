// SPDX-License-Identifier: Apache-2.0
#include "storaged/remembered_store.h"

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "base/errc.h"

namespace vmstore::storaged {

Result<std::optional<std::string>> remembered_store(const std::string& file,
                                                    const std::string& data_folder) {
  std::error_code error;
  const auto kind = std::filesystem::symlink_status(file, error).type();
  if (kind == std::filesystem::file_type::not_found) return std::optional<std::string>();
  if (kind != std::filesystem::file_type::regular) return Errc::corrupt;
  std::ifstream in(file, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  if (!in) return Errc::io_error;
  const std::size_t line = text.find('\n');
  const bool has_folder =
      line != std::string::npos && text.size() > line + 2 && text.back() == '\n';
  if (!has_folder) return Errc::corrupt;
  const std::string store = text.substr(0, line);
  const bool is_id = store.size() == StoreId().hex().size() &&
                     store.find_first_not_of("0123456789abcdef") == std::string::npos;
  if (!is_id) return Errc::corrupt;
  if (text.substr(line + 1) != data_folder + "\n") return std::optional<std::string>();
  return std::optional<std::string>(store);
}

Result<void> remember_store(const std::string& file,
                            const std::string& data_folder,
                            StoreId store) {
  const std::string fresh = file + ".new";
  {
    std::ofstream out(fresh, std::ios::binary | std::ios::trunc);
    out << store.hex() << "\n" << data_folder << "\n" << std::flush;
    if (!out) return Errc::io_error;
  }
  if (std::rename(fresh.c_str(), file.c_str()) != 0) return last_os_error();
  return success();
}

}  // namespace vmstore::storaged
