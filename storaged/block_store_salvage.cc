// SPDX-License-Identifier: Apache-2.0
// A failed key's synced length: written anew while the ring still holds what is in doubt, then
// sealed. It takes no append any more; fences, seals and reads are answered as of any sealed key.
#include <utility>

#include "base/log.h"
#include "storaged/block_store_state.h"
#include "storaged/salvage.h"

namespace vmstore::storaged {

namespace {

/// What is to be written of the key as it is now.
SalvageWork work_for(const Key& key, const Journal& journal, std::uint64_t newest_group) {
  SalvageWork work;
  work.head = key.state;
  work.head.damaged = false;
  work.head.sealed = true;
  ++work.head.generation;
  work.copy = key.data_dirty;
  work.records = key.doubt == Doubt::newest_records;
  work.groups = journal.space().groups_up_to(newest_group);
  return work;
}

}  // namespace

Task<void> BlockStore::State::salvage_key(std::shared_ptr<Key> key) {
  // A seal in the group under way has the last word, and so has a remove. Waiting for them could be
  // waiting for the ring, which waits for us.
  const bool seal_under_way = key->sealing && key->in_flight > 0;
  // What changes the files now would go on in those that are replaced. Later ones wait for us.
  while (key->pending_effects > 0) static_cast<void>(co_await key->changed.wait_pulse());
  key->salvaging = true;
  Result<void> written = Errc::busy;
  if (key->live && !seal_under_way && key->files) {
    const SalvageWork work = work_for(*key, *journal, completed_number);
    JournalScan ring = journal->reader();
    const auto old = key->files;
    auto write = [this, &old, &ring, &work] { return salvage(files, *old, ring, work); };
    written = co_await run_opening(write);
    key->salvaging = false;
    if (!written && is_out_of_descriptors(written.error())) co_return;  // wanted as before
    if (written) adopt_salvaged(*key, work.head);
  }
  key->salvaging = false;
  key->salvage = written ? Salvage::done : Salvage::none;
  if (!written) {
    VMS_LOG(error,
            "storaged",
            "key " << key->id().hex() << ": what was answered before cannot be made sure: "
                   << to_string(written.error()));
  }
  key->changed.pulse();
}

void BlockStore::State::adopt_salvaged(Key& key, const LogHead& head) {
  VMS_LOG(warning,
          "storaged",
          "key " << key.id().hex() << " is sealed at sequence " << head.length.last_sequence.value
                 << ": all that was answered is safe");
  forget_files(key);
  key.mark_needed = false;
  key.state.generation = head.generation;
  key.state.sealed = true;
  key.state.damaged = false;
}

Task<void> BlockStore::State::wait_settled(std::shared_ptr<Key> key) {
  while (key->salvage == Salvage::wanted && !broken) {
    static_cast<void>(co_await key->changed.wait_pulse());
  }
}

}  // namespace vmstore::storaged
