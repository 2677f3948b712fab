// SPDX-License-Identifier: Apache-2.0
#include "storaged/key_files.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "base/checksum.h"

namespace vmstore::storaged {
namespace {

constexpr std::uint64_t kHeadMagic = 0x0044414548534d56U;  // "VMSHEAD\0"
constexpr std::size_t kHeadSumOffset = kHeadSlotBytes - 8;
constexpr std::uint32_t kFlagSealed = 1;
constexpr std::uint32_t kFlagShared = 2;
constexpr std::uint32_t kFlagDamaged = 4;
constexpr std::size_t kZeroChunk = 64 * limits::kKiB;
constexpr std::size_t kSumsPerChunk = 512;

/// Whole, and not for this version: never taken for damage.
bool is_refused(const Error& error) {
  return error == Errc::newer_format || error == Errc::unsupported;
}

template <class Id>
Id get_id(ByteReader& reader) {
  const auto high = reader.get<std::uint64_t>();
  const auto low = reader.get<std::uint64_t>();
  return Id{high, low};
}

Result<void> exactly(const Result<std::size_t>& got, std::size_t wanted) {
  if (!got) return got.error();
  if (*got != wanted) return Errc::corrupt;  // the file ends inside what must be there
  return success();
}

using CachedOrNot = Result<std::size_t> (File::*)(std::uint64_t, MutableBytes);

Result<void> load_sums(File& file,
                       CachedOrNot read,
                       BlockIndex first,
                       std::span<std::uint64_t> into) {
  std::array<std::byte, kSumsPerChunk * kSumBytes> chunk;
  std::uint64_t offset = first.value * kSumBytes;
  while (!into.empty()) {
    const std::size_t count = std::min(into.size(), kSumsPerChunk);
    const MutableBytes bytes(chunk.data(), count * kSumBytes);
    VMS_CHECK(exactly((file.*read)(offset, bytes), bytes.size()));
    ByteReader reader(bytes);
    for (std::uint64_t& sum : into.first(count)) sum = reader.get<std::uint64_t>();
    into = into.subspan(count);
    offset += bytes.size();
  }
  return success();
}

}  // namespace

std::array<std::byte, kHeadSlotBytes> encode_log_head(const LogHead& head) {
  ByteWriter writer;
  writer.reserve(kHeadSlotBytes);
  writer.put(kHeadMagic).put(kKeyFormatVersion).put(head.copies).put(head.generation);
  writer.put(head.key.value()).put(head.disk.high).put(head.disk.low);
  writer.put(head.incarnation.high).put(head.incarnation.low).put_bytes(head.domain);
  std::uint32_t flags = head.sealed ? kFlagSealed : 0;
  flags |= head.shared ? kFlagShared : 0;
  flags |= head.damaged ? kFlagDamaged : 0;
  writer.put(head.token.value).put(flags).put(std::uint32_t{0});
  writer.put(head.length.last_sequence.value).put(head.length.log_bytes);
  writer.put(head.length.blocks.value).put(head.last_record).put(head.committed.value);
  writer.put_zeros(kHeadSumOffset - writer.size());
  writer.put(xxh3(writer.bytes()));
  std::array<std::byte, kHeadSlotBytes> slot{};
  VMS_ASSERT(writer.size() == slot.size());
  std::copy(writer.bytes().begin(), writer.bytes().end(), slot.begin());
  return slot;
}

Result<LogHead> decode_log_head(ByteSpan slot, KeyId key) {
  if (slot.size() != kHeadSlotBytes) return Errc::corrupt;
  if (is_all_zero(slot)) return Errc::not_found;
  ByteReader reader(slot);
  const auto magic = reader.get<std::uint64_t>();
  const auto version = reader.get<std::uint32_t>();
  ByteReader tail(slot.subspan(kHeadSumOffset));
  if (magic != kHeadMagic || tail.get<std::uint64_t>() != xxh3(slot.first(kHeadSumOffset))) {
    return Errc::corrupt;
  }
  if (version > kKeyFormatVersion) return Errc::newer_format;
  LogHead head;
  head.copies = reader.get<std::uint32_t>();
  head.generation = reader.get<std::uint64_t>();
  const auto number = KeyId::make(reader.get<std::uint64_t>());
  head.disk = get_id<DiskId>(reader);
  head.incarnation = get_id<Incarnation>(reader);
  const ByteSpan domain = reader.get_bytes(head.domain.size());
  std::copy(domain.begin(), domain.end(), head.domain.begin());
  head.token = Epoch(reader.get<std::uint64_t>());
  const auto flags = reader.get<std::uint32_t>();
  const auto reserved = reader.get<std::uint32_t>();
  head.length.last_sequence = Sequence(reader.get<std::uint64_t>());
  head.length.log_bytes = reader.get<std::uint64_t>();
  head.length.blocks = BlockIndex{reader.get<std::uint64_t>()};
  head.last_record = reader.get<std::uint64_t>();
  head.committed = Sequence(reader.get<std::uint64_t>());
  head.sealed = (flags & kFlagSealed) != 0;
  head.shared = (flags & kFlagShared) != 0;
  head.damaged = (flags & kFlagDamaged) != 0;
  const ByteSpan rest = reader.rest().first(reader.remaining() - sizeof(std::uint64_t));
  const bool plausible = version == kKeyFormatVersion && number == key && head.generation > 0 &&
                         head.copies > 0 && reserved == 0 &&
                         head.length.blocks <= BlockIndex{BlockIndex::kEnd} &&
                         head.last_record <= head.length.log_bytes && is_all_zero(rest);
  if (!plausible) return Errc::corrupt;
  if ((flags & ~(kFlagSealed | kFlagShared | kFlagDamaged)) != 0) return Errc::unsupported;
  if (!is_all_zero(head.domain)) return Errc::unsupported;
  head.key = key;
  return head;
}

Result<ChosenHead> choose_log_head(ByteSpan head_block, KeyId key) {
  if (head_block.size() < limits::kLogHeadBytes) return Errc::corrupt;
  const auto even = decode_log_head(head_block.first(kHeadSlotBytes), key);
  const auto odd = decode_log_head(head_block.subspan(kHeadSlotStride, kHeadSlotBytes), key);
  for (const auto* slot : {&even, &odd}) {
    if (!*slot && is_refused(slot->error())) return slot->error();
  }
  if (!even && !odd) {
    const bool blank = even.error() == Errc::not_found && odd.error() == Errc::not_found;
    return blank ? Errc::not_found : Errc::corrupt;
  }
  const bool take_even = even && (!odd || even->generation > odd->generation);
  const auto& chosen = take_even ? even : odd;
  const auto& other = take_even ? odd : even;
  if (chosen->generation % 2 != (take_even ? 0U : 1U)) return Errc::corrupt;
  ChosenHead result;
  result.head = *chosen;
  const bool never_written = !other && other.error() == Errc::not_found && chosen->generation == 1;
  const bool older = other && other->generation + 1 == chosen->generation;
  result.other_slot_bad = !never_written && !older;
  return result;
}

std::string key_folder(unsigned index) {
  char digits[3];
  std::snprintf(digits, sizeof digits, "%02x", index % kKeyFolderCount);
  return std::string(kKeysFolder) + '/' + digits;
}

std::string key_folder(KeyId key) {
  return key_folder(static_cast<unsigned>(key.value() % kKeyFolderCount));
}

namespace {

std::string_view kind_name(KeyFileKind kind) {
  static constexpr std::array<std::string_view, 3> kNames{"data", "log", "sums"};
  return kNames.at(static_cast<std::size_t>(kind));
}

}  // namespace

std::string key_path(KeyId key, KeyFileKind kind) {
  return key_folder(key) + '/' + key.hex() + '.' + std::string(kind_name(kind));
}

std::string key_bad_mark_path(KeyId key) {
  return key_folder(key) + '/' + key.hex() + ".bad";
}

std::string key_copy_path(KeyId key, KeyFileKind kind) {
  return key_folder(key) + '/' + key.hex() + ".copy-" + std::string(kind_name(kind));
}

Result<KeyFileName> parse_key_file_name(std::string_view name) {
  constexpr std::size_t kDigits = 9;
  if (name.size() <= kDigits + 1 || name[kDigits] != '.') return Errc::foreign_store;
  std::uint64_t number = 0;
  for (const char digit : name.substr(0, kDigits)) {
    const bool decimal = digit >= '0' && digit <= '9';
    if (!decimal && (digit < 'a' || digit > 'f')) return Errc::foreign_store;
    number = number * 16 + static_cast<std::uint64_t>(decimal ? digit - '0' : digit - 'a' + 10);
  }
  const auto key = KeyId::make(number);
  const std::string_view suffix = name.substr(kDigits + 1);
  const bool ours = suffix == "data" || suffix == "log" || suffix == "sums" || suffix == "bad" ||
                    suffix == "copy-data" || suffix == "copy-log" || suffix == "copy-sums";
  if (!key || !ours) return Errc::foreign_store;
  return KeyFileName{*key, std::string(suffix)};
}

bool is_out_of_descriptors(const Error& error) noexcept {
  return error.os_errno == EMFILE || error.os_errno == ENFILE;
}

KeyFiles::KeyFiles(std::unique_ptr<File> data,
                   std::unique_ptr<File> log,
                   std::unique_ptr<File> sums)
    : data_(std::move(data)), log_(std::move(log)), sums_(std::move(sums)) {}

Result<std::shared_ptr<KeyFiles>> KeyFiles::open_all(Files& files, KeyId key, bool create) {
  OpenOptions options;
  options.create = create;
  const auto open_one = [&](KeyFileKind kind) -> Result<std::unique_ptr<File>> {
    auto file = files.open(key_path(key, kind), options);
    if (!file && file.error() == Errc::not_found) return Errc::unknown;
    return file;
  };
  VMS_TRY(auto log, open_one(KeyFileKind::log));
  VMS_TRY(auto data, open_one(KeyFileKind::data));
  VMS_TRY(auto sums, open_one(KeyFileKind::sums));
  return std::shared_ptr<KeyFiles>(new KeyFiles(std::move(data), std::move(log), std::move(sums)));
}

Result<std::shared_ptr<KeyFiles>> KeyFiles::open(Files& files, KeyId key) {
  return open_all(files, key, false);
}

Result<std::shared_ptr<KeyFiles>> KeyFiles::create(Files& files, KeyId key) {
  return open_all(files, key, true);
}

Result<void> KeyFiles::remove(Files& files, KeyId key) {
  const std::array<std::string, 7> paths{key_path(key, KeyFileKind::data),
                                         key_path(key, KeyFileKind::sums),
                                         key_path(key, KeyFileKind::log),
                                         key_bad_mark_path(key),
                                         key_copy_path(key, KeyFileKind::data),
                                         key_copy_path(key, KeyFileKind::sums),
                                         key_copy_path(key, KeyFileKind::log)};
  for (const std::string& path : paths) {
    const auto removed = files.remove(path);
    if (!removed && removed.error() != Errc::not_found) return removed.error();
  }
  return success();
}

Result<void> KeyFiles::sync(KeyFileKind kind) {
  const auto index = static_cast<std::size_t>(kind);
  SyncState& state = syncs_.at(index);
  const std::array<File*, 3> files{data_.get(), log_.get(), sums_.get()};
  const std::lock_guard lock(state.mutex);
  if (state.failed) return Errc::io_error;
  const auto synced = files.at(index)->sync();
  state.failed = !synced.has_value();
  return synced;
}

Result<void> KeyFiles::write_head(const LogHead& head) {
  const auto slot = encode_log_head(head);
  return log_->write((head.generation % 2) * kHeadSlotStride, slot);
}

Result<void> KeyFiles::write_log(std::uint64_t offset, ByteSpan bytes) {
  return log_->write(limits::kLogHeadBytes + offset, bytes);
}

Result<void> KeyFiles::write_sums(BlockIndex first, std::span<const std::uint64_t> sums) {
  ByteWriter writer;
  writer.reserve(sums.size() * kSumBytes);
  for (const std::uint64_t sum : sums) writer.put(sum);
  return sums_->write(first.value * kSumBytes, writer.bytes());
}

Result<void> KeyFiles::write_blocks(BlockIndex first, const wire::Payload& blocks) {
  std::uint64_t offset = first.value * kBlockBytes;
  for (const ByteSpan piece : blocks.pieces()) {
    VMS_CHECK(data_->write(offset, piece));
    offset += piece.size();
  }
  return success();
}

Result<void> KeyFiles::write_blocks_uncached(BlockIndex first, const wire::Payload& blocks) {
  std::uint64_t offset = first.value * kBlockBytes;
  for (const ByteSpan piece : blocks.pieces()) {
    VMS_CHECK(data_->write_uncached(offset, piece));
    offset += piece.size();
  }
  return success();
}

Result<bool> KeyFiles::punch(const BlockRun& run) {
  static const std::vector<std::byte> zeros(kZeroChunk);
  std::uint64_t offset = run.first.value * kSumBytes;
  std::uint64_t left = run.blocks * kSumBytes;
  while (left > 0) {
    const std::size_t part = std::min<std::uint64_t>(left, zeros.size());
    VMS_CHECK(sums_->write(offset, ByteSpan(zeros).first(part)));
    offset += part;
    left -= part;
  }
  const auto given = data_->punch(run.first.value * kBlockBytes, run.blocks * kBlockBytes);
  if (given) return true;
  if (given.error() == Errc::unsupported || given.error() == Errc::no_space) return false;
  return given.error();
}

Result<void> KeyFiles::read_log(std::uint64_t offset, MutableBytes into) {
  return exactly(log_->read(limits::kLogHeadBytes + offset, into), into.size());
}

Result<void> KeyFiles::read_blocks(BlockIndex first, MutableBytes into) {
  return exactly(data_->read(first.value * kBlockBytes, into), into.size());
}

Result<void> KeyFiles::read_blocks_cached(BlockIndex first, MutableBytes into) {
  return exactly(data_->read_cached(first.value * kBlockBytes, into), into.size());
}

Result<void> KeyFiles::read_sums(BlockIndex first, std::span<std::uint64_t> into) {
  return load_sums(*sums_, &File::read, first, into);
}

Result<void> KeyFiles::read_sums_cached(BlockIndex first, std::span<std::uint64_t> into) {
  return load_sums(*sums_, &File::read_cached, first, into);
}

Result<void> KeyFiles::check_sizes(const KeyLength& length) {
  VMS_TRY(const auto log_size, log_->size());
  VMS_TRY(const auto data_size, data_->size());
  VMS_TRY(const auto sums_size, sums_->size());
  const bool whole = log_size >= limits::kLogHeadBytes + length.log_bytes &&
                     data_size >= length.blocks.value * kBlockBytes &&
                     sums_size >= length.blocks.value * kSumBytes;
  if (!whole) return Errc::corrupt;
  return success();
}

Result<std::uint64_t> KeyFiles::allocated_bytes() {
  VMS_TRY(const auto data, data_->allocated_bytes());
  VMS_TRY(const auto log, log_->allocated_bytes());
  VMS_TRY(const auto sums, sums_->allocated_bytes());
  return data + log + sums;
}

}  // namespace vmstore::storaged
