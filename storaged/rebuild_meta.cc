// SPDX-License-Identifier: Apache-2.0
#include "storaged/rebuild_meta.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/fault.h"
#include "base/log.h"
#include "meta/catalogue_log.h"
#include "meta/rebuild.h"
#include "storaged/identity.h"

namespace vmstore::storaged {
namespace {

constexpr int kAsideMax = 1000;

/// A name for the old folder that nothing has yet.
Result<std::string> aside_name(Files& files) {
  VMS_TRY(const auto names, files.list(""));
  std::string name = std::string(kMetaFolder) + ".old";
  for (int i = 1; i < kAsideMax; ++i) {
    if (!std::binary_search(names.begin(), names.end(), name)) return name;
    name = std::string(kMetaFolder) + ".old." + std::to_string(i);
  }
  return Errc::exists;
}

Result<void> set_aside(Files& files) {
  const auto content = files.list(kMetaFolder);
  if (!content && content.error() == Errc::not_found) return success();
  if (!content) return content.error();
  if (content->empty()) return success();
  VMS_TRY(const std::string name, aside_name(files));
  VMS_CHECK(files.rename(kMetaFolder, name));
  VMS_LOG(info, "meta", "the old catalogue is set aside as " << name);
  return files.sync_folder("");
}

}  // namespace

Result<void> rebuild_catalogue(Files& files, const std::string& path, Random& random) {
  VMS_TRY(const auto folder, DataFolder::open(files, DataFolder::Missing::refuse, random));
  auto image = meta::CatalogueLog::load(files, std::string(kCatalogueFile));
  if (!image) {
    VMS_LOG(error, "meta", "the catalogue log: " << to_string(image.error()));
    return image.error();
  }
  const std::array<meta::LogSource, 1> sources{
      meta::LogSource{folder->identity().node.hex(), std::move(*image)}};
  VMS_TRY(const auto rebuilt,
          meta::plan_rebuild(sources, static_cast<std::uint32_t>(random.u64())));
  // Only now, when it is known that a new one can be made.
  VMS_CHECK(set_aside(files));
  VMS_FAULT("node.rebuild.set_aside");
  VMS_CHECK(files.make_folder(kMetaFolder));
  VMS_CHECK(files.sync_folder(""));
  const std::string meta_path = path + "/" + std::string(kMetaFolder);
  VMS_CHECK(meta::rebuild_rocks(rebuilt, files, std::string(kCatalogueFile), meta_path));
  VMS_LOG(info,
          "meta",
          "rebuilt the catalogue: " << rebuilt.image.entries.size() << " entries, revision "
                                    << rebuilt.before.revision << " became "
                                    << rebuilt.image.revision);
  return success();
}

}  // namespace vmstore::storaged
