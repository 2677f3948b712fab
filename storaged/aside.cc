// SPDX-License-Identifier: Apache-2.0
#include "storaged/aside.h"

#include <algorithm>
#include <string>

#include "base/log.h"
#include "storaged/identity.h"

namespace vmstore::storaged {
namespace {

constexpr int kAsideMax = 1000;

/// A name for what is set aside that nothing has yet.
Result<std::string> aside_name(Files& files, std::string_view of) {
  VMS_TRY(const auto names, files.list(""));
  std::string name = std::string(of) + ".old";
  for (int i = 1; i < kAsideMax; ++i) {
    if (!std::binary_search(names.begin(), names.end(), name)) return name;
    name = std::string(of) + ".old." + std::to_string(i);
  }
  return Errc::exists;
}

Result<void> rename_aside(Files& files, std::string_view what) {
  VMS_TRY(const std::string name, aside_name(files, what));
  VMS_CHECK(files.rename(what, name));
  VMS_LOG(info, "meta", "what was there of the catalogue is set aside as " << name);
  return files.sync_folder("");
}

}  // namespace

Result<void> set_meta_folder_aside(Files& files) {
  const auto content = files.list(kMetaFolder);
  if (!content && content.error() == Errc::not_found) return success();
  if (!content) return content.error();
  if (content->empty()) return success();
  return rename_aside(files, kMetaFolder);
}

Result<void> set_log_aside(Files& files) {
  VMS_TRY(const auto names, files.list(""));
  if (!std::binary_search(names.begin(), names.end(), kCatalogueFile)) return success();
  return rename_aside(files, kCatalogueFile);
}

}  // namespace vmstore::storaged
