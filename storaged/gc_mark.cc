// SPDX-License-Identifier: Apache-2.0
#include "storaged/gc_mark.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include "base/limits.h"
#include "base/log.h"
#include "base/units.h"
#include "meta/records.h"
#include "meta/schema.h"

namespace vmstore::storaged {
namespace {

// How often a disk's log is read again because its owner freed pages meanwhile.
constexpr int kTailAttempts = 8;
// Pages that are visited before whoever waits for the node's thread has a turn: well below a
// millisecond when all of them are in the page cache.
constexpr std::uint64_t kPagesAtOnce = 16;

/// All entries below `prefix` at `revision` (0: now, then that one), decoded.
template <class Record>
Task<Result<std::uint64_t>> read_records(meta::MetaStore& store,
                                         std::string prefix,
                                         std::uint64_t revision,
                                         std::vector<Record>& into) {
  meta::RangeRequest request;
  request.prefix = std::move(prefix);
  request.revision = revision;
  for (;;) {
    VMS_CO_TRY(const auto answer, co_await store.range(request));
    for (const auto& entry : answer.entries) {
      auto record = meta::decode<Record>(entry.value);
      if (!record) {
        VMS_LOG(error, "gc", entry.key << ": " << to_string(record.error()));
        co_return record.error();
      }
      into.push_back(std::move(*record));
      request.after = entry.key;
    }
    request.revision = answer.revision;
    if (!answer.more) co_return answer.revision;
    if (answer.entries.empty()) co_return Errc::corrupt;  // it says there is more and gives nothing
  }
}

DiskId id_of(const meta::pb::DiskRecord& record) {
  return meta::from_pb<DiskId>(record.id());
}

KeyId key_of(std::uint64_t number) {
  return *KeyId::make(number);
}  // decode() checked the range

/// Where a disk's own log ends: the key, and the least its log must hold.
struct LogEnd {
  KeyId key;
  std::uint64_t bytes_least = 0;
};
LogEnd log_end(const meta::pb::DiskRecord& record) {
  LogEnd end;
  if (record.open_key().key() != 0) {
    end.key = key_of(record.open_key().key());
  } else {
    end.key = key_of(record.last_sealed().key());
    end.bytes_least = record.last_sealed_length().log_bytes();
  }
  const bool released = record.state() == meta::pb::DiskRecord::released;
  if (released && record.log_end().key() == end.key.value()) {
    end.bytes_least = std::max<std::uint64_t>(end.bytes_least, record.log_end().log_offset());
  }
  return end;
}

/// A name as it may be shown: what a client put there unchecked is not.
std::string shown(const std::string& name) {
  return is_valid_disk_name(name) ? name : "(bad name)";
}

std::string log_between(KeyId first, KeyId last) {
  return "the log from key " + first.hex() + " to key " + last.hex();
}

bool is_freed(const Error& error) noexcept {
  return error == Errc::punched || error == Errc::not_found;
}

}  // namespace

Task<Result<GcCatalogue>> read_gc_catalogue(meta::MetaStore& store, std::uint64_t revision) {
  GcCatalogue found;
  std::string prefix(meta::kDiskPrefix);
  VMS_CO_TRY(found.revision, co_await read_records(store, prefix, revision, found.disks));
  prefix = meta::kTrashPrefix;
  VMS_CO_CHECK(co_await read_records(store, prefix, found.revision, found.disks));
  prefix = meta::kSnapPrefix;
  VMS_CO_CHECK(co_await read_records(store, prefix, found.revision, found.snapshots));
  prefix = meta::kTrashSnapPrefix;
  VMS_CO_CHECK(co_await read_records(store, prefix, found.revision, found.snapshots));
  co_return found;
}

/// Pages straight from the key files, each checked against its sum there.
class GcMark::Pages final : public snapshot::PageSource {
 public:
  explicit Pages(GcMark& mark)
      : scheduler_(mark.scheduler_),
        pool_(mark.pool_),
        store_(mark.store_),
        stop_(mark.stop_),
        visited_(mark.pages_visited_),
        at_(mark.at_) {}
  [[nodiscard]] Task<Result<snapshot::PagePtr>> load(Address address) override {
    // What the page cache has is read without a wait: without this the whole mark would be one.
    if (visited_ % kPagesAtOnce == 0) co_await pause();
    if (stop_) co_return Errc::interrupted;
    std::vector<ReadRangeRequest> ranges(1);
    ranges.front().address = address;
    ranges.front().blocks = 1;
    const auto found = co_await store_.read(std::move(ranges));
    if (!found) co_return failed(address, found.error());
    auto page = snapshot::decode_page(found->payload.bytes());
    if (!page) co_return failed(address, page.error());
    co_return snapshot::PagePtr(std::make_shared<snapshot::Page>(*page));
  }

