// SPDX-License-Identifier: Apache-2.0
// Steps of docs/protocol/journal.pml: power.
#include "storaged/recovery.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/checksum.h"
#include "base/fault.h"
#include "base/log.h"

namespace vmstore::storaged {
namespace {

constexpr std::size_t kOpenKeysMax = 256;
constexpr std::uint64_t kVerifyBlocks = 256;

struct Names {
  bool log = false;
  bool bad = false;
};

/// Reads the head of a key that was listed. Whatever is wrong with it makes it damaged; only a
/// newer format is an error.
Result<RecoveredKey> read_head(Files& files, KeyId id, const Names& names) {
  RecoveredKey key;
  key.head.key = id;
  key.bad_mark = names.bad;
  if (!names.log) return key;
  OpenOptions options;
  options.write = false;
  const auto log = files.open(key_path(id, KeyFileKind::log), options);
  if (!log) return key;
  std::array<std::byte, limits::kLogHeadBytes> bytes{};
  const auto got = (*log)->read(0, bytes);
  const auto size = (*log)->size();
  if (!got || !size) return key;
  const auto chosen = choose_log_head(bytes, id);
  const bool damaged =
      !chosen && (chosen.error() == Errc::corrupt || chosen.error() == Errc::not_found);
  if (damaged) return key;
  if (!chosen) return chosen.error();
  key.head = chosen->head;
  key.head_known = true;
  key.other_slot_bad = chosen->other_slot_bad;
  key.sealed_by_head = chosen->head.sealed;
  key.too_short = *size < limits::kLogHeadBytes + chosen->head.length.log_bytes;
  return key;
}

}  // namespace

Result<std::map<KeyId, RecoveredKey>> Recovery::list_folders(Files& files,
                                                             unsigned first,
                                                             unsigned count) {
  std::map<KeyId, RecoveredKey> keys;
  for (unsigned folder = first; folder < first + count; ++folder) {
    auto listed = files.list(key_folder(folder));
    if (!listed) {
      VMS_LOG(
          error,
          "storaged",
          "folder " << key_folder(folder) << " cannot be listed: " << to_string(listed.error()));
      return listed.error() == Errc::not_found ? Error(Errc::corrupt) : listed.error();
    }
    std::map<KeyId, Names> found;
    for (const std::string& name : *listed) {
      const auto parsed = parse_key_file_name(name);
      if (!parsed || key_folder(parsed->key) != key_folder(folder)) {
        VMS_LOG(warning, "storaged", "not a file of ours: " << key_folder(folder) << '/' << name);
        continue;
      }
      if (parsed->suffix.starts_with("copy-")) {  // of a salvage or repair that died
        VMS_CHECK(files.remove(key_folder(folder) + '/' + name));
        continue;
      }
      Names& names = found[parsed->key];
      names.log = names.log || parsed->suffix == "log";
      names.bad = names.bad || parsed->suffix == "bad";
    }
    for (const auto& [id, names] : found) {
      VMS_TRY(auto key, read_head(files, id, names));
      keys.emplace(id, std::move(key));
    }
  }
  return keys;
}

void Recovery::damage(RecoveredKey& key, std::string_view why) {
  if (!key.head.damaged) {
    VMS_LOG(error, "storaged", "key " << key.head.key.hex() << " is damaged: " << why);
  }
  key.head.damaged = true;
}

Result<void> Recovery::contain(RecoveredKey& key, const Error& error) {
  // Full or out of descriptors: nothing is wrong with the key, and the ring still holds it all.
  const bool not_its_own = error == Errc::no_space || is_out_of_descriptors(error);
  if (not_its_own) return error;
  damage(key, to_string(error));
  if (key.bad_mark) return success();
  OpenOptions options;
  options.create = true;
  VMS_TRY(const auto mark, files_.open(key_bad_mark_path(key.head.key), options));
  VMS_CHECK(mark->sync());
  folders_.insert(key_folder(key.head.key));
  key.bad_mark = true;
  return success();
}

Result<void> Recovery::close_oldest() {
  // Synced before it is closed: an error of its write-back is told to an open file only.
  RecoveredKey& oldest = keys_.at(open_.front());
  open_.pop_front();
  const auto synced = sync(oldest);
  oldest.files.reset();
  if (!synced) VMS_CHECK(contain(oldest, synced.error()));
  return success();
}

Result<KeyFiles*> Recovery::files_of(RecoveredKey& key, bool create) {
  if (key.files) return key.files.get();
  if (open_.size() >= kOpenKeysMax) VMS_CHECK(close_oldest());
  const KeyId id = key.head.key;
  for (;;) {
    auto opened = create ? KeyFiles::create(files_, id) : KeyFiles::open(files_, id);
    if (opened) key.files = std::move(*opened);
    if (opened) break;
    if (!is_out_of_descriptors(opened.error()) || open_.empty()) return opened.error();
    VMS_CHECK(close_oldest());
  }
  open_.push_back(id);
  return key.files.get();
}

Result<void> Recovery::sync(RecoveredKey& key) {
  if (!key.files || key.bad_mark) return success();
  VMS_FAULT("recover.before_sync");
  VMS_CHECK(key.files->sync(KeyFileKind::data));
  VMS_CHECK(key.files->sync(KeyFileKind::sums));
  VMS_CHECK(key.files->sync(KeyFileKind::log));
  VMS_FAULT("recover.after_sync");
  return success();
}

Result<void> Recovery::apply_create(RecoveredKey& key, const DecodedEntry& entry) {
  VMS_TRY(const auto body, decode_create(entry.body));
  folders_.insert(key_folder(key.head.key));
  if (key.head_known && key.head.disk != body.disk) {
    damage(key, "its head names another disk than the journal");
    return success();
  }
  VMS_TRY(KeyFiles* const files, files_of(key, true));
  VMS_CHECK(files->write_log(0, body.header_record));
  key.cursor = entry.fields.place;
  if (key.head_known) return success();
  key.head_known = true;
  key.head.generation = 1;
  key.head.disk = body.disk;
  key.head.incarnation = body.incarnation;
  key.head.domain = body.domain;
  key.head.token = entry.fields.token;
  key.head.shared = body.shared;
  key.head.copies = body.copies;
  key.head.length = entry.fields.place;
  key.head.committed = entry.fields.committed;
  return files->write_head(key.head);
}

Result<void> Recovery::write_append(RecoveredKey& key, const DecodedEntry& entry) {
  VMS_TRY(KeyFiles* const files, files_of(key));
  const KeyLength& place = entry.fields.place;
  VMS_CHECK(files->write_log(place.log_bytes, entry.body));
  VMS_CHECK(files->write_sums(place.blocks, entry.record.block_sums));
  if (entry.fields.kind == EntryKind::append) {
    return files->data().write(place.blocks.value * kBlockBytes, entry.blocks);
  }
  if (entry.record.block_count() == 0) return success();
  const BlockRun run{place.blocks, entry.record.block_count()};
  BlockRun* const last = key.large.empty() ? nullptr : &key.large.back();
  if (last != nullptr && last->first.value + last->blocks == run.first.value) {
    last->blocks += run.blocks;
  } else {
    key.large.push_back(run);
  }
  return success();
}

Result<void> Recovery::apply_append(RecoveredKey& key, const DecodedEntry& entry) {
  const EntryFields& fields = entry.fields;
  const KeyLength end = length_after(entry);
  if (key.sealed_by_head) {  // the head has the last word on what belongs to the key
    if (end.last_sequence > key.head.length.last_sequence) return success();
    return write_append(key, entry);
  }
  const KeyLength& known = key.cursor ? *key.cursor : key.head.length;
  const bool first_of_ring = !key.cursor;
  const bool follows =
      first_of_ring && fields.place.last_sequence < known.last_sequence
          ? fields.place.log_bytes < known.log_bytes && fields.place.blocks <= known.blocks
          : fields.place == known;
  if (!follows) damage(key, "records are missing before one in the journal");
  VMS_CHECK(write_append(key, entry));
  key.cursor = end;
  key.last_record = fields.place.log_bytes;
  key.head.committed = std::max(key.head.committed, fields.committed);
  return success();
}

void Recovery::apply_seal(RecoveredKey& key, const EntryFields& fields) {
  key.trim = true;
  if (key.sealed_by_head) return;
  const KeyLength& known = key.cursor ? *key.cursor : key.head.length;
  if (fields.place.last_sequence > known.last_sequence ||
      fields.place.log_bytes > known.log_bytes || fields.place.blocks > known.blocks) {
    damage(key, "it was sealed beyond what is there");
  }
  key.head.sealed = true;
  key.cursor = fields.place;
  key.last_record = fields.last_record;
}

Result<void> Recovery::apply_punch(RecoveredKey& key, ByteSpan body) {
  VMS_TRY(const auto runs, decode_punch(body));
  VMS_TRY(KeyFiles* const files, files_of(key));
  for (const BlockRun& run : runs) {
    VMS_TRY(const bool given_back, files->punch(run));
    static_cast<void>(given_back);  // said when the blocks were freed
  }
  return success();
}

Result<void> Recovery::apply(const DecodedEntry& entry) {
  const EntryFields& fields = entry.fields;
  RecoveredKey& key = keys_[fields.key];
  key.head.key = fields.key;
  key.touched = true;
  if (fields.kind == EntryKind::create) return apply_create(key, entry);
  if (!key.head_known) {
    damage(key, "its head cannot be read");
    return success();
  }
  if (fields.head_generation > key.head.generation) damage(key, "its newest head is lost");
  key.head.token = std::max(key.head.token, fields.token);
  switch (fields.kind) {
    case EntryKind::append:
    case EntryKind::append_header:
      return apply_append(key, entry);
    case EntryKind::seal:
      apply_seal(key, fields);
      return success();
    case EntryKind::punch:
      return apply_punch(key, entry.body);
    case EntryKind::fence:
    case EntryKind::create:
    case EntryKind::remove:
      return success();
  }
  return success();
}

Result<void> Recovery::replay(const JournalContent& content) {
  for (const KeyId id : content.damaged_keys) {
    if (content.removed_keys.contains(id)) continue;
    RecoveredKey& key = keys_[id];
    key.head.key = id;
    key.touched = true;
    damage(key, "an entry of it in the journal cannot be read");
  }
  JournalScan reader = journal_.reader();
  for (const GroupPlace& place : content.groups) {
    VMS_TRY(const DecodedGroup group, reader.read_group(place));
    for (const DecodedEntry& entry : group.entries) {
      if (!entry.body_ok || content.removed_keys.contains(entry.fields.key)) continue;
      const auto applied = apply(entry);
      if (!applied) VMS_CHECK(contain(keys_.at(entry.fields.key), applied.error()));
    }
  }
  return success();
}

Result<void> Recovery::remove_keys(const std::set<KeyId>& removed) {
  for (const KeyId id : removed) {
    VMS_CHECK(KeyFiles::remove(files_, id));
    folders_.insert(key_folder(id));
    keys_.erase(id);
  }
  return success();
}

void Recovery::settle_length(RecoveredKey& key) {
  if (key.sealed_by_head || !key.cursor) return;
  if (!key.head.sealed && key.cursor->last_sequence < key.head.length.last_sequence) {
    damage(key, "the journal ends before the length that its head names");
    return;
  }
  key.head.length = *key.cursor;
  key.head.last_record = key.last_record;
}

Result<void> Recovery::verify_large(RecoveredKey& key) {
  VMS_TRY(KeyFiles* const files, files_of(key));
  std::vector<std::byte> bytes(kVerifyBlocks * kBlockBytes);
  std::vector<std::uint64_t> sums(kVerifyBlocks);
  for (const BlockRun& run : key.large) {
    const std::uint64_t end = std::min(run.first.value + run.blocks, key.head.length.blocks.value);
    for (std::uint64_t block = run.first.value; block < end; block += kVerifyBlocks) {
      const std::uint64_t count = std::min(end - block, kVerifyBlocks);
      const std::span<std::uint64_t> part(sums.data(), count);
      const MutableBytes into(bytes.data(), count * kBlockBytes);
      VMS_CHECK(files->read_sums(BlockIndex{block}, part));
      VMS_CHECK(files->read_blocks(BlockIndex{block}, into));
      for (std::size_t i = 0; i < count; ++i) {
        const bool whole = part[i] == 0 ||  // punched since
                           block_sum(into.subspan(i * kBlockBytes, kBlockBytes)) == part[i];
        if (!whole) return Errc::corrupt;
      }
    }
  }
  return success();
}

Result<void> Recovery::finish(RecoveredKey& key) {
  if (!key.head_known) return Errc::corrupt;  // the files stay as they are, and it is marked
  settle_length(key);
  VMS_TRY(KeyFiles* const files, files_of(key));
  const auto sizes = files->check_sizes(key.head.length);
  if (!sizes && sizes.error() != Errc::corrupt) return sizes.error();
  if (!sizes) damage(key, "a file is shorter than its length");
  if (sizes && !key.large.empty()) {
    const auto verified = verify_large(key);
    if (!verified && verified.error() != Errc::corrupt) return verified.error();
    if (!verified) damage(key, "synced blocks do not match their checksums");
  }
  if (sizes && key.trim && !key.head.damaged) {
    const KeyLength& length = key.head.length;
    VMS_CHECK(files->data().truncate(length.blocks.value * kBlockBytes));
    VMS_CHECK(files->sums().truncate(length.blocks.value * kSumBytes));
    VMS_CHECK(files->log().truncate(limits::kLogHeadBytes + length.log_bytes));
  }
  // The head that was read may only be in the page cache, and the next one goes over the other
  // slot: never may both be unsynced.
  VMS_CHECK(files->sync(KeyFileKind::log));
  VMS_FAULT("recover.before_head");
  ++key.head.generation;
  VMS_CHECK(files->write_head(key.head));
  return sync(key);
}

Result<void> Recovery::run() {
  VMS_TRY(const JournalContent content, journal_.scan());
  if (!content.groups.empty()) {
    VMS_LOG(info, "storaged", "replaying " << content.groups.size() << " groups of the journal");
  }
  VMS_CHECK(replay(content));
  VMS_CHECK(remove_keys(content.removed_keys));
  removed_keys_ = content.removed_keys;
  for (auto& [id, key] : keys_) {
    if (key.touched && !key.bad_mark) {
      const auto finished = finish(key);
      if (!finished) VMS_CHECK(contain(key, finished.error()));
    }
    if (!key.head_known) damage(key, "its head cannot be read");
    if (key.bad_mark) damage(key, "a sync of it failed");
    if (!key.touched && key.other_slot_bad) damage(key, "its newest head is lost");
    if (!key.touched && key.too_short) damage(key, "its log is shorter than its length");
  }
  for (const std::string& folder : folders_) VMS_CHECK(files_.sync_folder(folder));
  for (auto& [id, key] : keys_) key.files.reset();
  return journal_.begin(content, incarnation_);
}

}  // namespace vmstore::storaged
