// SPDX-License-Identifier: Apache-2.0
// ViewReader: reads and maps byte ranges of a Mapping: slots, addresses, pages, zeros. DESIGN 11.
//
// Invariants: a read that meets a punched or vanished block looks the mapping up again; only an
// unchanged address is an error (C8); what cannot be read is an error, never zeros (I8, I9).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "base/task.h"
#include "disk/block_reader.h"
#include "disk/mapping.h"
#include "snapshot/index.h"

namespace vmstore::disk {

/// Bytes of batch slots; asked only under the mapping's lock.
class SlotSource {
 public:
  virtual ~SlotSource() = default;
  [[nodiscard]] virtual ByteSpan slot_bytes(std::uint64_t first_slot,
                                            std::uint64_t slots) const = 0;
};

/// THREADS: try_* from any thread, the rest on the scheduler's. Owns nothing.
class ViewReader {
 public:
  /// `slots` may be null for views that have none (snapshots).
  ViewReader(Mapping& mapping, BlockReader& blocks, const SlotSource* slots) noexcept
      : mapping_(mapping), blocks_(blocks), pages_(blocks), slots_(slots) {}

  /// Reads bytes if everything is at hand; false = take the slow way. No alignment needed.
  [[nodiscard]] bool try_read(std::uint64_t offset, MutableBytes into);
  [[nodiscard]] Task<Result<void>> read(std::uint64_t offset, MutableBytes into);
  /// The address of a block that no layer maps, if its pages are at hand.
  [[nodiscard]] std::optional<Address> try_lookup(Address top, Lbn lbn);
  /// Extents of [lbn, lbn+blocks), merged; may end early after `extents_max`.
  [[nodiscard]] Task<Result<std::vector<snapshot::Extent>>> map(Lbn lbn,
                                                                std::uint64_t blocks,
                                                                std::size_t extents_max);
  [[nodiscard]] snapshot::PageSource& pages() noexcept { return pages_; }

 private:
  struct Plan {
    std::vector<BlockWant> wants;
    struct Unknown {
      Lbn lbn;
      MutableBytes into;
    };
    std::vector<Unknown> unknown;  // to be looked up in the pages below `top`
    Address top;
  };
  [[nodiscard]] Plan plan(Lbn lbn, MutableBytes into);
  [[nodiscard]] bool try_read_blocks(Lbn lbn, MutableBytes into);
  [[nodiscard]] bool try_resolve(const Plan& plan, std::vector<BlockWant>& wants);
  [[nodiscard]] Task<Result<void>> read_blocks(Lbn lbn, MutableBytes into);
  [[nodiscard]] Task<Result<void>> look_up(Address top,
                                           Lbn lbn,
                                           MutableBytes into,
                                           std::vector<BlockWant>& wants);
  [[nodiscard]] Task<Result<std::vector<snapshot::Extent>>> map_pieces(
      std::vector<Mapping::Piece> pieces, Address top, std::size_t extents_max);

  Mapping& mapping_;
  BlockReader& blocks_;
  ReaderPages pages_;
  const SlotSource* slots_;
};

}  // namespace vmstore::disk