 private:
  Error failed(Address address, const Error& error) {
    at_ =
        "page at block " + std::to_string(address.block().value) + " of key " + address.key().hex();
    return error;
  }
  /// By way of a worker: what a thread posts to itself runs before it looks at its sockets again.
  [[nodiscard]] Task<void> pause() {
    const auto nothing = []() -> Result<void> { return success(); };
    ignore(co_await run_on(pool_, scheduler_, nothing), "it cannot fail");
  }

  Scheduler& scheduler_;
  WorkerPool& pool_;
  BlockStore& store_;
  const bool& stop_;
  const std::uint64_t& visited_;  // of the whole mark
  std::string& at_;
};

GcMark::GcMark(Scheduler& scheduler,
               WorkerPool& pool,
               BlockStore& store,
               meta::MetaStore& meta,
               const std::vector<KeyState>& keys,
               const bool& stop)
    : scheduler_(scheduler),
      pool_(pool),
      store_(store),
      meta_(meta),
      stop_(stop),
      log_(store, stop) {
  for (const KeyState& key : keys) marks_[key.key].live.resize(key.length.blocks.value);
}

Task<Result<void>> GcMark::run(const GcCatalogue& catalogue) {
  for (const auto& snapshot : catalogue.snapshots) {
    const auto marked = co_await mark_snapshot(snapshot);
    if (marked) continue;
    note_problem("snapshot " + shown(snapshot.name()) + " of disk " +
                     meta::from_pb<DiskId>(snapshot.disk()).hex(),
                 marked.error());
    co_return marked;
  }
  for (const auto& disk : catalogue.disks) {
    note_named(disk);
    const auto marked = co_await mark_disk(disk);
    if (marked) continue;
    note_problem("disk " + shown(disk.name()) + ' ' + id_of(disk).hex(), marked.error());
    co_return marked;
  }
  const auto checked = co_await check_skipped();
  if (!checked) note_problem("views made meanwhile", checked.error());
  VMS_CO_CHECK(checked);
  if (bad_address_) note_problem("a page", Errc::corrupt);
  if (bad_address_) co_return Errc::corrupt;
  co_return success();
}

void GcMark::note_problem(const std::string& whose, const Error& error) {
  problem_ = whose + ": " + (at_.empty() ? "" : at_ + ": ") + to_string(error);
  if (!stop_) VMS_LOG(error, "gc", problem_);
}

Task<Result<void>> GcMark::mark_snapshot(const meta::pb::SnapshotRecord& record) {
  VMS_CO_CHECK(co_await mark_parts(record.view()));
  co_return co_await mark_top(Address::from_raw(record.view().top_page()));
}

// ---- one disk ----

Task<Result<void>> GcMark::mark_disk(const meta::pb::DiskRecord& record) {
  VMS_CO_CHECK(co_await mark_parts(record.base()));
  Tail tail;
  if (record.log_from().key() != 0) {
    const auto read = co_await read_tail(record, tail);
    if (!read) co_return read.error();
  }
  co_return co_await mark_own_trees(record, tail);
}

/// The roots of a disk's own log and the base below it, newest first.
///
/// The exception to "every error ends the mark": an owner frees superseded pages by itself
/// (DESIGN 9, private freeing), also while we read. A page that is gone below an *older* root is
/// taken as the owner's word that nothing names that root any more; it is let pass only if the
/// newest root was visited completely, so that all that the disk itself maps is marked, and if no
/// other view names the older root afterwards (check_skipped). A page that is gone below the newest
/// root means that there is a newer one by now: the log is read on.
Task<Result<void>> GcMark::mark_own_trees(const meta::pb::DiskRecord& record, Tail& tail) {
  const Address base = Address::from_raw(record.base().top_page());
  for (int attempt = 0;; ++attempt) {
    const Address newest = tail.roots.empty() ? base : tail.roots.back();
    const auto marked = co_await mark_top(newest);
    if (marked) break;
    if (!is_freed(marked.error()) || attempt >= kTailAttempts) co_return marked;
    if (tail.spans.empty()) co_return marked;
    const std::string page = at_;
    VMS_CO_TRY(const bool found_more, co_await read_tail(record, tail));
    at_ = page;
    if (!found_more) co_return marked;  // the newest root itself is damaged
  }
  std::vector<Address> older(tail.roots.rbegin(), tail.roots.rend());
  older.push_back(base);
  for (const Address top : older) {
    const auto marked = co_await mark_top(top);
    if (marked) continue;
    if (!is_freed(marked.error()) || tail.roots.empty()) co_return marked;
    skipped_.push_back({id_of(record), top, meta::from_pb(record.log_from())});
  }
  co_return success();
}

/// Reads what the log has now that was not read before. True when a newer root was found.
Task<Result<bool>> GcMark::read_tail(const meta::pb::DiskRecord& record, Tail& tail) {
  at_ = "its newest record";
  VMS_CO_TRY(const auto newest, co_await newest_record(record));
  const LogEnd end = log_end(newest);
  at_ = "the log of key " + end.key.hex();
  const auto state = store_.info(end.key);
  if (!state) co_return state.error() == Errc::not_found ? Error(Errc::unknown) : state.error();
  if (state->length.log_bytes < end.bytes_least) {
    VMS_LOG(error, "gc", "the log of key " << end.key.hex() << " is shorter than recorded");
    co_return Errc::unknown;
  }
  const LogPosition from = meta::from_pb(record.log_from());
  at_ = log_between(from.key, end.key);
  VMS_CO_TRY(const auto spans, co_await log_.spans(from, end.key, state->length.log_bytes));
  const std::size_t roots_before = tail.roots.size();
  const GcRecordVisitor visitor = [this, &tail](const wire::RecordHeader& header) -> Result<void> {
    if (header.kind == wire::RecordKind::root) tail.roots.push_back(header.top_page);
    return mark_record(header);
  };
  for (LogSpan span : spans) {
    need_log(span.key);
    for (const LogSpan& before : tail.spans) {
      if (before.key == span.key) span.from = std::max(span.from, before.to);
    }
    VMS_CO_CHECK(co_await log_.visit(span, visitor));
  }
  tail.spans = spans;
  co_return tail.roots.size() > roots_before;
}

/// The disk's record as it is now, or the one at hand if that is newer than what the store answers
/// or the disk is gone. It only tells how far the log goes.
Task<Result<meta::pb::DiskRecord>> GcMark::newest_record(const meta::pb::DiskRecord& record) {
  const DiskId id = id_of(record);
  std::vector<std::string> places;
  places.push_back(meta::disk_key(id));
  places.push_back(meta::trash_key(id));
  for (const std::string& place : places) {
    VMS_CO_TRY(const auto found, co_await meta_.get(place));
    if (!found.entry) continue;
    VMS_CO_TRY(auto now, meta::decode<meta::pb::DiskRecord>(found.entry->value));
    const bool has_log = now.open_key().key() != 0 || now.last_sealed().key() != 0;
    if (now.epoch() >= record.epoch() && has_log && log_end(now).key >= log_end(record).key) {
      co_return now;
    }
  }
  co_return record;
}

Task<Result<void>> GcMark::mark_parts(const meta::pb::View& view) {
  for (const auto& part : view.parts()) {
    const LogPosition from = meta::from_pb(part.from());
    const LogPosition to = meta::from_pb(part.to());
    if (from.key.is_none() || to.key.is_none()) {
      if (from.key == to.key) continue;  // nothing was ever appended: an empty part
      co_return Errc::corrupt;
    }
    at_ = log_between(from.key, to.key);
    VMS_CO_TRY(const auto spans, co_await log_.spans(from, to.key, to.log_offset));
    const GcRecordVisitor visitor = [this](const wire::RecordHeader& header) {
      return mark_record(header);
    };
    for (const LogSpan& span : spans) {
      need_log(span.key);
      VMS_CO_CHECK(co_await log_.visit(span, visitor));
    }
  }
  co_return success();
}

Task<Result<void>> GcMark::mark_top(Address top) {
  if (top.is_unmapped()) co_return success();
  Pages pages(*this);
  snapshot::MarkVisitor visitor;
  visitor.on_page = [this](Address page, unsigned /*level*/) {
    ++pages_visited_;
    mark_block(page);
  };
  visitor.on_block = [this](Address block) { mark_block(block); };
  co_return co_await snapshot::mark_tree(pages, top, seen_, visitor);
}

/// A skipped root must not be named by any view that was made since the catalogue was read. Its own
/// disk's record may still name it as long as it names the same part of the log, in which the newer
/// root was found.
Task<Result<void>> GcMark::check_skipped() {
  if (skipped_.empty()) co_return success();
  VMS_CO_TRY(const auto now, co_await read_gc_catalogue(meta_, 0));
  for (const Skipped& skipped : skipped_) {
    const bool by_snapshot =
        std::any_of(now.snapshots.begin(), now.snapshots.end(), [&](const auto& snapshot) {
          return snapshot.view().top_page() == skipped.top.raw();
        });
    const bool by_disk = std::any_of(now.disks.begin(), now.disks.end(), [&](const auto& disk) {
      const bool superseded =
          id_of(disk) == skipped.disk && meta::from_pb(disk.log_from()) == skipped.log_from;
      return disk.base().top_page() == skipped.top.raw() && !superseded;
    });
    if (!by_snapshot && !by_disk) continue;
    at_ = "a page is gone below the root at block " + std::to_string(skipped.top.block().value) +
          " of key " + skipped.top.key().hex();
    co_return Errc::unknown;
  }
  co_return success();
}

// ---- marks ----

Result<void> GcMark::mark_record(const wire::RecordHeader& header) {
  if (header.block_count() > 0) {
    const auto first = Address::make(header.key, header.data_offset);
    if (!first) return Errc::corrupt;
    VMS_CHECK(mark_run(*first, header.block_count()));
  }
  for (const wire::Run& run : header.runs) {
    if (run.kind == wire::RunKind::at_address) VMS_CHECK(mark_run(run.address, run.count));
  }
  return success();
}

Result<void> GcMark::mark_run(Address first, std::uint64_t blocks) {
  if (first.slot() != 0) return Errc::unsupported;
  if (!first.key().is_usable()) return Errc::corrupt;
  if (blocks > BlockIndex::kEnd - first.block().value) return Errc::corrupt;
  KeyMarks* const marks = find_marks(first.key());
  if (marks == nullptr) return success();  // younger than this round
  // A run may claim more than its key has; only what is there is walked.
  const std::uint64_t size = marks->live.size();
  const std::uint64_t end = std::min(size, first.block().value + blocks);
  for (std::uint64_t i = first.block().value; i < end; ++i) mark_in(*marks, i);
  return success();
}

void GcMark::mark_block(Address block) {
  // Checked by whoever decoded the address; a page could still name a reserved key.
  if (block.slot() != 0 || !block.key().is_usable()) bad_address_ = true;
  KeyMarks* const marks = find_marks(block.key());
  if (marks == nullptr || block.block().value >= marks->live.size()) return;
  mark_in(*marks, block.block().value);
}

KeyMarks* GcMark::find_marks(KeyId key) {
  if (key == last_found_ && last_marks_ != nullptr) return last_marks_;
  const auto found = marks_.find(key);
  if (found == marks_.end()) return nullptr;
  last_found_ = key;
  last_marks_ = &found->second;
  return last_marks_;
}

void GcMark::mark_in(KeyMarks& key, std::uint64_t block) {
  if (key.live[block]) return;
  key.live[block] = true;
  ++key.live_count;
  ++blocks_live_;
}

void GcMark::need_log(KeyId key) {
  const auto found = marks_.find(key);
  if (found != marks_.end()) found->second.log_needed = true;
}

void GcMark::note_named(const meta::pb::DiskRecord& record) {
  for (const std::uint64_t number : {record.open_key().key(),
                                     record.last_sealed().key(),
                                     record.log_from().key(),
                                     record.log_end().key()}) {
    const auto found = marks_.find(key_of(number));
    if (found != marks_.end()) found->second.named = true;
  }
}

}  // namespace vmstore::storaged
