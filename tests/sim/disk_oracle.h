// SPDX-License-Identifier: Apache-2.0
// DiskOracle: what a disk may contain, given what was asked of it and which answers came back.
//
// Requests that run at the same time are one group; their byte ranges do not overlap. A request is
// a whole old or a whole new in each block that it touches, never a mix of its own.
//
// What may be found:
//   the process lives        every request that was acknowledged
//   the process was killed   the same, since the batch file outlives it (I13); those that were not
//                            acknowledged may be there
//   the host lost its power  a prefix of the groups that contains every flushed one, of the first
//                            group beyond it any part (I1, I2)
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"

namespace vmstore::sim {

using Block = std::array<std::byte, kBlockBytes>;
using BlockPtr = std::shared_ptr<const Block>;  // null: zeros

/// The bytes of a disk or snapshot by block number; blocks that are not there are zeros.
class Content {
 public:
  explicit Content(std::uint64_t bytes = 0) : bytes_(bytes) {}
  [[nodiscard]] std::uint64_t size_bytes() const noexcept { return bytes_; }
  [[nodiscard]] BlockPtr block(std::uint64_t lbn) const;
  void set_block(std::uint64_t lbn, BlockPtr block);
  /// Cuts or grows with zeros.
  void resize(std::uint64_t bytes);
  [[nodiscard]] const std::map<std::uint64_t, BlockPtr>& blocks() const noexcept { return blocks_; }

 private:
  std::uint64_t bytes_;
  std::map<std::uint64_t, BlockPtr> blocks_;
};

/// What the requests of one group did to the blocks they touched.
class Group {
 public:
  struct Part {
    std::size_t request = 0;
    std::uint32_t from = 0;  // bytes of the block
    std::uint32_t to = 0;
  };
  struct Change {
    BlockPtr before;
    BlockPtr after;
    std::vector<Part> parts;
  };
  struct InBlock {  // bytes of a block
    std::uint32_t from;
    std::uint32_t to;
  };
  /// True if `seen` is `before` with any of the parts done, as far as `looked_at` shows; with
  /// `acknowledged` given, all parts of those requests must be done.
  [[nodiscard]] static bool allows(const Change& change,
                                   const BlockPtr& seen,
                                   const std::vector<bool>* acknowledged,
                                   InBlock looked_at = whole_block());

  [[nodiscard]] static constexpr InBlock whole_block() noexcept { return {0, kBlockBytes}; }

  std::map<std::uint64_t, Change> changes;
  std::vector<bool> acknowledged;  // by request
};

/// A way to look at the real thing: the block at `lbn`, cut off at the end of the disk.
class BlockSource {
 public:
  virtual ~BlockSource() = default;
  [[nodiscard]] virtual BlockPtr block(std::uint64_t lbn) const = 0;
};

class DiskOracle {
 public:
  explicit DiskOracle(Content content = Content()) : content_(std::move(content)) {}

  /// Everything acknowledged and asked.
  [[nodiscard]] const Content& content() const noexcept { return content_; }

  void begin_group();
  /// Returns the number of the request in its group.
  std::size_t write(std::uint64_t offset, ByteSpan bytes);
  std::size_t zero(std::uint64_t offset, std::uint64_t bytes);
  void acknowledge(std::size_t request);
  /// Every group before the present one is durable.
  void flushed_before_group();
  /// Everything is durable.
  void all_flushed() { groups_.clear(); }
  /// Made by a command that ends with everything durable.
  void replace(Content content);
  void resize(std::uint64_t bytes);

  /// While the process lives: what a read that ran beside the present group may return.
  [[nodiscard]] bool may_read(std::uint64_t lbn, const BlockPtr& seen) const;
  /// After a death: whether the blocks of `lbns`, which are all that may have changed, may be what
  /// `source` says. If so they are what the disk contains from now on (and after a power cut what
  /// is durable); else the text says what is wrong.
  [[nodiscard]] std::optional<std::string> settle_after_kill(
      const BlockSource& source, const std::vector<std::uint64_t>& lbns);
  [[nodiscard]] std::optional<std::string> settle_after_power_cut(
      const BlockSource& source, const std::vector<std::uint64_t>& lbns);
  /// The present group: what a read or a block status that ran beside it may have met.
  [[nodiscard]] const Group* present_group() const {
    return groups_.empty() ? nullptr : &groups_.back();
  }

 private:
  void change(std::uint64_t lbn, std::uint32_t from, ByteSpan bytes, std::size_t request);
  [[nodiscard]] bool is_prefix(const BlockSource& source, std::size_t whole_groups) const;
  void adopt(const BlockSource& source, const std::vector<std::uint64_t>& lbns);

  Content content_;
  std::deque<Group> groups_;  // not known to be durable, oldest first; the last is the present one
};

[[nodiscard]] bool same_block(const BlockPtr& a, const BlockPtr& b) noexcept;
/// Null when all zero.
[[nodiscard]] BlockPtr make_block(ByteSpan bytes);

}  // namespace vmstore::sim
