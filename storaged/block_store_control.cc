// SPDX-License-Identifier: Apache-2.0
// Create, fence, seal, remove: the changes of a key's state. Each is in the ring, in order with the
// appends of its key, before it is answered.
// Steps of docs/protocol/ownership.pml: create, fence, seal; journal.pml: arrivals.
#include <algorithm>
#include <utility>

#include "base/fault.h"
#include "base/log.h"
#include "storaged/block_store_state.h"
#include "storaged/log_walk.h"

namespace vmstore::storaged {
namespace {

Result<std::shared_ptr<KeyFiles>> make_files(Files& folder,
                                             const LogHead& head,
                                             ByteSpan header_record) {
  VMS_FAULT("create.before_files");
  VMS_TRY(auto files, KeyFiles::create(folder, head.key));
  // Both slots of the head: a later fence or seal is written into space that is there.
  VMS_CHECK(files->log().allocate(0, limits::kLogHeadBytes + header_record.size()));
  VMS_CHECK(files->write_log(0, header_record));
  VMS_CHECK(files->write_head(head));
  VMS_FAULT("create.after_files");
  return files;
}

Result<std::vector<std::byte>> read_record(KeyFiles& files, const LogHead& state) {
  std::vector<std::byte> record(state.length.log_bytes - state.last_record);
  VMS_CHECK(files.read_log(state.last_record, record));
  return record;
}

/// Gives back what was reserved or cut behind the end of a sealed key.
Result<void> trim_files(KeyFiles& files, const KeyLength& length) {
  VMS_FAULT("seal.before_trim");
  VMS_CHECK(files.data().truncate(length.blocks.value * kBlockBytes));
  VMS_CHECK(files.sums().truncate(length.blocks.value * kSumBytes));
  VMS_CHECK(files.log().truncate(limits::kLogHeadBytes + length.log_bytes));
  VMS_FAULT("seal.after_trim");
  return success();
}

/// Keeps appends out while a seal is decided.
class Sealing {
 public:
  explicit Sealing(Key& key) : key_(key) { key_.sealing = true; }
  Sealing(const Sealing&) = delete;
  Sealing& operator=(const Sealing&) = delete;
  ~Sealing() { key_.sealing = false; }

