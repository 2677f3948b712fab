// SPDX-License-Identifier: Apache-2.0
// Opening: a new folder is prepared, any other is recovered.
#include <algorithm>
#include <utility>

#include "base/fault.h"
#include "base/log.h"
#include "storaged/block_store_state.h"
#include "storaged/fan_out.h"
#include "storaged/recovery.h"

namespace vmstore::storaged {
namespace {

constexpr unsigned kListJobs = 8;

Result<void> prepare_folder(Files& files, std::uint64_t journal_bytes, Incarnation incarnation) {
  VMS_CHECK(files.make_folder(kKeysFolder));
  for (unsigned index = 0; index < kKeyFolderCount; ++index) {
    VMS_CHECK(files.make_folder(key_folder(index)));
    VMS_TRY(const auto names, files.list(key_folder(index)));
    if (names.empty()) continue;
    VMS_LOG(error, "storaged", "there are keys but no journal: what it held is lost");
    return Errc::corrupt;
  }
  VMS_CHECK(files.sync_folder(kKeysFolder));
  VMS_CHECK(files.sync_folder(""));
  // The journal comes last under its name: where it is, everything else is.
  return Journal::create(files, journal_bytes, incarnation);
}

Result<std::unique_ptr<Journal>> open_or_prepare(Files& files,
                                                 std::uint64_t journal_bytes,
                                                 Incarnation incarnation) {
  auto journal = Journal::open(files);
  if (journal || journal.error() != Errc::not_found) return journal;
  VMS_CHECK(prepare_folder(files, journal_bytes, incarnation));
  return Journal::open(files);
}

}  // namespace

Task<Result<void>> BlockStore::State::recover() {
  auto prepare = [this] { return open_or_prepare(files, options.journal_bytes, incarnation); };
  VMS_CO_TRY(journal, co_await run_on(pool, scheduler, prepare));

  Recovery recovery(files, *journal, incarnation);
  using Listed = Result<std::map<KeyId, RecoveredKey>>;
  std::vector<Listed> listed(kListJobs, Listed(Errc::unknown));
  std::vector<PoolJob> jobs;
  for (unsigned i = 0; i < kListJobs; ++i) {
    constexpr unsigned kFolders = kKeyFolderCount / kListJobs;
    jobs.push_back({&pool, [this, &listed, i] {
                      listed[i] = Recovery::list_folders(files, i * kFolders, kFolders);
                    }});
  }
  FanOut all(scheduler, jobs);
  co_await all;
  for (Listed& part : listed) {
    if (!part) co_return part.error();
    recovery.add(std::move(*part));
  }
  auto replay = [&recovery] { return recovery.run(); };
  VMS_CO_CHECK(co_await run_on(pool, scheduler, replay));
  completed_number = journal->last_number();
  removed_keys = recovery.removed_keys();
  for (const auto& [id, recovered] : recovery.keys()) {
    const auto key = std::make_shared<Key>(scheduler, recovered.head);
    key->durable_generation = recovered.head.generation;
    key->head_lost = !recovered.head_known;
    key->failed = recovered.bad_mark;
    keys.emplace(id, key);
  }
  co_return success();
}

}  // namespace vmstore::storaged
