// SPDX-License-Identifier: Apache-2.0
// Repair with loss: the key is looked through and, if that is wished, cut (repair.h). Afterwards it
// is sealed and whole.
#include <algorithm>
#include <utility>

#include "base/log.h"
#include "storaged/block_store_state.h"
#include "storaged/repair.h"

namespace vmstore::storaged {
namespace {

LogHead head_of_cut(const Key& key, const LogFinding& finding, Epoch token) {
  LogHead head = key.state;
  head.disk = finding.disk;
  head.token = std::max(key.token, token);
  head.sealed = true;
  head.damaged = false;
  head.length = finding.kept;
  head.last_record = finding.last_record;
  head.committed = std::min(head.committed, finding.kept.last_sequence);
  // Both slots are written, above every one that an entry in the ring may name.
  head.generation = std::max(key.state.generation, key.durable_generation) + 2;
  return head;
}

RepairAnswer answer_of(const LogFinding& finding, bool needed) {
  RepairAnswer answer;
  answer.needed = needed;
  answer.known = finding.known;
  answer.kept = finding.kept;
  answer.kept_time = finding.kept_time;
  if (finding.is_cut()) answer.cut_path = cut_path(finding.key, finding.kept.last_sequence);
  return answer;
}

}  // namespace

void BlockStore::State::adopt_cut(Key& key, const LogHead& head) {
  VMS_LOG(warning,
          "storaged",
          "key " << key.id().hex() << " is cut at sequence " << head.length.last_sequence.value
                 << " by a repair");
  forget_files(key);
  if (key.failed) key.salvage = Salvage::done;
  key.state = head;
  key.durable_generation = head.generation;
  key.accepted = head.length;
  key.token = head.token;
  key.head_lost = false;
  key.changed.pulse();
}

Task<Result<RepairAnswer>> BlockStore::repair(RepairRequest request) {
  State& s = *state_;
  VMS_CO_TRY(const auto pass, s.calls.enter());
  VMS_CO_TRY(const auto key, s.find(request.key));
  const auto lock = co_await key->control.lock();
  co_await s.wait_settled(key);
  if (!key->live) co_return Errc::not_found;
  if (s.broken) co_return *s.broken;
  if (!key->head_lost && key->state.disk != request.disk) co_return Errc::permission;
  // A mark or a head is on its way to stable storage.
  const bool unsettled = key->mark_needed || key->destaging || key->pending_effects > 0;
  if (request.accept_loss && (unsettled || !key->idle())) co_return Errc::busy;
  if (request.accept_loss && request.token < key->token) co_return Errc::stale_token;
  RepairFrom from;
  from.log_offset = request.log_offset;
  from.sequence = request.sequence;
  const LogHead state = key->state;
  const bool head_known = !key->head_lost;
  std::shared_ptr<KeyFiles> old = key->files;
  auto inspect = [&]() -> Result<LogFinding> {
    if (!old) {
      VMS_TRY(old, KeyFiles::open(s.files, request.key));
    }
    return inspect_log(*old, state, head_known, from, state.damaged);
  };
  VMS_CO_TRY(const LogFinding finding, co_await run_on(s.pool, s.scheduler, inspect));
  if (finding.disk != request.disk) co_return Errc::permission;
  const bool needed = state.damaged || finding.is_cut();
  if (!needed || !request.accept_loss) co_return answer_of(finding, needed);
  // Nothing may be appended or changed from here on: the token of a living owner is below ours.
  if (!(key->state == state) || !key->idle()) co_return Errc::busy;
  key->sealing = true;
  const LogHead head = head_of_cut(*key, finding, request.token);
  auto cut = [&] { return cut_key(s.files, *old, head, finding); };
  const auto done = co_await run_on(s.pool, s.scheduler, cut);
  if (!done) {
    // Some of its files may be new: no append may go to the others, whose names are gone.
    s.forget_files(*key);
    co_return done.error();
  }
  key->sealing = false;
  s.adopt_cut(*key, head);
  co_return answer_of(finding, true);
}

}  // namespace vmstore::storaged
