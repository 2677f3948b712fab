// SPDX-License-Identifier: Apache-2.0
#include "fuse/node_table.h"

#include <gtest/gtest.h>

namespace vmstore::fuse {
namespace {

FileInfo disk_file(const std::string& name, std::uint64_t id) {
  FileInfo info;
  info.place = Place{Kind::disk, name};
  info.identity.disk = DiskId{0, id};
  info.epoch = 1;
  return info;
}

constexpr WallTime at(int seconds) {
  return WallTime(std::chrono::seconds(seconds));
}

TEST(NodeTable, KnowsTheRootFromTheStart) {
  NodeTable nodes;
  EXPECT_EQ(nodes.find(kRootInode).value().place.kind, Kind::root);
  nodes.forget(kRootInode, 1000);
  EXPECT_TRUE(nodes.find(kRootInode));
}

TEST(NodeTable, SameFileSameNumber) {
  NodeTable nodes;
  const Inode first = nodes.look_up(disk_file("web", 1), at(1));
  EXPECT_EQ(nodes.look_up(disk_file("web", 1), at(2)), first);
  EXPECT_NE(nodes.look_up(disk_file("db", 2), at(2)), first);
}

TEST(NodeTable, DiskMadeAgainGetsANewNumber) {
  NodeTable nodes;
  const Inode before = nodes.look_up(disk_file("web", 1), at(1));
  const Inode after = nodes.look_up(disk_file("web", 2), at(1));
  EXPECT_NE(before, after);
  EXPECT_EQ(nodes.find(before).value().identity.disk.low, 1U);
}

TEST(NodeTable, ForgetsAfterAsManyAsWereLookedUp) {
  NodeTable nodes;
  const Inode inode = nodes.look_up(disk_file("web", 1), at(1));
  EXPECT_EQ(nodes.look_up(disk_file("web", 1), at(1)), inode);
  nodes.forget(inode, 1);
  EXPECT_TRUE(nodes.find(inode));
  nodes.forget(inode, 1);
  EXPECT_FALSE(nodes.find(inode));
  EXPECT_EQ(nodes.size(), 1U);
}

TEST(NodeTable, NumbersAreNeverReused) {
  NodeTable nodes;
  const Inode inode = nodes.look_up(disk_file("web", 1), at(1));
  nodes.forget(inode, 1);
  EXPECT_NE(nodes.look_up(disk_file("web", 1), at(1)), inode);
}

TEST(NodeTable, ForgettingTooMuchIsHarmless) {
  NodeTable nodes;
  const Inode inode = nodes.look_up(disk_file("web", 1), at(1));
  nodes.forget(inode, 99);
  nodes.forget(inode, 1);
  EXPECT_EQ(nodes.size(), 1U);
}

TEST(NodeTable, IdleDiskKeepsItsTime) {
  NodeTable nodes;
  const FileInfo info = disk_file("web", 1);
  const Inode inode = nodes.look_up(info, at(10));
  EXPECT_EQ(nodes.note(inode, info, at(20)), at(10));
}

TEST(NodeTable, HeldDiskIsTakenAsChangedNow) {
  NodeTable nodes;
  FileInfo info = disk_file("web", 1);
  const Inode inode = nodes.look_up(info, at(10));
  info.is_held = true;
  EXPECT_EQ(nodes.note(inode, info, at(20)), at(20));
  info.is_held = false;
  EXPECT_EQ(nodes.note(inode, info, at(30)), at(20));
}

TEST(NodeTable, DiskThatHadANewOwnerIsTakenAsChangedNow) {
  NodeTable nodes;
  FileInfo info = disk_file("web", 1);
  const Inode inode = nodes.look_up(info, at(10));
  info.epoch = 2;
  EXPECT_EQ(nodes.note(inode, info, at(20)), at(20));
  EXPECT_EQ(nodes.note(inode, info, at(30)), at(20));
}

TEST(NodeTable, SnapshotKeepsTheTimeItWasTaken) {
  NodeTable nodes;
  FileInfo info = disk_file("web", 1);
  info.place = Place{Kind::snapshot, "web@v1"};
  info.created_ns = 5'000'000'000;
  info.is_held = true;
  const Inode inode = nodes.look_up(info, at(10));
  EXPECT_EQ(nodes.note(inode, info, at(20)), at(5));
}

}  // namespace
}  // namespace vmstore::fuse
