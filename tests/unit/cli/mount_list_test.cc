// SPDX-License-Identifier: Apache-2.0
#include "cli/mount_list.h"

#include <gtest/gtest.h>

namespace vmstore::cli {
namespace {

TEST(MountList, AFolderWithABlankIsFoundUnderItsName) {
  EXPECT_EQ(
      mount_point_of_ours(
          R"(41 26 0:35 / /mnt/my\040disks\011\012\134x rw shared:7 - fuse.vmstore vmstore rw)"),
      "/mnt/my disks\t\n\\x");
  EXPECT_EQ(mount_point_of_ours(R"(1 2 0:3 / /a\04 rw - fuse.vmstore v rw)"), R"(/a\04)");
}

TEST(MountList, OtherMountsAreNotOurs) {
  EXPECT_EQ(mount_point_of_ours("41 26 0:35 / /mnt rw shared:7 - fuse.sshfs vmstore rw"), "");
  EXPECT_EQ(mount_point_of_ours(""), "");
  EXPECT_EQ(mount_point_of_ours(" - fuse.vmstore "), "");
}

}  // namespace
}  // namespace vmstore::cli
