// SPDX-License-Identifier: Apache-2.0
#include "fuse/names.h"

#include <gtest/gtest.h>

namespace vmstore::fuse {
namespace {

const Place kRoot{Kind::root, {}};
const Place kLab{Kind::group, "lab"};
const Place kSnapshots{Kind::snap_root, {}};
const Place kLabSnapshots{Kind::snap_group, "lab"};

TEST(Names, FilesAreDisksAndSnapshots) {
  EXPECT_EQ(file_in(kRoot, "web.raw"), (Place{Kind::disk, "web"}));
  EXPECT_EQ(file_in(kLab, "web.raw"), (Place{Kind::disk, "lab/web"}));
  EXPECT_EQ(file_in(kSnapshots, "web@v1.raw"), (Place{Kind::snapshot, "web@v1"}));
  EXPECT_EQ(file_in(kLabSnapshots, "web@v1.raw"), (Place{Kind::snapshot, "lab/web@v1"}));
}

TEST(Names, EveryFileIsFoundUnderItsOwnName) {
  for (const Place& folder : {kRoot, kLab, kSnapshots, kLabSnapshots}) {
    for (const char* entry : {"a.raw", "a.raw.raw", "a-b_c.d.raw", "a@b.raw", "0@x.y.raw"}) {
      if (const auto file = file_in(folder, entry)) {
        EXPECT_EQ(entry_name(*file), entry);
      }
    }
  }
}

TEST(Names, SnapshotsAreNotAmongDisksNorDisksAmongSnapshots) {
  EXPECT_FALSE(file_in(kRoot, "web@v1.raw"));
  EXPECT_FALSE(file_in(kSnapshots, "web.raw"));
}

TEST(Names, NothingElseIsAFile) {
  for (const char* entry : {"web",
                            ".raw",
                            "..raw",
                            "a..b.raw",
                            "Web.raw",
                            "a/b.raw",
                            "../web.raw",
                            "web.raw ",
                            "web\n.raw",
                            "@v1.raw",
                            "web@.raw",
                            "-web.raw"}) {
    for (const Place& folder : {kRoot, kLab, kSnapshots, kLabSnapshots}) {
      EXPECT_FALSE(file_in(folder, entry)) << entry;
    }
  }
  EXPECT_FALSE(file_in(Place{Kind::disk, "web"}, "web.raw"));
}

TEST(Names, FoldersAreGroupsOneLevelDeep) {
  EXPECT_EQ(folder_in(kRoot, "lab"), (Place{Kind::group, "lab"}));
  EXPECT_EQ(folder_in(kRoot, ".snap"), (Place{Kind::snap_root, {}}));
  EXPECT_EQ(folder_in(kSnapshots, "lab"), (Place{Kind::snap_group, "lab"}));
  EXPECT_FALSE(folder_in(kSnapshots, ".snap"));
  EXPECT_FALSE(folder_in(kLab, "lab"));
  EXPECT_FALSE(folder_in(kLabSnapshots, "lab"));
  EXPECT_FALSE(folder_in(kRoot, ".."));
  EXPECT_FALSE(folder_in(kRoot, ".Trash"));
}

TEST(Names, GroupIsWhatStandsBeforeTheSlash) {
  EXPECT_EQ(group_of("lab/web"), "lab");
  EXPECT_EQ(group_of("web"), "");
}

}  // namespace
}  // namespace vmstore::fuse
