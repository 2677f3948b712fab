// SPDX-License-Identifier: Apache-2.0
#include "storaged/repair.h"

#include <algorithm>
#include <array>
#include <vector>

#include "base/checksum.h"
#include "base/fault.h"
#include "base/log.h"

namespace vmstore::storaged {
namespace {

constexpr std::string_view kCutFolder = "cut";
constexpr std::size_t kCopyBytes = limits::kMiB;
constexpr std::uint64_t kSumsAtOnce = 8192;

/// Reads as far as the file reaches and the device can: what is missing is damage, not an error.
Result<std::size_t> read_up_to(File& file, std::uint64_t offset, MutableBytes into) {
  const auto all = file.read(offset, into);
  if (all || all.error() != Errc::io_error) return all;
  std::size_t done = 0;
  while (done < into.size()) {
    const std::size_t page = kBlockBytes - (offset + done) % kBlockBytes;
    const auto got =
        file.read(offset + done, into.subspan(done).first(std::min(page, into.size() - done)));
    if (!got && got.error() != Errc::io_error) return got.error();
    if (!got || *got == 0) break;
    done += *got;
  }
  return done;
}

Result<std::vector<std::byte>> read_up_to(File& file, std::uint64_t offset, std::uint64_t bytes) {
  std::vector<std::byte> content(bytes);
  VMS_TRY(const std::size_t got, read_up_to(file, offset, MutableBytes(content)));
  content.resize(got);
  return content;
}

/// Whether every stored block of a record is there: right, or freed since.
Result<bool> blocks_match(KeyFiles& files, const wire::RecordHeader& record) {
  const std::uint64_t count = record.block_count();
  if (count == 0) return true;
  std::vector<std::uint64_t> sums(count);
  const auto have_sums = files.read_sums(record.data_offset, sums);
  if (!have_sums && have_sums.error() != Errc::corrupt) return have_sums.error();
  if (!have_sums) return false;
  const std::uint64_t offset = record.data_offset.value * kBlockBytes;
  VMS_TRY(const auto bytes, read_up_to(files.data(), offset, count * kBlockBytes));
  for (std::size_t i = 0; i < count; ++i) {
    if (sums[i] == 0) continue;
    if (sums[i] != record.block_sums[i] || bytes.size() < (i + 1) * kBlockBytes) return false;
    if (block_sum(ByteSpan(bytes).subspan(i * kBlockBytes, kBlockBytes)) != sums[i]) return false;
  }
  return true;
}

/// Walks the records from a place on that need not be the first.
class CutWalk {
 public:
  CutWalk(KeyFiles& files, LogFinding& finding, bool check_blocks)
      : files_(files), finding_(finding), check_blocks_(check_blocks) {}

  Result<void> run(KeyId key, RepairFrom from, std::uint64_t end) {
    std::uint64_t at = from.log_offset;
    Sequence expected = from.sequence;
    while (at < end) {
      const std::uint64_t wanted = std::min(end - at, limits::kRecordHeaderBytesMax);
      VMS_TRY(const auto bytes, read_up_to(files_.log(), limits::kLogHeadBytes + at, wanted));
      const auto decoded = wire::decode_record(bytes);
      // Whole, and not for this version: nothing is cut that a newer one can read.
      const bool refused = !decoded && (decoded.error() == Errc::newer_format ||
                                        decoded.error() == Errc::unsupported);
      if (refused) return decoded.error();
      if (!decoded) return success();
      const wire::RecordHeader& record = decoded->header;
      const bool is_header = record.kind == wire::RecordKind::key_header;
      if (record.key != key || is_header != (at == 0)) return success();
      if (is_header) {
        expected = record.sequence;
        finding_.disk = record.disk;
        finding_.kept.last_sequence = Sequence(expected.value - 1);
      } else {
        VMS_TRY(const bool follows, take(record, expected));
        if (!follows) return success();
        finding_.last_record = at;
        finding_.kept.last_sequence = expected;
        expected = expected.next();
      }
      finding_.kept_time = record.wall_time;
      at += decoded->bytes;
      finding_.kept.log_bytes = at;
    }
    return success();
  }

