// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/disk_oracle.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

#include "base/assert.h"
#include "base/checksum.h"

namespace vmstore::sim {
namespace {

const Block kZeros{};

const Block& bytes_of(const BlockPtr& block) {
  return block ? *block : kZeros;
}

bool same_range(const BlockPtr& a, const BlockPtr& b, std::uint32_t from, std::uint32_t to) {
  return std::memcmp(bytes_of(a).data() + from, bytes_of(b).data() + from, to - from) == 0;
}

}  // namespace

bool same_block(const BlockPtr& a, const BlockPtr& b) noexcept {
  return a == b || same_range(a, b, 0, kBlockBytes);
}

BlockPtr make_block(ByteSpan bytes) {
  if (is_all_zero(bytes)) return nullptr;
  auto block = std::make_shared<Block>();
  std::copy(bytes.begin(), bytes.end(), block->begin());
  return block;
}

// ---- Content ----

BlockPtr Content::block(std::uint64_t lbn) const {
  const auto found = blocks_.find(lbn);
  return found == blocks_.end() ? nullptr : found->second;
}

void Content::set_block(std::uint64_t lbn, BlockPtr block) {
  if (block == nullptr) {
    blocks_.erase(lbn);
  } else {
    blocks_[lbn] = std::move(block);
  }
}

void Content::resize(std::uint64_t bytes) {
  if (bytes < bytes_) {
    blocks_.erase(blocks_.lower_bound((bytes + kBlockBytes - 1) / kBlockBytes), blocks_.end());
    const std::uint64_t rest = bytes % kBlockBytes;
    if (const BlockPtr last = block(bytes / kBlockBytes); rest != 0 && last != nullptr) {
      Block cut = *last;
      std::fill(cut.begin() + static_cast<std::ptrdiff_t>(rest), cut.end(), std::byte{0});
      set_block(bytes / kBlockBytes, make_block(cut));
    }
  }
  bytes_ = bytes;
}

// ---- Group ----

bool Group::allows(const Change& change,
                   const BlockPtr& seen,
                   const std::vector<bool>* acknowledged,
                   InBlock looked_at) {
  Block rest = bytes_of(seen);
  for (const Part& part : change.parts) {
    const std::uint32_t from = std::max(part.from, looked_at.from);
    const std::uint32_t to = std::min(part.to, looked_at.to);
    if (from >= to) continue;
    const bool is_new = same_range(seen, change.after, from, to);
    const bool is_old = same_range(seen, change.before, from, to);
    if (!is_new && !is_old) return false;
    if (!is_new && acknowledged != nullptr && (*acknowledged)[part.request]) return false;
    std::memcpy(rest.data() + from, bytes_of(change.before).data() + from, to - from);
  }
  return std::memcmp(rest.data() + looked_at.from,
                     bytes_of(change.before).data() + looked_at.from,
                     looked_at.to - looked_at.from) == 0;
}

// ---- DiskOracle ----

void DiskOracle::begin_group() {
  if (groups_.empty() || !groups_.back().changes.empty()) groups_.emplace_back();
  groups_.back().acknowledged.clear();
}

void DiskOracle::change(std::uint64_t lbn,
                        std::uint32_t from,
                        ByteSpan bytes,
                        std::size_t request) {
  const BlockPtr before = content_.block(lbn);
  Block after = bytes_of(before);
  std::copy(bytes.begin(), bytes.end(), after.begin() + from);
  const auto [entry, is_new] = groups_.back().changes.try_emplace(lbn);
  if (is_new) entry->second.before = before;
  entry->second.after = make_block(after);
  const auto to = from + static_cast<std::uint32_t>(bytes.size());
  entry->second.parts.push_back({request, from, to});
  content_.set_block(lbn, entry->second.after);
}

std::size_t DiskOracle::write(std::uint64_t offset, ByteSpan bytes) {
  VMS_ASSERT(!groups_.empty());
  const std::size_t request = groups_.back().acknowledged.size();
  groups_.back().acknowledged.push_back(false);
  while (!bytes.empty()) {
    const auto from = static_cast<std::uint32_t>(offset % kBlockBytes);
    const std::size_t count = std::min<std::size_t>(bytes.size(), kBlockBytes - from);
    change(offset / kBlockBytes, from, bytes.first(count), request);
    bytes = bytes.subspan(count);
    offset += count;
  }
  return request;
}

std::size_t DiskOracle::zero(std::uint64_t offset, std::uint64_t bytes) {
  VMS_ASSERT(!groups_.empty());
  const std::size_t request = groups_.back().acknowledged.size();
  groups_.back().acknowledged.push_back(false);
  const std::uint64_t end = offset + bytes;
  std::vector<std::uint64_t> present;  // blocks of zeros stay what they are
  auto block = content_.blocks().lower_bound(offset / kBlockBytes);
  for (; block != content_.blocks().end() && block->first * kBlockBytes < end; ++block) {
    present.push_back(block->first);
  }
  for (const std::uint64_t lbn : present) {
    const std::uint64_t start = lbn * kBlockBytes;
    const auto from = static_cast<std::uint32_t>(std::max(offset, start) - start);
    const auto to = static_cast<std::uint32_t>(std::min(end, start + kBlockBytes) - start);
    change(lbn, from, ByteSpan(kZeros).first(to - from), request);
  }
  return request;
}

void DiskOracle::acknowledge(std::size_t request) {
  groups_.back().acknowledged[request] = true;
}

void DiskOracle::flushed_before_group() {
  while (groups_.size() > 1) groups_.pop_front();
}

void DiskOracle::replace(Content content) {
  content_ = std::move(content);
  groups_.clear();
}

void DiskOracle::resize(std::uint64_t bytes) {
  content_.resize(bytes);
  groups_.clear();
}

bool DiskOracle::may_read(std::uint64_t lbn, const BlockPtr& seen) const {
  if (same_block(content_.block(lbn), seen)) return true;
  if (groups_.empty()) return false;
  const auto change = groups_.back().changes.find(lbn);
  return change != groups_.back().changes.end() &&
         Group::allows(change->second, seen, &groups_.back().acknowledged);
}

std::optional<std::string> DiskOracle::settle_after_kill(const BlockSource& source,
                                                         const std::vector<std::uint64_t>& lbns) {
  for (const std::uint64_t lbn : lbns) {
    if (!may_read(lbn, source.block(lbn))) {
      return "block " + std::to_string(lbn) + " is not what was acknowledged";
    }
  }
  // Nothing was made durable by it: the power may still go.
  if (groups_.empty()) return std::nullopt;
  Group& last = groups_.back();
  for (auto& [lbn, change] : last.changes) {
    change.after = source.block(lbn);
    content_.set_block(lbn, change.after);
  }
  last.acknowledged.assign(last.acknowledged.size(), true);
  return std::nullopt;
}

bool DiskOracle::is_prefix(const BlockSource& source, std::size_t whole_groups) const {
  std::set<std::uint64_t> checked;
  for (std::size_t i = groups_.size(); i-- > 0;) {
    for (const auto& [lbn, change] : groups_[i].changes) {
      // The newest group up to the prefix decides, else what was before the oldest one.
      if (i > whole_groups) {
        bool touched_earlier = false;
        for (std::size_t j = 0; j < i; ++j) {
          touched_earlier = touched_earlier || groups_[j].changes.contains(lbn);
        }
        if (touched_earlier) continue;
        if (!same_block(source.block(lbn), change.before)) return false;
      } else if (checked.insert(lbn).second) {
        const bool fits = i == whole_groups ? Group::allows(change, source.block(lbn), nullptr)
                                            : same_block(source.block(lbn), change.after);
        if (!fits) return false;
      }
    }
  }
  return true;
}

std::optional<std::string> DiskOracle::settle_after_power_cut(
    const BlockSource& source, const std::vector<std::uint64_t>& lbns) {
  for (const std::uint64_t lbn : lbns) {
    const bool touched = std::any_of(groups_.begin(), groups_.end(), [&](const Group& group) {
      return group.changes.contains(lbn);
    });
    if (!touched && !same_block(source.block(lbn), content_.block(lbn))) {
      return "block " + std::to_string(lbn) + " was flushed and changed";
    }
  }
  // `whole` groups are there entirely, of the next one any part.
  for (std::size_t whole = groups_.size() + 1; whole-- > 0;) {
    if (!is_prefix(source, whole)) continue;
    adopt(source, lbns);
    return std::nullopt;
  }
  std::string text = "what is there is no prefix of the " + std::to_string(groups_.size()) +
                     " groups since the last flush:";
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    for (const auto& [lbn, change] : groups_[i].changes) {
      const BlockPtr seen = source.block(lbn);
      text += " g" + std::to_string(i) + "b" + std::to_string(lbn);
      text += same_block(seen, change.after) ? "+" : same_block(seen, change.before) ? "-" : "?";
    }
  }
  return text;
}

void DiskOracle::adopt(const BlockSource& source, const std::vector<std::uint64_t>& lbns) {
  for (const std::uint64_t lbn : lbns) content_.set_block(lbn, source.block(lbn));
  groups_.clear();
}

}  // namespace vmstore::sim
