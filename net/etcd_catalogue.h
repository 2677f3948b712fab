// SPDX-License-Identifier: Apache-2.0
// How a catalogue lies in an etcd: keys, revisions, and what a stream of changes says. Pure.
// docs/format/metadata.md has the layout.
//
// Invariants: a change of the catalogue is one etcd transaction, which always writes kChangeKey;
// so the newest change is known from one entry, whoever else uses that etcd, and the removal of a
// key that was not there is told, too. The head says which catalogue it is: a transaction begins
// with a compare of it, so that no call meets another catalogue than the one that was opened.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "meta/meta_store.h"
#include "net/etcd_text.h"

namespace vmstore::net::etcd {

inline constexpr std::string_view kRoot = "vmstore/";
inline constexpr std::string_view kHeadKey = "vmstore/head";
inline constexpr std::string_view kMakingKey = "vmstore/making";
inline constexpr std::string_view kChangeKey = "vmstore/change";
inline constexpr std::string_view kDataPrefix = "vmstore/data";  // then the catalogue's key

/// The entry kHeadKey.
struct Head {
  std::uint64_t base = 0;  // the catalogue's revision when the head was written
  std::uint64_t tag = 0;   // random: another catalogue has another one
  friend bool operator==(const Head&, const Head&) = default;
};
[[nodiscard]] std::string encode_head(const Head& head);
/// `foreign_store`: it is none of ours · `newer_format` · `corrupt`.
[[nodiscard]] Result<Head> decode_head(std::string_view value);

/// The catalogue's revisions and etcd's.
class Numbers {
 public:
  Numbers() = default;
  Numbers(std::uint64_t base, std::uint64_t head_at) : base_(base), head_at_(head_at) {}
  /// `unknown`: no revision of this catalogue.
  [[nodiscard]] Result<std::uint64_t> ours(std::uint64_t etcd) const;
  /// REQUIRES: revision >= base().
  [[nodiscard]] std::uint64_t theirs(std::uint64_t revision) const;
  /// The compare of the catalogue, as etcd has to be asked. An entry may be older than the base.
  [[nodiscard]] std::string compare_of(const meta::Compare& compare) const;
  [[nodiscard]] std::uint64_t base() const noexcept { return base_; }
  [[nodiscard]] std::uint64_t head_at() const noexcept { return head_at_; }

 private:
  std::uint64_t base_ = 1;
  std::uint64_t head_at_ = 0;  // etcd's revision of the head
};

[[nodiscard]] std::string data_key(std::string_view key);
[[nodiscard]] Range data_range(const meta::RangeRequest& request, std::uint32_t limit);

/// The operations of one list, with the note of them in kChangeKey; of an empty one a look at it.
[[nodiscard]] std::vector<std::string> list_ops(const std::vector<meta::Op>& ops);

/// The value of kChangeKey: the keys that its transaction removed.
[[nodiscard]] std::string encode_removed(const std::vector<std::string>& keys);
[[nodiscard]] Result<std::vector<std::string>> decode_removed(std::string_view value);

/// Makes events of a catalogue from what an etcd watch of kRoot says.
class ChangeReader {
 public:
  ChangeReader(const Numbers& numbers, std::string prefix, std::uint64_t from)
      : numbers_(numbers), prefix_(std::move(prefix)), next_(from) {}

  /// The events of all revisions that are complete now. `bad_frame`: out of order, or too large for
  /// any transaction · `foreign_store`: the catalogue was replaced. After an error only skip_to().
  [[nodiscard]] Result<std::vector<meta::Event>> take(const WatchReply& reply);
  /// Revisions of etcd below it were told in full.
  [[nodiscard]] std::uint64_t next() const noexcept { return next_; }
  /// What came of a revision that is not complete is dropped.
  void skip_to(std::uint64_t revision);

 private:
  [[nodiscard]] Result<void> finish(std::vector<meta::Event>& events);
  Numbers numbers_;
  std::string prefix_;
  std::uint64_t next_;
  std::uint64_t pending_at_ = 0;
  std::size_t pending_bytes_ = 0;
  std::vector<WatchReply::Change> pending_;  // of one revision
};

}  // namespace vmstore::net::etcd
