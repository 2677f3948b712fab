// SPDX-License-Identifier: Apache-2.0
#include "storaged/salvage.h"

#include <algorithm>
#include <memory>
#include <span>
#include <vector>

#include "base/fault.h"
#include "base/limits.h"

namespace vmstore::storaged {
namespace {

constexpr std::uint64_t kBlocksAtOnce = 256;

Result<void> read_sums(File& file, BlockIndex first, std::vector<std::uint64_t>& into) {
  std::vector<std::byte> bytes(into.size() * kSumBytes);
  VMS_TRY(const std::size_t got, file.read(first.value * kSumBytes, bytes));
  if (got < bytes.size()) return Errc::corrupt;
  ByteReader reader(bytes);
  for (std::uint64_t& sum : into) sum = reader.get<std::uint64_t>();
  return success();
}

/// Visits the runs of blocks in [first, first + count) that are there: punched ones stay holes.
template <class Visit>
Result<void> for_each_present(File& sums_file, BlockIndex first, std::uint64_t count, Visit visit) {
  std::vector<std::uint64_t> sums(count);
  VMS_CHECK(read_sums(sums_file, first, sums));
  for (std::uint64_t begin = 0; begin < count;) {
    std::uint64_t end = begin;
    while (end < count && sums[end] != 0) ++end;
    if (end > begin) VMS_CHECK(visit(begin, end - begin));
    begin = end + 1;
  }
  return success();
}

Result<std::unique_ptr<File>> new_file(Files& files, KeyId key, KeyFileKind kind) {
  OpenOptions options;
  options.create = true;
  VMS_TRY(auto file, files.open(key_copy_path(key, kind), options));
  VMS_CHECK(file->truncate(0));  // one that died before may be there
  return file;
}

/// Copies [from, end) as far as the old file has it. What it has lost is not missed: the ring has
/// it.
Result<void> copy_bytes(File& old, File& copy, std::uint64_t from, std::uint64_t end) {
  std::vector<std::byte> buffer(kBlocksAtOnce * kBlockBytes);
  while (from < end) {
    const std::size_t part = std::min<std::uint64_t>(end - from, buffer.size());
    VMS_TRY(const std::size_t got, old.read(from, MutableBytes(buffer).first(part)));
    if (got == 0) return success();
    VMS_CHECK(copy.write(from, ByteSpan(buffer).first(got)));
    from += got;
  }
  return success();
}

/// The same for blocks.
Result<void> copy_blocks(KeyFiles& old, File& sums, File& copy, BlockIndex end) {
  for (std::uint64_t first = 0; first < end.value; first += kBlocksAtOnce) {
    const std::uint64_t count = std::min(kBlocksAtOnce, end.value - first);
    const auto copy_run = [&](std::uint64_t at, std::uint64_t blocks) -> Result<void> {
      const std::uint64_t offset = (first + at) * kBlockBytes;
      return copy_bytes(old.data(), copy, offset, offset + blocks * kBlockBytes);
    };
    VMS_CHECK(for_each_present(sums, BlockIndex{first}, count, copy_run));
  }
  return success();
}

/// Visits all that the ring holds of the key and that belongs to it, in order.
template <class Visit>
Result<void> for_each_entry(JournalScan& ring, const SalvageWork& work, Visit visit) {
  for (const GroupPlace& place : work.groups) {
    VMS_TRY(const DecodedGroup group, ring.read_group(place));
    for (const DecodedEntry& entry : group.entries) {
      const EntryFields& fields = entry.fields;
      if (fields.key != work.head.key) continue;
      if (!entry.body_ok) return Errc::corrupt;
      const bool appends =
          fields.kind == EntryKind::append || fields.kind == EntryKind::append_header;
      const Sequence last = work.head.length.last_sequence;
      if (appends && length_after(entry).last_sequence > last) continue;
      VMS_CHECK(visit(entry));
    }
  }
  return success();
}

Result<void> write_data(
    Files& files, KeyFiles& old, File& sums, JournalScan& ring, const SalvageWork& work) {
  const BlockIndex end = work.head.length.blocks;
  VMS_TRY(const auto copy, new_file(files, work.head.key, KeyFileKind::data));
  VMS_CHECK(copy_blocks(old, sums, *copy, end));
  const auto add = [&](const DecodedEntry& entry) -> Result<void> {
    if (entry.fields.kind != EntryKind::append) return success();
    const BlockIndex first = entry.fields.place.blocks;
    const auto put_run = [&](std::uint64_t at, std::uint64_t blocks) {
      const std::uint64_t offset = (first.value + at) * kBlockBytes;
      return copy->write(offset, entry.blocks.subspan(at * kBlockBytes, blocks * kBlockBytes));
    };
    return for_each_present(sums, first, entry.record.block_count(), put_run);
  };
  VMS_CHECK(for_each_entry(ring, work, add));
  VMS_CHECK(copy->truncate(end.value * kBlockBytes));
  VMS_FAULT("salvage.before_sync");
  VMS_CHECK(copy->sync());
  VMS_FAULT("salvage.after_sync");
  return success();
}

Result<void> put_sums(File& file, BlockIndex first, std::span<const std::uint64_t> sums) {
  ByteWriter bytes;
  for (const std::uint64_t sum : sums) bytes.put(sum);
  return file.write(first.value * kSumBytes, bytes.bytes());
}

Result<std::unique_ptr<File>> write_sums(Files& files,
                                         KeyFiles& old,
                                         JournalScan& ring,
                                         const SalvageWork& work) {
  const BlockIndex end = work.head.length.blocks;
  VMS_TRY(auto copy, new_file(files, work.head.key, KeyFileKind::sums));
  VMS_CHECK(copy_bytes(old.sums(), *copy, 0, end.value * kSumBytes));
  const auto add = [&](const DecodedEntry& entry) -> Result<void> {
    const EntryKind kind = entry.fields.kind;
    if (kind == EntryKind::append || kind == EntryKind::append_header) {
      return put_sums(*copy, entry.fields.place.blocks, entry.record.block_sums);
    }
    if (kind != EntryKind::punch) return success();
    VMS_TRY(const auto runs, decode_punch(entry.body));
    for (const BlockRun& run : runs) {
      VMS_CHECK(put_sums(*copy, run.first, std::vector<std::uint64_t>(run.blocks)));
    }
    return success();
  };
  VMS_CHECK(for_each_entry(ring, work, add));
  VMS_CHECK(copy->truncate(end.value * kSumBytes));
  VMS_CHECK(copy->sync());
  return copy;
}

/// With the head, and the one before it in the other slot.
Result<void> write_log(Files& files, KeyFiles& old, JournalScan& ring, const SalvageWork& work) {
  const std::uint64_t end = limits::kLogHeadBytes + work.head.length.log_bytes;
  VMS_TRY(const auto copy, new_file(files, work.head.key, KeyFileKind::log));
  VMS_CHECK(copy_bytes(old.log(), *copy, limits::kLogHeadBytes, end));
  const auto add = [&](const DecodedEntry& entry) -> Result<void> {
    const EntryKind kind = entry.fields.kind;
    if (kind == EntryKind::create) {
      VMS_TRY(const auto body, decode_create(entry.body));
      return copy->write(limits::kLogHeadBytes, body.header_record);
    }
    if (kind != EntryKind::append && kind != EntryKind::append_header) return success();
    return copy->write(limits::kLogHeadBytes + entry.fields.place.log_bytes, entry.body);
  };
  VMS_CHECK(for_each_entry(ring, work, add));
  VMS_CHECK(copy->truncate(end));
  LogHead slot = work.head;
  for (--slot.generation; slot.generation <= work.head.generation; ++slot.generation) {
    VMS_CHECK(copy->write((slot.generation % 2) * kHeadSlotStride, encode_log_head(slot)));
  }
  return copy->sync();
}

Result<void> give_name(Files& files, KeyId key, KeyFileKind kind) {
  return files.rename(key_copy_path(key, kind), key_path(key, kind));
}

/// Log and sums failed: all that is in doubt into new files. The log has its name last, and with it
/// the head.
Result<void> renew_records(Files& files,
                           KeyFiles& old,
                           JournalScan& ring,
                           const SalvageWork& work) {
  const KeyId key = work.head.key;
  VMS_TRY(const auto sums, write_sums(files, old, ring, work));
  if (work.copy) VMS_CHECK(write_data(files, old, *sums, ring, work));
  VMS_CHECK(write_log(files, old, ring, work));
  if (work.copy) VMS_CHECK(give_name(files, key, KeyFileKind::data));
  VMS_CHECK(give_name(files, key, KeyFileKind::sums));
  VMS_CHECK(files.sync_folder(key_folder(key)));
  VMS_FAULT("salvage.before_head");
  VMS_CHECK(give_name(files, key, KeyFileKind::log));
  VMS_CHECK(files.sync_folder(key_folder(key)));
  VMS_FAULT("salvage.after_head");
  return success();
}

}  // namespace

Result<void> salvage(Files& files, KeyFiles& old, JournalScan& ring, const SalvageWork& work) {
  VMS_FAULT("salvage.before_copy");
  if (work.records) return renew_records(files, old, ring, work);
  VMS_CHECK(old.sync(KeyFileKind::sums));
  VMS_CHECK(old.sync(KeyFileKind::log));
  if (work.copy) VMS_CHECK(write_data(files, old, old.sums(), ring, work));
  if (work.copy) VMS_CHECK(give_name(files, work.head.key, KeyFileKind::data));
  VMS_CHECK(files.sync_folder(key_folder(work.head.key)));
  VMS_FAULT("salvage.before_head");
  VMS_CHECK(old.write_head(work.head));
  VMS_CHECK(old.sync(KeyFileKind::log));
  VMS_FAULT("salvage.after_head");
  return success();
}

}  // namespace vmstore::storaged