 private:
  Key& key_;
};

Result<LogHead> head_of_new_key(
    KeyId key, DiskId disk, Epoch token, ByteSpan header_record, std::uint32_t copies) {
  if (!key.is_usable() || copies == 0) return Errc::invalid_argument;
  if (header_record.size() > limits::kRecordHeaderBytesMax) return Errc::invalid_argument;
  VMS_TRY(const auto decoded, wire::decode_record(header_record));
  const wire::RecordHeader& record = decoded.header;
  const bool fits = decoded.bytes == header_record.size() && record.key == key &&
                    record.kind == wire::RecordKind::key_header && record.disk == disk &&
                    record.sequence.value > 0 && record.block_count() == 0;
  if (!fits) return Errc::invalid_argument;
  LogHead head;
  head.generation = 1;
  head.key = key;
  head.disk = disk;
  head.token = token;
  head.copies = copies;
  head.length.last_sequence = Sequence(record.sequence.value - 1);
  head.length.log_bytes = header_record.size();
  head.committed = head.length.last_sequence;
  return head;
}

}  // namespace

Task<Result<KeyState>> BlockStore::State::create_again(std::shared_ptr<Key> key,
                                                       LogHead wanted,
                                                       std::vector<std::byte> header_record) {
  if (!key->live) co_return Errc::busy;
  if (key->state.damaged) co_return Errc::unknown;
  if (wanted.token < key->token) co_return Errc::stale_token;
  if (wanted.disk != key->state.disk || wanted.copies != key->state.copies) co_return Errc::exists;
  if (wanted.incarnation != key->state.incarnation) co_return Errc::exists;  // takes no append [H4]
  VMS_CO_TRY(const auto opened, co_await files_of(key));
  std::vector<std::byte> there(header_record.size());
  auto work = [&opened, &there] { return opened->read_log(0, there); };
  VMS_CO_CHECK(co_await run_on(pool, scheduler, work));
  if (there != header_record) co_return Errc::exists;
  co_return describe(*key);
}

Task<Result<void>> BlockStore::State::create_files(std::shared_ptr<Key> key, ByteSpan record) {
  const LogHead head = key->state;
  auto work = [this, &head, record] { return make_files(files, head, record); };
  const auto made = co_await run_opening(work);
  if (made) {
    key->live = true;
    key->names_unsynced = true;
    adopt_files(*key, *made);
  }
  finish_effects(*key);
  if (made) co_return success();
  // The ring says that the key exists; a second entry takes that back.
  VMS_LOG(error,
          "storaged",
          "key " << key->id().hex() << " cannot be made: " << to_string(made.error()));
  co_await undo_create(key);
  co_return made.error();
}

Task<void> BlockStore::State::undo_create(std::shared_ptr<Key> key) {
  removed_keys.insert(key->id());
  Op op(scheduler, key, EntryKind::remove);
  const auto taken_back = co_await commit(op);
  if (taken_back) {
    auto work = [this, &key] { return KeyFiles::remove(files, key->id()); };
    ignore(co_await run_opening(work), "the entry in the ring removes them at a start");
    finish_effects(*key);
  }
  keys.erase(key->id());
}

Task<Result<KeyState>> BlockStore::create(KeyId key_id,
                                          DiskId disk,
                                          Epoch token,
                                          std::vector<std::byte> header_record,
                                          std::uint32_t copies,
                                          bool shared) {
  State& s = *state_;
  VMS_CO_TRY(const auto pass, s.calls.enter());
  VMS_CO_TRY(auto head, head_of_new_key(key_id, disk, token, header_record, copies));
  if (s.broken) co_return *s.broken;
  head.shared = shared;
  head.incarnation = s.incarnation;
  if (const auto known = s.keys.find(key_id); known != s.keys.end()) {
    const auto existing = known->second;
    co_return co_await s.create_again(existing, head, std::move(header_record));
  }
  if (s.removed_keys.contains(key_id)) co_return Errc::exists;  // it did
  VMS_CO_CHECK(co_await s.check_room_for_key());
  const auto key = std::make_shared<Key>(s.scheduler, head);
  key->live = false;
  s.keys.emplace(key_id, key);
  CreateBody body;
  body.disk = disk;
  body.incarnation = s.incarnation;
  body.copies = copies;
  body.shared = shared;
  body.header_record = header_record;
  const std::vector<std::byte> encoded = encode_create(body);
  Op op(s.scheduler, key, EntryKind::create);
  op.fields.token = token;
  op.fields.place = head.length;
  op.fields.committed = head.committed;
  op.body = encoded;
  const auto committed = co_await s.commit(op);
  if (!committed) {
    s.keys.erase(key_id);
    co_return committed.error();
  }
  VMS_CO_CHECK(co_await s.create_files(key, header_record));
  co_return s.describe(*key);
}

Task<Result<BlockStore::Fenced>> BlockStore::fence(KeyId key_id, Epoch token) {
  State& s = *state_;
  VMS_CO_TRY(const auto pass, s.calls.enter());
  VMS_CO_TRY(const auto key, s.find(key_id));
  const auto lock = co_await key->control.lock();
  for (;;) {
    co_await s.wait_settled(key);
    if (!key->live) co_return Errc::not_found;
    if (key->state.damaged) co_return Errc::unknown;
    if (token < key->token) co_return Errc::stale_token;
    // Also for an equal token: what was queued before must be in the length.
    Op op(s.scheduler, key, EntryKind::fence);
    op.fields.token = token;
    key->token = token;
    const auto committed = co_await s.commit(op);
    if (committed) break;
    // An append before it failed with its key: what that leaves is the length.
    if (key->salvage != Salvage::wanted) co_return committed.error();
  }
  VMS_CO_TRY(const auto opened, co_await s.files_of(key));
  if (key->state.damaged) co_return Errc::unknown;
  Fenced fenced;
  fenced.state = s.describe(*key);
  if (key->state.last_record == 0) co_return fenced;
  const LogHead state = key->state;
  auto work = [&opened, &state] { return read_record(*opened, state); };
  VMS_CO_TRY(fenced.last_record, co_await run_on(s.pool, s.scheduler, work));
  co_return fenced;
}

Task<Result<KeyLength>> BlockStore::State::seal_at(std::shared_ptr<Key> key,
                                                   Epoch token,
                                                   KeyLength length) {
  if (key->state.sealed) {
    if (length != key->state.length) co_return Errc::wrong_offset;
    co_return length;
  }
  if (length.last_sequence > key->state.length.last_sequence) co_return Errc::wrong_offset;
  if (length.last_sequence < key->state.committed) co_return Errc::wrong_offset;
  VMS_CO_TRY(const auto opened, co_await files_of(key));
  std::uint64_t last_record = key->state.last_record;
  if (length != key->state.length) {
    const std::uint64_t log_bytes = key->state.length.log_bytes;
    auto search = [&opened, log_bytes, &length] {
      return find_record_end(*opened, log_bytes, length.last_sequence);
    };
    VMS_CO_TRY(const auto newest, co_await run_on(pool, scheduler, search));
    if (newest.end != length) co_return Errc::wrong_offset;
    last_record = newest.log_offset;
  }
  if (key->state.damaged) co_return Errc::unknown;  // it failed meanwhile
  Op op(scheduler, key, EntryKind::seal);
  op.fields.token = token;
  op.fields.place = length;
  op.fields.last_record = last_record;
  key->token = token;
  VMS_CO_CHECK(co_await commit(op));
  auto trim = [&opened, &length] { return trim_files(*opened, length); };
  const auto trimmed = co_await run_on(pool, scheduler, trim);
  key->allocated = Key::Allocated();
  key->data_dirty = true;
  if (!trimmed) {
    VMS_LOG(warning,
            "storaged",
            "key " << key->id().hex()
                   << ": space behind its end is kept: " << to_string(trimmed.error()));
  }
  finish_effects(*key);
  co_return length;
}

Task<Result<KeyLength>> BlockStore::seal(KeyId key_id, Epoch token, KeyLength length) {
  State& s = *state_;
  VMS_CO_TRY(const auto pass, s.calls.enter());
  VMS_CO_TRY(const auto key, s.find(key_id));
  const auto lock = co_await key->control.lock();
  const Sealing sealing(*key);
  co_await s.wait_idle(key);
  co_await s.wait_settled(key);
  if (!key->live) co_return Errc::not_found;
  if (key->state.damaged) co_return Errc::unknown;
  if (token < key->token) co_return Errc::stale_token;
  co_return co_await s.seal_at(key, token, length);
}

Task<Result<void>> BlockStore::remove(KeyId key_id) {
  State& s = *state_;
  VMS_CO_TRY(const auto pass, s.calls.enter());
  VMS_CO_TRY(const auto key, s.find(key_id));
  const auto lock = co_await key->control.lock();
  co_await s.wait_settled(key);
  if (!key->live) co_return Errc::not_found;
  key->live = false;
  s.removed_keys.insert(key_id);
  co_await s.wait_idle(key);
  Op op(s.scheduler, key, EntryKind::remove);
  const auto committed = co_await s.commit(op);
  if (!committed) {
    key->live = true;
    co_return committed.error();
  }
  s.drop_files(*key);
  s.shared_descriptors.remove_if([key_id](const auto& shared) { return shared.first == key_id; });
  auto work = [&s, key_id]() -> Result<void> {
    VMS_FAULT("remove.before_files");
    VMS_CHECK(KeyFiles::remove(s.files, key_id));
    VMS_FAULT("remove.after_files");
    return success();
  };
  const auto removed = co_await s.run_opening(work);
  s.finish_effects(*key);
  if (!removed) {  // something of it is left: to be tried again, never to be believed
    VMS_LOG(error,
            "storaged",
            "key " << key_id.hex() << " cannot be removed: " << to_string(removed.error()));
    key->state.damaged = true;
    key->removed = false;
    key->live = true;
    co_return removed.error();
  }
  s.keys.erase(key_id);
  ++s.counters.keys_deleted;
  co_return success();
}

}  // namespace vmstore::storaged
