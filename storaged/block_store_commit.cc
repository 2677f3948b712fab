// SPDX-License-Identifier: Apache-2.0
// Group commit: what all keys have waiting goes into the ring in one synced write, and at the same
// time, unsynced, into the key files; then it is answered.
// Steps of docs/protocol/journal.pml: commits.
#include <algorithm>
#include <utility>

#include "base/fault.h"
#include "base/log.h"
#include "storaged/block_store_state.h"
#include "storaged/fan_out.h"

namespace vmstore::storaged {
namespace {

/// So few appends are written into the page cache sooner than a second worker is awake.
constexpr std::size_t kTogetherMax = 2;

/// Writes the files' part of adjacent appends of one key: [first, last).
Result<void> write_appends(std::span<Op* const> ops) {
  KeyFiles& files = *ops.front()->files;
  const EntryFields& first = ops.front()->fields;
  VMS_FAULT("files.before_write");
  for (const Op* op : ops) {
    if (op->payload != nullptr) {
      VMS_CHECK(files.write_blocks(op->fields.place.blocks, *op->payload));
    }
  }
  if (ops.size() == 1) {
    VMS_CHECK(files.write_sums(first.place.blocks, ops.front()->sums));
    VMS_CHECK(files.write_log(first.place.log_bytes, ops.front()->body));
  } else {
    std::vector<std::uint64_t> sums;
    std::vector<std::byte> log;
    for (const Op* op : ops) {
      sums.insert(sums.end(), op->sums.begin(), op->sums.end());
      log.insert(log.end(), op->body.begin(), op->body.end());
    }
    VMS_CHECK(files.write_sums(first.place.blocks, sums));
    VMS_CHECK(files.write_log(first.place.log_bytes, log));
  }
  VMS_FAULT("files.after_write");
  return success();
}

struct KeyFailure {
  Key* key;
  Error error;
};

std::vector<KeyFailure> write_all_appends(std::span<Op* const> ops) {
  std::vector<KeyFailure> failures;
  std::size_t begin = 0;
  while (begin < ops.size()) {
    if (!ops[begin]->is_append()) {
      ++begin;
      continue;
    }
    std::size_t end = begin + 1;
    while (end < ops.size() && ops[end]->is_append() && ops[end]->key == ops[begin]->key) ++end;
    const auto written = write_appends(ops.subspan(begin, end - begin));
    if (!written) failures.push_back({ops[begin]->key.get(), written.error()});
    begin = end;
  }
  return failures;
}

std::vector<OutgoingEntry> entries_of(std::span<Op* const> ops) {
  std::vector<OutgoingEntry> entries;
  entries.reserve(ops.size());
  for (const Op* op : ops) entries.push_back({op->fields, op->body, op->blocks});
  return entries;
}

}  // namespace

void BlockStore::State::submit(Op& op) {
  op.key->queue.push(op);
  if (op.ready) make_ready(op);
}

void BlockStore::State::make_ready(Op& op) {
  op.ready = true;
  Key& key = *op.key;
  const bool waits_for_us = !key.queue.empty() && key.queue.front()->ready;
  if (!waits_for_us || key.in_ready_list) return;
  key.in_ready_list = true;
  ready_keys.push_back(&key);
  commit_work.set();
}

void BlockStore::State::end(Op& op, const Result<void>& result) {
  op.result = result;
  op.ended = true;
  if (op.preparing) {
    op.unwinding = true;
    ++op.key->unwinding;
  }
  op.done.set();
  op.key->changed.pulse();
}

void BlockStore::State::fail_from(Op& op, const Error& error) {
  if (op.ended) return;
  Key& key = *op.key;
  VMS_ASSERT(!op.taken);
  for (Op* const cut : key.queue.cut_from(op)) {
    if (cut->is_append() && cut->fields.place.log_bytes < key.accepted.log_bytes) {
      key.accepted = cut->fields.place;
    }
    end(*cut, cut == &op ? Result<void>(error) : Result<void>(Errc::wrong_offset));
  }
  if (!key.queue.empty() && key.queue.front()->ready) make_ready(*key.queue.front());
}

Task<Result<void>> BlockStore::State::commit(Op& op) {
  if (broken) co_return *broken;
  op.ready = true;
  submit(op);
  co_await op.done.wait();
  co_return op.result;
}

void BlockStore::State::finish_effects(Key& key) {
  VMS_ASSERT(key.pending_effects > 0);
  --key.pending_effects;
  key.changed.pulse();
}

Task<void> BlockStore::State::wait_idle(std::shared_ptr<Key> key) {
  while (!key->idle()) static_cast<void>(co_await key->changed.wait_pulse());
}

void BlockStore::State::fail_key(Key& key, std::string_view what, const Error& error, Doubt doubt) {
  if (!key.is_lost()) {
    VMS_LOG(error,
            "storaged",
            "key " << key.id().hex() << ": " << what << ": " << to_string(error)
                   << "; the key is failed on this node");
    const bool is_sure = doubt != Doubt::everything && !key.failed && !key.state.damaged;
    key.salvage = is_sure ? Salvage::wanted : Salvage::none;
    key.doubt = doubt;
    key.failed = true;
    key.mark_needed = true;
    key.state.damaged = true;
    const auto found = keys.find(key.id());
    if (found != keys.end()) mark_dirty(found->second);
    if (is_sure) destage_work.set();
  }
  for (Op* const op : key.queue.cut_all()) end(*op, Errc::io_error);
  key.accepted = key.state.length;
}

void BlockStore::State::break_store(std::string_view what, const Error& error) {
  if (!broken) {
    VMS_LOG(error,
            "storaged",
            what << ": " << to_string(error)
                 << "; this node takes no more changes until it is restarted");
    broken = Error(Errc::io_error, error.os_errno);
  }
  for (Key* const key : ready_keys) key->in_ready_list = false;
  ready_keys.clear();
  for (const auto& [id, key] : keys) {
    for (Op* const op : key->queue.cut_all()) end(*op, *broken);
    key->changed.pulse();
  }
  ring_space.pulse();
}

std::vector<Op*> BlockStore::State::collect() {
  std::vector<Op*> ops;
  std::uint64_t bytes = 0;
  while (!ready_keys.empty()) {
    Key& key = *ready_keys.front();
    while (!key.queue.empty() && key.queue.front()->ready) {
      Op& op = *key.queue.front();
      op.fields.head_generation = key.durable_generation;
      const std::uint64_t added = entry_bytes({op.fields, op.body, op.blocks});
      const bool fits = bytes + added <= journal->entries_bytes_max();
      if (!ops.empty() && (!fits || ops.size() == kGroupEntriesMax)) return ops;
      bytes += added;
      key.queue.pop();
      op.taken = true;
      ++key.in_flight;
      ops.push_back(&op);
    }
    key.in_ready_list = false;
    ready_keys.pop_front();
  }
  return ops;
}

void BlockStore::State::complete(Op& op) {
  Key& key = *op.key;
  LogHead& state = key.state;
  const EntryFields& fields = op.fields;
  state.token = std::max(state.token, fields.token);
  switch (fields.kind) {
    case EntryKind::append:
    case EntryKind::append_header:
      // It failed while this was on its way: never answered, so nothing of it belongs to the key.
      if (key.failed) break;
      if (fields.kind == EntryKind::append) key.data_dirty = true;
      state.length = op.end;
      state.last_record = fields.place.log_bytes;
      state.committed = std::max(state.committed, fields.committed);
      ++counters.appends;
      counters.append_bytes += op.sums.size() * kBlockBytes;
      if (op.payload == nullptr) undestaged_blocks_bytes += op.sums.size() * kBlockBytes;
      break;
    case EntryKind::seal:
      state.sealed = true;
      state.length = fields.place;
      state.last_record = fields.last_record;
      key.accepted = fields.place;
      break;
    case EntryKind::remove:
      key.removed = true;
      [[fallthrough]];
    case EntryKind::create:
      key.folder_dirty = true;
      break;
    case EntryKind::punch:
    case EntryKind::fence:
      break;
  }
  if (op.has_effects()) ++key.pending_effects;
  mark_dirty(op.key);
}

Task<void> BlockStore::State::commit_group(std::vector<Op*> ops) {
  const std::vector<OutgoingEntry> entries = entries_of(ops);
  std::optional<std::uint64_t> offset;
  while (!broken) {
    offset = journal->space().place(journal->next_group_bytes(entries));
    if (offset) break;
    destage_work.set();
    static_cast<void>(co_await ring_space.wait_pulse());
  }
  Result<void> in_ring = broken ? Result<void>(*broken) : success();
  std::vector<KeyFailure> failures;
  if (in_ring) {
    const GroupPlace place = journal->prepare(entries, *offset);
    const bool together = ops.size() <= kTogetherMax;
    std::vector<PoolJob> jobs;
    jobs.push_back({&journal_pool, [&, together] {
                      if (together) failures = write_all_appends(ops);
                      in_ring = journal->write_prepared(place);
                    }});
    if (!together) jobs.push_back({&pool, [&] { failures = write_all_appends(ops); }});
    FanOut both(scheduler, jobs);
    co_await both;
    ++counters.journal_groups;
    if (in_ring) completed_number = place.number;
    if (!in_ring) break_store("the journal cannot be written", in_ring.error());
  }
  for (Op* const op : ops) {
    --op->key->in_flight;
    if (in_ring) complete(*op);
  }
  for (const KeyFailure& failure : failures) {
    if (!failure.key->failed) fail_key(*failure.key, "cannot be written", failure.error);
  }
  for (Op* const op : ops) {
    const bool bad = in_ring && op->key->failed && op->is_append();
    end(*op, bad ? Result<void>(Errc::io_error) : in_ring);
  }
  kick_destage_if_due();
}

Task<void> BlockStore::State::run_commits() {
  auto pass = background.enter();
  for (;;) {
    co_await commit_work.wait();
    commit_work.reset();
    while (!ready_keys.empty()) {
      std::vector<Op*> ops = collect();
      co_await commit_group(std::move(ops));
    }
    if (stopping) co_return;
  }
}

}  // namespace vmstore::storaged
