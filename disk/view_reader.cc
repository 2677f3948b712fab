// SPDX-License-Identifier: Apache-2.0
#include "disk/view_reader.h"

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace vmstore::disk {
namespace {

using snapshot::Extent;
using snapshot::Where;

constexpr int kLookUpsAgain = 4;
constexpr std::size_t kExtentsPerLookup = 4096;

/// Freed: the mapping is newer than what was looked up, or something is damaged.
bool is_gone(const Error& error) noexcept {
  return error == Errc::punched || error == Errc::not_found;
}

void fill_zero(MutableBytes into) noexcept {
  std::fill(into.begin(), into.end(), std::byte{0});
}

/// The block-aligned range around a byte range.
struct Covering {
  Lbn first;
  std::uint64_t blocks;
  std::uint64_t skip;  // bytes before the wanted ones
};
Covering cover(std::uint64_t offset, std::uint64_t bytes) noexcept {
  const std::uint64_t first = offset / kBlockBytes;
  const std::uint64_t end = (offset + bytes + kBlockBytes - 1) / kBlockBytes;
  return {Lbn(first), end - first, offset % kBlockBytes};
}
bool aligned(std::uint64_t offset, std::size_t bytes) noexcept {
  return offset % kBlockBytes == 0 && bytes % kBlockBytes == 0;
}

void append_merged(std::vector<Extent>& extents, const Extent& extent) {
  if (!extents.empty()) {
    Extent& last = extents.back();
    const bool adjacent = last.lbn.value + last.blocks == extent.lbn.value;
    const bool same_kind = (last.where == Where::zero) == (extent.where == Where::zero);
    if (adjacent && same_kind) {
      last.blocks += extent.blocks;
      return;
    }
  }
  extents.push_back(extent);
}

}  // namespace

ViewReader::Plan ViewReader::plan(Lbn lbn, MutableBytes into) {
  Plan plan;
  const Mapping::SharedLock lock(mapping_.mutex());
  plan.top = mapping_.top();
  for (const Mapping::Piece& piece : mapping_.pieces(lbn, into.size() / kBlockBytes)) {
    const MutableBytes part = into.subspan((piece.extent.lbn.value - lbn.value) * kBlockBytes,
                                           piece.extent.blocks * kBlockBytes);
    if (piece.in_pages) {
      plan.unknown.push_back({piece.extent.lbn, part});
    } else if (piece.extent.where == Where::zero) {
      fill_zero(part);
    } else if (piece.extent.where == Where::slot) {
      const ByteSpan bytes = slots_->slot_bytes(piece.extent.place, piece.extent.blocks);
      std::copy(bytes.begin(), bytes.end(), part.begin());
    } else {
      plan.wants.push_back({Address::from_raw(piece.extent.place), part});
    }
  }
  return plan;
}

std::optional<Address> ViewReader::try_lookup(Address top, Lbn lbn) {
  Address at = top;
  for (unsigned level = snapshot::kPageLevels; level-- > 0;) {
    if (at.is_unmapped()) return at;
    const snapshot::PagePtr page = blocks_.try_page(at);
    if (page == nullptr) return std::nullopt;
    at = page->entries[snapshot::entry_index(lbn, level)];
  }
  return at;
}

bool ViewReader::try_resolve(const Plan& plan, std::vector<BlockWant>& wants) {
  for (const Plan::Unknown& unknown : plan.unknown) {
    MutableBytes rest = unknown.into;
    for (std::uint64_t lbn = unknown.lbn.value; !rest.empty(); ++lbn) {
      const auto address = try_lookup(plan.top, Lbn(lbn));
      if (!address) return false;
      const MutableBytes block = rest.first(kBlockBytes);
      rest = rest.subspan(kBlockBytes);
      if (address->is_unmapped()) {
        fill_zero(block);
        continue;
      }
      const bool follows =
          !wants.empty() && wants.back().into.data() + wants.back().into.size() == block.data() &&
          wants.back().address.plus(wants.back().into.size() / kBlockBytes) == *address;
      if (follows) {
        wants.back().into = {wants.back().into.data(), wants.back().into.size() + kBlockBytes};
      } else {
        wants.push_back({*address, block});
      }
    }
  }
  return true;
}

bool ViewReader::try_read_blocks(Lbn lbn, MutableBytes into) {
  Plan planned = plan(lbn, into);
  if (!try_resolve(planned, planned.wants)) return false;
  return std::all_of(planned.wants.begin(), planned.wants.end(), [this](const BlockWant& want) {
    return blocks_.try_read(want.address, want.into);
  });
}

bool ViewReader::try_read(std::uint64_t offset, MutableBytes into) {
  if (aligned(offset, into.size())) return try_read_blocks(Lbn(offset / kBlockBytes), into);
  const Covering around = cover(offset, into.size());
  std::vector<std::byte> blocks(around.blocks * kBlockBytes);
  if (!try_read_blocks(around.first, blocks)) return false;
  std::copy_n(blocks.begin() + static_cast<std::ptrdiff_t>(around.skip), into.size(), into.begin());
  return true;
}

Task<Result<void>> ViewReader::read(std::uint64_t offset, MutableBytes into) {
  if (aligned(offset, into.size())) {
    co_return co_await read_blocks(Lbn(offset / kBlockBytes), into);
  }
  const Covering around = cover(offset, into.size());
  std::vector<std::byte> blocks(around.blocks * kBlockBytes);
  VMS_CO_CHECK(co_await read_blocks(around.first, blocks));
  std::copy_n(blocks.begin() + static_cast<std::ptrdiff_t>(around.skip), into.size(), into.begin());
  co_return success();
}

/// Zeroes and wants for blocks that only the pages know. The list of extents of one look-up is
/// bounded, that of a request is not.
Task<Result<void>> ViewReader::look_up(Address top,
                                       Lbn lbn,
                                       MutableBytes into,
                                       std::vector<BlockWant>& wants) {
  while (!into.empty()) {
    VMS_CO_TRY(const auto extents,
               co_await snapshot::map_range(
                   pages_, top, lbn, into.size() / kBlockBytes, kExtentsPerLookup));
    for (const Extent& extent : extents) {
      const MutableBytes part = into.first(extent.blocks * kBlockBytes);
      into = into.subspan(part.size());
      lbn = Lbn(lbn.value + extent.blocks);
      if (extent.where == Where::zero) {
        fill_zero(part);
      } else {
        wants.push_back({Address::from_raw(extent.place), part});
      }
    }
  }
  co_return success();
}

Task<Result<void>> ViewReader::read_blocks(Lbn lbn, MutableBytes into) {
  std::vector<Address> before;
  for (int attempt = 0;; ++attempt) {
    Plan planned = plan(lbn, into);
    Result<void> outcome = success();
    for (const Plan::Unknown& unknown : planned.unknown) {
      outcome = co_await look_up(planned.top, unknown.lbn, unknown.into, planned.wants);
      if (!outcome) break;
    }
    std::vector<Address> addresses;
    for (const BlockWant& want : planned.wants) addresses.push_back(want.address);
    addresses.push_back(planned.top);
    if (outcome) outcome = co_await blocks_.read(std::move(planned.wants));
    const bool freed = !outcome && is_gone(outcome.error());
    if (!freed) co_return outcome;
    if (addresses == before || attempt >= kLookUpsAgain) {
      VMS_LOG(error,
              "read",
              "block " << lbn.value << ": a mapped block is gone: " << to_string(outcome.error()));
      co_return Errc::corrupt;
    }
    before = std::move(addresses);
  }
}

Task<Result<std::vector<Extent>>> ViewReader::map(Lbn lbn,
                                                  std::uint64_t blocks,
                                                  std::size_t extents_max) {
  std::optional<Address> before;
  for (int attempt = 0;; ++attempt) {
    std::vector<Mapping::Piece> pieces;
    Address top;
    {
      const Mapping::SharedLock lock(mapping_.mutex());
      pieces = mapping_.pieces(lbn, blocks);
      top = mapping_.top();
    }
    auto extents = co_await map_pieces(std::move(pieces), top, extents_max);
    const bool freed = !extents && is_gone(extents.error());
    if (!freed) co_return extents;
    if (before == top || attempt >= kLookUpsAgain) {
      VMS_LOG(error, "read", "block " << lbn.value << ": a page of the index is gone");
      co_return Errc::corrupt;
    }
    before = top;
  }
}

Task<Result<std::vector<Extent>>> ViewReader::map_pieces(std::vector<Mapping::Piece> pieces,
                                                         Address top,
                                                         std::size_t extents_max) {
  std::vector<Extent> extents;
  for (const Mapping::Piece& piece : pieces) {
    if (!piece.in_pages) {
      append_merged(extents, piece.extent);
    } else {
      std::uint64_t done = 0;
      while (done < piece.extent.blocks && extents.size() <= extents_max) {
        VMS_CO_TRY(const auto found,
                   co_await snapshot::map_range(pages_,
                                                top,
                                                Lbn(piece.extent.lbn.value + done),
                                                piece.extent.blocks - done,
                                                kExtentsPerLookup));
        for (const Extent& extent : found) {
          append_merged(extents, extent);
          done += extent.blocks;
        }
      }
    }
    if (extents.size() > extents_max) break;
  }
  if (extents.size() > extents_max) extents.resize(extents_max);
  co_return extents;
}

}  // namespace vmstore::disk