 private:
  Result<bool> take(const wire::RecordHeader& record, Sequence expected) {
    if (record.sequence != expected) return false;
    if (any_ && record.data_offset != data_end_) return false;
    if (record.data_offset.value + record.block_count() > finding_.kept.blocks.value) return false;
    data_end_ = BlockIndex{record.data_offset.value + record.block_count()};
    any_ = true;
    if (!check_blocks_) return true;
    return blocks_match(files_, record);
  }
  KeyFiles& files_;
  LogFinding& finding_;
  bool check_blocks_;
  bool any_ = false;  // g++ 12 takes an optional in its place for uninitialised when it optimises
  BlockIndex data_end_;
};

Result<std::unique_ptr<File>> new_file(Files& files, const std::string& path) {
  OpenOptions options;
  options.create = true;
  VMS_TRY(auto file, files.open(path, options));
  VMS_CHECK(file->truncate(0));  // one that died before may be there
  return file;
}

/// Copies [from, from + bytes) to `to` of another file, as far as it reaches. What cannot be read
/// is left out: its checksum tells.
Result<void> copy_bytes(
    File& source, std::uint64_t from, std::uint64_t bytes, File& target, std::uint64_t to) {
  std::vector<std::byte> buffer(kCopyBytes);
  VMS_TRY(const std::uint64_t size, source.size());
  const std::uint64_t there = size - std::min(size, from);
  const std::uint64_t end = std::min(bytes, there);
  for (std::uint64_t done = 0; done < end;) {
    const std::size_t part = std::min<std::uint64_t>(end - done, kCopyBytes);
    VMS_TRY(std::size_t got, read_up_to(source, from + done, MutableBytes(buffer).first(part)));
    VMS_CHECK(target.write(to + done, ByteSpan(buffer).first(got)));
    if (got == 0) got = kBlockBytes - (from + done) % kBlockBytes;  // a page that cannot be read
    done += got;
  }
  return success();
}

/// The same for blocks that are there: punched ones stay holes.
Result<void> copy_present(KeyFiles& old, std::uint64_t first, std::uint64_t end, File& target) {
  std::vector<std::uint64_t> sums;
  for (std::uint64_t at = first; at < end; at += sums.size()) {
    sums.resize(std::min(end - at, kSumsAtOnce));
    VMS_CHECK(old.read_sums(BlockIndex{at}, sums));
    for (std::uint64_t i = 0; i < sums.size();) {
      std::uint64_t run_end = i;
      while (run_end < sums.size() && sums[run_end] != 0) ++run_end;
      const std::uint64_t offset = (at + i) * kBlockBytes;
      const std::uint64_t bytes = (run_end - i) * kBlockBytes;
      VMS_CHECK(copy_bytes(old.data(), offset, bytes, target, offset - first * kBlockBytes));
      i = run_end + 1;
    }
  }
  return success();
}

/// The block behind the last one that the kept part of the log names; 0 if it names none.
std::uint64_t first_cut_block(KeyFiles& old, const LogFinding& finding) {
  if (finding.last_record == 0) return 0;
  const std::uint64_t bytes = finding.kept.log_bytes - finding.last_record;
  const auto record = read_up_to(old.log(), limits::kLogHeadBytes + finding.last_record, bytes);
  if (!record) return 0;
  const auto decoded = wire::decode_record(*record);
  if (!decoded) return 0;
  return decoded->header.data_offset.value + decoded->header.block_count();
}

Result<void> keep_cut(Files& files, KeyFiles& old, KeyId key, const LogFinding& finding) {
  VMS_CHECK(files.make_folder(kCutFolder));
  VMS_CHECK(files.sync_folder(""));
  const std::string path = cut_path(key, finding.kept.last_sequence);
  VMS_TRY(const auto log, new_file(files, path + ".log"));
  VMS_CHECK(copy_bytes(old.log(),
                       limits::kLogHeadBytes + finding.kept.log_bytes,
                       finding.known.log_bytes - finding.kept.log_bytes,
                       *log,
                       0));
  VMS_CHECK(log->sync());
  VMS_TRY(const auto data, new_file(files, path + ".data"));
  const std::uint64_t end = finding.kept.blocks.value;
  VMS_CHECK(copy_present(old, std::min(first_cut_block(old, finding), end), end, *data));
  VMS_CHECK(data->sync());
  return files.sync_folder(kCutFolder);
}

Result<void> write_new_files(Files& files, KeyFiles& old, const LogHead& head) {
  const KeyId key = head.key;
  const std::uint64_t blocks = head.length.blocks.value;
  VMS_TRY(const auto data, new_file(files, key_copy_path(key, KeyFileKind::data)));
  VMS_CHECK(copy_present(old, 0, blocks, *data));
  VMS_CHECK(data->truncate(blocks * kBlockBytes));
  VMS_CHECK(data->sync());
  VMS_TRY(const auto sums, new_file(files, key_copy_path(key, KeyFileKind::sums)));
  VMS_CHECK(copy_bytes(old.sums(), 0, blocks * kSumBytes, *sums, 0));
  VMS_CHECK(sums->sync());
  VMS_TRY(const auto log, new_file(files, key_copy_path(key, KeyFileKind::log)));
  VMS_CHECK(copy_bytes(
      old.log(), limits::kLogHeadBytes, head.length.log_bytes, *log, limits::kLogHeadBytes));
  LogHead slot = head;
  for (slot.generation = head.generation - 1; slot.generation <= head.generation;
       ++slot.generation) {
    VMS_CHECK(log->write((slot.generation % 2) * kHeadSlotStride, encode_log_head(slot)));
  }
  VMS_CHECK(log->truncate(limits::kLogHeadBytes + head.length.log_bytes));
  return log->sync();
}

}  // namespace

std::string cut_path(KeyId key, Sequence kept) {
  return std::string(kCutFolder) + '/' + key.hex() + '-' + std::to_string(kept.value);
}

Result<LogFinding> inspect_log(
    KeyFiles& files, const LogHead& head, bool head_known, RepairFrom from, bool check_blocks) {
  LogFinding finding;
  finding.key = head.key;
  finding.disk = head.disk;
  finding.known = head.length;
  VMS_TRY(const std::uint64_t data_bytes, files.data().size());
  VMS_TRY(const std::uint64_t sums_bytes, files.sums().size());
  VMS_TRY(const std::uint64_t log_bytes, files.log().size());
  const std::uint64_t there = std::min(data_bytes / kBlockBytes, sums_bytes / kSumBytes);
  finding.kept.blocks.value = head_known ? std::min(there, head.length.blocks.value) : there;
  if (!head_known) from = RepairFrom();  // only the first record tells whose key it is
  finding.kept.log_bytes = from.log_offset;
  finding.kept.last_sequence = Sequence(std::max<std::uint64_t>(from.sequence.value, 1) - 1);
  std::uint64_t end = log_bytes - std::min(log_bytes, limits::kLogHeadBytes);
  if (head_known) end = std::min(end, head.length.log_bytes);
  CutWalk walk(files, finding, check_blocks);
  VMS_CHECK(walk.run(head.key, from, end));
  if (from.log_offset == 0 && finding.kept.log_bytes == 0) return Errc::corrupt;  // nothing is left
  if (!head_known) finding.known = finding.kept;
  return finding;
}

Result<void> cut_key(Files& files, KeyFiles& old, const LogHead& head, const LogFinding& finding) {
  const KeyId key = head.key;
  VMS_FAULT("repair.before_kept");
  if (finding.is_cut()) VMS_CHECK(keep_cut(files, old, key, finding));
  VMS_FAULT("repair.after_kept");
  VMS_CHECK(write_new_files(files, old, head));
  VMS_CHECK(files.sync_folder(key_folder(key)));
  VMS_FAULT("repair.before_names");
  for (const KeyFileKind kind : {KeyFileKind::data, KeyFileKind::sums, KeyFileKind::log}) {
    VMS_CHECK(files.rename(key_copy_path(key, kind), key_path(key, kind)));
  }
  VMS_CHECK(files.sync_folder(key_folder(key)));
  VMS_FAULT("repair.before_mark");
  const auto unmarked = files.remove(key_bad_mark_path(key));
  if (!unmarked && unmarked.error() != Errc::not_found) return unmarked.error();
  VMS_CHECK(files.sync_folder(key_folder(key)));
  VMS_FAULT("repair.after_mark");
  return success();
}

}  // namespace vmstore::storaged
