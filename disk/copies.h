// SPDX-License-Identifier: Apache-2.0
// Copies: the keys of a store on the nodes that have their copies. What an owner does to its key
// goes to all of them at once; what anybody reads comes from any one of them. DESIGN 4.5-4.7,
// 6, 10.
//
// Invariants: an append is done when every copy has it on stable storage (I1); a key is created
// before it is named, each copy answers its incarnation (C4, H2); "no such key" is an answer only
// when every member of the store gave it, otherwise it is `unavailable` (H9, I9).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/sync.h"
#include "meta/records.pb.h"
#include "net/node_pool.h"

namespace vmstore::disk {

/// Where the copies of a key lie. No nodes: made before there were several, it is on the home node.
struct KeyPlace {
  struct Copy {
    NodeId node;
    Incarnation incarnation;  // none: not recorded, any is believed
  };
  KeyId key;
  std::vector<Copy> copies;
};
[[nodiscard]] KeyPlace place_from(const meta::pb::KeyPlace& record);
/// Key, nodes and incarnations; leaves the rest of `record` alone.
void put_place(const KeyPlace& place, meta::pb::KeyPlace& record);

/// What all copies together answer.
struct AllAnswer {
  Error error{Errc::ok};     // the worst: fenced, then trouble of the key, then no space, then away
  std::vector<NodeId> away;  // did not answer
  std::vector<NodeId> slow;  // of these, who is there and took longer than 5 s (DESIGN 4.7)
  std::size_t done = 0;      // copies that did it
  [[nodiscard]] bool is_ok() const noexcept { return error == Errc::ok; }
};

/// A key as a takeover may believe it.
struct FencedKey {
  KeyLength length;          // where every believed copy reaches now
  bool sealed = false;       // on one of the copies
  std::size_t believed = 0;  // copies of the recorded incarnation, completed
  std::vector<NodeId> away;  // did not answer, are not believed, or could not be completed
};

struct CopyCount {
  std::uint32_t wanted = 1;
  std::uint32_t least = 1;  // with fewer nodes nothing is created
};

/// One per session. THREADS: the scheduler's.
class Copies {
 public:
  Copies(Scheduler& scheduler, net::NodePool& nodes) : scheduler_(scheduler), nodes_(nodes) {}
  Copies(const Copies&) = delete;
  Copies& operator=(const Copies&) = delete;

  [[nodiscard]] net::NodePool& nodes() noexcept { return nodes_; }
  /// So long new keys go elsewhere, if there are enough others.
  void avoid(NodeId node, Duration time);

  // ---- the owner's key: all copies ----

  /// Makes the key on the nodes that the ring names and that can be reached now. `exists`: the
  /// number is used up on one of them; `unavailable`: fewer than `count.least` nodes. What was made
  /// on some of them when it fails is never named.
  [[nodiscard]] Task<Result<KeyPlace>> create(
      KeyId key, DiskId disk, Epoch token, std::vector<std::byte> header_record, CopyCount count);
  struct Append {
    Epoch token;
    Sequence sequence;
    std::uint64_t log_offset = 0;
    BlockIndex data_offset;
    Sequence committed;
    bool may_be_given_up = false;  // a copy that is slow counts as away
  };
  /// Calls reach each copy in the order in which they were made.
  [[nodiscard]] Task<AllAnswer> append(KeyPlace place,
                                       Append where,
                                       std::vector<std::byte> record,
                                       wire::Payload blocks);
  /// Copies on nodes of `without` are not asked, unless there are no others.
  [[nodiscard]] Task<AllAnswer> seal(KeyPlace place,
                                     Epoch token,
                                     KeyLength length,
                                     std::vector<NodeId> without = {});
  [[nodiscard]] Task<AllAnswer> committed(KeyPlace place, Epoch token, Sequence committed);
  /// The least that is allocated on every copy.
  [[nodiscard]] Task<Result<KeyLength>> reserve(KeyPlace place,
                                                Epoch token,
                                                BlockIndex data_blocks,
                                                std::uint64_t log_bytes);
  /// Of any key of the owner. Done when one copy did it, a round of the collector does the rest.
  [[nodiscard]] Task<Result<void>> free_blocks(KeyId key,
                                               Epoch token,
                                               DiskId disk,
                                               std::vector<net::NodeClient::FreeRun> runs,
                                               net::NodeClient::FreeReport report);
  /// Fences every copy that answers, and brings those that are believed to one length: that of a
  /// sealed one, else of the longest, since a copy may have lost its tail unnoticed, and what
  /// others have beyond it may have been acknowledged. `unavailable`: none is believed that did,
  /// and one may yet come; `unknown`: all answered, and none can be believed (I9).
  [[nodiscard]] Task<Result<FencedKey>> fence(KeyPlace place, Epoch token);

  // ---- any key: any copy ----

  /// Ranges of one key. Errors of NodeClient::read, after every copy was tried that may have it.
  [[nodiscard]] Task<Result<net::ReadBlocks>> read(std::vector<net::ReadRange> ranges);
  [[nodiscard]] Task<Result<net::LogBytes>> read_log(KeyId key,
                                                     std::uint64_t log_offset,
                                                     std::uint32_t bytes_max,
                                                     Epoch token = Epoch());
  [[nodiscard]] Task<Result<std::unique_ptr<pb::KeyInfoReply>>> key_info(KeyId key);

 private:
  [[nodiscard]] std::vector<net::NodeClient*> clients(const KeyPlace& place);
  [[nodiscard]] std::vector<NodeId> place_new(KeyId key, CopyCount count);
  /// Until when a copy of several is waited for; none: as long as it takes.
  [[nodiscard]] std::optional<TimePoint> patience(const KeyPlace& place) const;
  [[nodiscard]] Task<Result<FencedKey>> settle_fenced(
      KeyPlace place, Epoch token, std::vector<Result<net::FenceAnswer>> answers);
  /// In the order in which to ask: where it was found before, the ring's choice, all others.
  [[nodiscard]] std::vector<NodeId> candidates(KeyId key);
  template <class T, class Ask>
  [[nodiscard]] Task<Result<T>> ask_any(KeyId key, Ask ask);

  Scheduler& scheduler_;
  net::NodePool& nodes_;
  std::map<KeyId, NodeId> found_;     // where a copy answered last; bounded
  std::map<KeyId, KeyPlace> placed_;  // keys made here; bounded
  std::map<NodeId, TimePoint> avoided_;
};

}  // namespace vmstore::disk
