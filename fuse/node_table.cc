// SPDX-License-Identifier: Apache-2.0
#include "fuse/node_table.h"

namespace vmstore::fuse {

NodeTable::NodeTable() {
  Node root;
  root.lookups = 1;  // the kernel never looks it up
  nodes_[kRootInode] = root;
  inodes_[Key(root.place, root.identity)] = kRootInode;
}

Inode NodeTable::look_up(const FileInfo& info, WallTime now) {
  const std::scoped_lock lock(mutex_);
  const auto [known, is_new] =
      inodes_.try_emplace(Key(info.place, info.identity), Inode{last_ + 1});
  if (is_new) {
    ++last_;
    Node& node = nodes_[known->second];
    node.place = info.place;
    node.identity = info.identity;
    node.changed = now;
    node.epoch = info.epoch;
  }
  ++nodes_[known->second].lookups;
  return known->second;
}

void NodeTable::forget(Inode inode, std::uint64_t count) {
  const std::scoped_lock lock(mutex_);
  const auto found = nodes_.find(inode);
  if (found == nodes_.end() || inode == kRootInode) return;
  Node& node = found->second;
  node.lookups -= count < node.lookups ? count : node.lookups;
  if (node.lookups != 0) return;
  inodes_.erase(Key(node.place, node.identity));
  nodes_.erase(found);
}

std::optional<Node> NodeTable::find(Inode inode) const {
  const std::scoped_lock lock(mutex_);
  const auto found = nodes_.find(inode);
  if (found == nodes_.end()) return {};
  return found->second;
}

WallTime NodeTable::note(Inode inode, const FileInfo& info, WallTime now) {
  if (info.place.kind != Kind::disk) {
    return WallTime(Duration(static_cast<std::int64_t>(info.created_ns)));
  }
  const std::scoped_lock lock(mutex_);
  const auto found = nodes_.find(inode);
  if (found == nodes_.end()) return now;
  Node& node = found->second;
  if (info.is_held || info.epoch != node.epoch) node.changed = now;
  node.epoch = info.epoch;
  return node.changed;
}

std::size_t NodeTable::size() const {
  const std::scoped_lock lock(mutex_);
  return nodes_.size();
}

}  // namespace vmstore::fuse
