// SPDX-License-Identifier: Apache-2.0
#include "storaged/salvage.h"

#include <algorithm>

#include "base/fault.h"

namespace vmstore::storaged {
namespace {

constexpr std::uint64_t kBlocksAtOnce = 256;

/// Visits the runs of blocks in [first, first + count) that are there: punched ones stay holes.
template <class Visit>
Result<void> for_each_present(KeyFiles& old, BlockIndex first, std::uint64_t count, Visit visit) {
  std::vector<std::uint64_t> sums(count);
  VMS_CHECK(old.read_sums(first, sums));
  for (std::uint64_t begin = 0; begin < count;) {
    std::uint64_t end = begin;
    while (end < count && sums[end] != 0) ++end;
    if (end > begin) VMS_CHECK(visit(begin, end - begin));
    begin = end + 1;
  }
  return success();
}

/// Copies what the old file has. What it has lost is not missed: the ring has it.
Result<void> copy_blocks(KeyFiles& old, File& copy, BlockIndex end) {
  std::vector<std::byte> buffer(kBlocksAtOnce * kBlockBytes);
  for (std::uint64_t first = 0; first < end.value; first += kBlocksAtOnce) {
    const std::uint64_t count = std::min(kBlocksAtOnce, end.value - first);
    const auto copy_run = [&](std::uint64_t at, std::uint64_t blocks) -> Result<void> {
      const std::uint64_t offset = (first + at) * kBlockBytes;
      const MutableBytes bytes = MutableBytes(buffer).first(blocks * kBlockBytes);
      VMS_TRY(const std::size_t got, old.data().read(offset, bytes));
      return copy.write(offset, bytes.first(got));
    };
    VMS_CHECK(for_each_present(old, BlockIndex{first}, count, copy_run));
  }
  return success();
}

/// Puts the blocks over it that the ring holds of the key.
Result<void> add_from_ring(KeyFiles& old, File& copy, JournalScan& ring, const SalvageWork& work) {
  for (const GroupPlace& place : work.groups) {
    VMS_TRY(const DecodedGroup group, ring.read_group(place));
    for (const DecodedEntry& entry : group.entries) {
      const EntryFields& fields = entry.fields;
      if (fields.key != work.head.key || fields.kind != EntryKind::append) continue;
      if (!entry.body_ok) return Errc::corrupt;
      if (length_after(entry).last_sequence > work.head.length.last_sequence) continue;
      const auto put_run = [&](std::uint64_t at, std::uint64_t blocks) {
        const std::uint64_t offset = (fields.place.blocks.value + at) * kBlockBytes;
        return copy.write(offset, entry.blocks.subspan(at * kBlockBytes, blocks * kBlockBytes));
      };
      VMS_CHECK(for_each_present(old, fields.place.blocks, entry.record.block_count(), put_run));
    }
  }
  return success();
}

Result<void> write_copy(Files& files, KeyFiles& old, JournalScan& ring, const SalvageWork& work) {
  const KeyId key = work.head.key;
  OpenOptions options;
  options.create = true;
  VMS_TRY(const auto copy, files.open(key_copy_path(key, KeyFileKind::data), options));
  VMS_CHECK(copy->truncate(0));  // one that died before may be there
  VMS_CHECK(copy_blocks(old, *copy, work.head.length.blocks));
  VMS_CHECK(add_from_ring(old, *copy, ring, work));
  VMS_CHECK(copy->truncate(work.head.length.blocks.value * kBlockBytes));
  VMS_FAULT("salvage.before_sync");
  VMS_CHECK(copy->sync());
  VMS_FAULT("salvage.after_sync");
  return files.rename(key_copy_path(key, KeyFileKind::data), key_path(key, KeyFileKind::data));
}

}  // namespace

Result<void> salvage(Files& files, KeyFiles& old, JournalScan& ring, const SalvageWork& work) {
  VMS_FAULT("salvage.before_copy");
  VMS_CHECK(old.sync(KeyFileKind::sums));
  VMS_CHECK(old.sync(KeyFileKind::log));
  if (work.copy) VMS_CHECK(write_copy(files, old, ring, work));
  VMS_CHECK(files.sync_folder(key_folder(work.head.key)));
  VMS_FAULT("salvage.before_head");
  VMS_CHECK(old.write_head(work.head));
  VMS_CHECK(old.sync(KeyFileKind::log));
  VMS_FAULT("salvage.after_head");
  return success();
}

}  // namespace vmstore::storaged
