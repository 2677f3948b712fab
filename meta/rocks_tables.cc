// SPDX-License-Identifier: Apache-2.0
#include "meta/rocks_tables.h"

#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/snapshot.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <map>
#include <optional>
#include <utility>

#include "base/fault.h"
#include "base/log.h"
#include "base/posix_files.h"
#include "meta/request_check.h"
#include "meta/rocks_folder.h"
#include "meta/rocks_keys.h"
#include "meta/schema.h"

namespace vmstore::meta {
namespace {

constexpr std::size_t kBlockCacheBytes = std::size_t{8} << 20;
constexpr std::size_t kWriteBufferBytes = std::size_t{4} << 20;
constexpr int kOpenFilesMax = 64;

/// The Result for a status; logged here, where it is born.
Result<void> check(const rocksdb::Status& status, std::string_view doing) {
  if (status.ok()) return success();
  VMS_LOG(error, "meta", doing << ": " << status.ToString());
  if (status.IsNoSpace()) return Errc::no_space;
  if (status.IsCorruption()) return Errc::corrupt;
  if (status.IsIOError()) return Errc::io_error;
  return Errc::unknown;
}

/// RocksDB's own log file must not be: Debian's library is built with assertions, and its file
/// logger ends the process when it logs again after a write that failed, as on a full device.
class Logger final : public rocksdb::Logger {
 public:
  Logger() : rocksdb::Logger(rocksdb::WARN_LEVEL) {}
  using rocksdb::Logger::Logv;
  [[gnu::format(printf, 2, 0)]] void Logv(const char* format, va_list arguments) override {
    std::array<char, 512> text{};
    if (std::vsnprintf(text.data(), text.size(), format, arguments) < 0) return;
    const std::string_view line(text.data());
    VMS_LOG(warning, "rocksdb", line.substr(0, line.find('\n')));
  }
};

rocksdb::Options db_options(bool create) {
  rocksdb::Options options;
  options.create_if_missing = create;
  options.error_if_exists = create;
  options.paranoid_checks = true;
  // A torn end is what a crash leaves; anything else that is unreadable must not become a shorter
  // catalogue, as it would with the default mode.
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  options.compression = rocksdb::kNoCompression;
  options.write_buffer_size = kWriteBufferBytes;
  options.max_open_files = kOpenFilesMax;
  options.max_background_jobs = 2;
  // It would take 4 MiB ahead for the log and as much for the manifest: on a full file system all
  // the room that is left for changes.
  options.allow_fallocate = false;
  options.info_log = std::make_shared<Logger>();
  // Nobody reads its statistics: no thread of their own, nor their rows, for a small table.
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(kBlockCacheBytes);
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

Result<std::unique_ptr<rocksdb::DB>> open_db(const std::string& folder, bool create) {
  rocksdb::DB* db = nullptr;
  VMS_CHECK(check(rocksdb::DB::Open(db_options(create), folder, &db), "opening " + folder));
  return std::unique_ptr<rocksdb::DB>(db);
}

Result<std::uint64_t> read_number(rocksdb::DB& db,
                                  const rocksdb::ReadOptions& options,
                                  std::string_view name) {
  std::string value;
  const rocksdb::Status status = db.Get(options, rocksdb::Slice(name), &value);
  if (status.IsNotFound()) {
    VMS_LOG(error, "meta", "the catalogue has no " << name);
    return Errc::unknown;
  }
  VMS_CHECK(check(status, "reading a number"));
  return rocks::decode_number(value);
}

/// Adds rows for the changes; any two of one key are of different revisions.
rocksdb::Status stage(rocksdb::WriteBatch& batch, const Changes& changes) {
  for (const Event& change : changes) {
    const Entry& entry = change.entry;
    const std::string value =
        change.removed ? rocks::removed_value() : rocks::put_value(entry.value);
    const rocksdb::Status put = batch.Put(rocks::version_row(entry.key, entry.mod_revision), value);
    if (!put.ok()) return put;
    const rocksdb::Status log = batch.Put(rocks::change_row(entry.mod_revision, entry.key), "");
    if (!log.ok()) return log;
  }
  return rocksdb::Status::OK();
}

Result<void> stage_numbers(rocksdb::WriteBatch& batch,
                           std::optional<std::uint64_t> revision,
                           std::optional<std::uint64_t> compacted) {
  if (revision) {
    const auto value = rocks::encode_number(*revision);
    VMS_CHECK(check(batch.Put(std::string(rocks::kRevisionRow), value), "staging"));
  }
  if (compacted) {
    const auto value = rocks::encode_number(*compacted);
    VMS_CHECK(check(batch.Put(std::string(rocks::kCompactedRow), value), "staging"));
  }
  return success();
}

/// Deletes what the change of `key` at revision `at` superseded, and that change if it is a
/// removal. What was before went when that was compacted.
Result<void> stage_superseded(rocksdb::WriteBatch& batch,
                              rocksdb::Iterator& rows,
                              std::string_view key,
                              std::uint64_t at) {
  rows.Seek(rocks::version_row(key, at));
  if (rows.Valid()) {
    VMS_TRY(const auto row, rocks::parse_version_row(rows.key().ToStringView()));
    VMS_TRY(const auto value, rocks::parse_value(rows.value().ToStringView()));
    if (row.revision == at) {
      if (!value) VMS_CHECK(check(batch.Delete(rows.key()), "staging"));
      rows.Next();
    }
  }
  if (rows.Valid()) VMS_CHECK(check(batch.Delete(rows.key()), "staging"));
  return check(rows.status(), "reading versions");
}

}  // namespace

struct RocksTables::Parts {
  std::unique_ptr<RocksFolder> folder;  // its lock is given back after the database is closed
  std::unique_ptr<rocksdb::DB> db;
  std::atomic<bool> failed{false};

  Result<void> write(rocksdb::WriteBatch& batch, bool sync) {
    rocksdb::WriteOptions options;
    options.sync = sync;
    VMS_FAULT("meta.rocks.before_write");
    const auto outcome = check(db->Write(options, &batch), "writing");
    VMS_FAULT("meta.rocks.after_write");
    if (outcome) return success();
    failed = true;
    return Errc::unknown;
  }
};

/// What the transactions before in the same call have changed.
struct RocksTables::Pending {
  std::uint64_t revision_before = 0;
  std::map<std::string, std::optional<Entry>> entries;
};

/// One consistent look at the tables.
class RocksTables::Reader {
 public:
  explicit Reader(rocksdb::DB& db) : db_(db), snapshot_(&db) {
    options_.snapshot = snapshot_.snapshot();
  }

  Result<std::uint64_t> revision() { return read_number(db_, options_, rocks::kRevisionRow); }
  Result<std::uint64_t> compacted() { return read_number(db_, options_, rocks::kCompactedRow); }

  /// The key's entry as of `revision`.
  Result<std::optional<Entry>> entry(const std::string& key, std::uint64_t revision) {
    auto rows = iterate(rocks::end_of_versions(key));
    rows->Seek(rocks::version_row(key, revision));
    return entry_at(*rows, key);
  }

  /// The value that a change made; empty for a removal.
  Result<std::optional<std::string>> version(const rocks::Row& row) {
    std::string value;
    const std::string name = rocks::version_row(row.key, row.revision);
    VMS_CHECK(check(db_.Get(options_, name, &value), "reading a change"));
    return rocks::parse_value(value);
  }

  /// Rows below `upper_bound`; one such iterator at a time.
  std::unique_ptr<rocksdb::Iterator> iterate(std::string upper_bound) {
    upper_bound_ = std::move(upper_bound);
    upper_slice_ = rocksdb::Slice(upper_bound_);
    options_.iterate_upper_bound = &upper_slice_;
    return std::unique_ptr<rocksdb::Iterator>(db_.NewIterator(options_));
  }

  /// What the row under the iterator says of `key`; empty if the row is behind its versions.
  static Result<std::optional<Entry>> entry_at(const rocksdb::Iterator& rows,
                                               std::string_view key) {
    std::optional<Entry> none;
    if (!rows.Valid()) {
      VMS_CHECK(check(rows.status(), "reading the catalogue"));
      return none;
    }
    VMS_TRY(const auto row, rocks::parse_version_row(rows.key().ToStringView()));
    if (row.key != key) return none;
    VMS_TRY(auto value, rocks::parse_value(rows.value().ToStringView()));
    if (!value) return none;
    return std::optional<Entry>(Entry{std::string(key), std::move(*value), row.revision});
  }

 private:
  rocksdb::DB& db_;
  rocksdb::ManagedSnapshot snapshot_;
  rocksdb::ReadOptions options_;
  std::string upper_bound_;
  rocksdb::Slice upper_slice_;
};

RocksTables::RocksTables(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

RocksTables::~RocksTables() {
  if (parts_->db != nullptr) ignore(close(), "every change was synced when it was made");
}

Result<void> RocksTables::close() {
  const rocksdb::Status status = parts_->db->Close();
  parts_->db = nullptr;
  parts_->folder = nullptr;
  return check(status, "closing the catalogue");
}

Result<std::unique_ptr<RocksTables>> RocksTables::open(const std::string& folder) {
  auto parts = std::make_unique<Parts>();
  VMS_TRY(parts->folder, RocksFolder::open(folder));
  VMS_TRY(parts->db, open_db(parts->folder->db_path(), false));
  auto tables = std::unique_ptr<RocksTables>(new RocksTables(std::move(parts)));
  Reader reader(*tables->parts_->db);
  VMS_TRY(tables->opened_revision_, reader.revision());
  VMS_CHECK(reader.compacted());
  return tables;
}

Result<std::unique_ptr<RocksTables>> RocksTables::create(const std::string& folder,
                                                         const Changes& content,
                                                         std::uint64_t revision) {
  auto parts = std::make_unique<Parts>();
  VMS_TRY(parts->folder, RocksFolder::begin(folder));
  const std::string path = parts->folder->db_path();
  if (parts->folder->has_db()) {
    VMS_CHECK(check(rocksdb::DestroyDB(path, db_options(true)), "clearing " + path));
  }
  VMS_CHECK(parts->folder->make_db_folder());
  VMS_TRY(parts->db, open_db(path, true));
  RocksFolder& marker = *parts->folder;
  auto tables = std::unique_ptr<RocksTables>(new RocksTables(std::move(parts)));
  // One batch would do for any catalogue, but not for the memory of the machine.
  constexpr std::size_t kChangesOfBatch = 1000;
  for (std::size_t done = 0; done < content.size(); done += kChangesOfBatch) {
    const std::size_t end = std::min(content.size(), done + kChangesOfBatch);
    const auto first = content.begin() + static_cast<std::ptrdiff_t>(done);
    const Changes part(first, content.begin() + static_cast<std::ptrdiff_t>(end));
    rocksdb::WriteBatch batch;
    VMS_CHECK(check(stage(batch, part), "staging"));
    VMS_CHECK(tables->parts_->write(batch, true));
  }
  rocksdb::WriteBatch last;
  VMS_CHECK(stage_numbers(last, revision, content.empty() ? 0 : revision));
  VMS_CHECK(tables->parts_->write(last, true));
  VMS_FAULT("meta.rocks.before_ready");
  VMS_CHECK(marker.finish());
  tables->opened_revision_ = revision;
  return tables;
}

bool RocksTables::is_failed() const noexcept {
  return parts_->failed;
}

Result<std::uint64_t> RocksTables::revision() {
  if (parts_->failed) return Errc::unavailable;
  return Reader(*parts_->db).revision();
}

Result<GetAnswer> RocksTables::get(const std::string& key) {
  if (parts_->failed) return Errc::unavailable;
  Reader reader(*parts_->db);
  GetAnswer answer;
  VMS_TRY(answer.revision, reader.revision());
  VMS_TRY(answer.entry, reader.entry(key, answer.revision));
  return answer;
}

Result<RangeAnswer> RocksTables::range(const RangeRequest& request) {
  if (parts_->failed) return Errc::unavailable;
  Reader reader(*parts_->db);
  VMS_TRY(const std::uint64_t revision, reader.revision());
  VMS_TRY(const std::uint64_t compacted, reader.compacted());
  RangeAnswer answer;
  answer.revision = request.revision == 0 ? revision : request.revision;
  if (answer.revision > revision) return Errc::unknown;
  if (answer.revision < compacted) return Errc::compacted;
  RangeBudget budget(request);
  const auto rows = reader.iterate(rocks::end_of_prefix(request.prefix));
  const bool go_on = request.after >= request.prefix && !request.after.empty();
  rows->Seek(go_on ? rocks::end_of_versions(request.after) : rocks::first_row(request.prefix));
  while (rows->Valid()) {
    VMS_TRY(const auto row, rocks::parse_version_row(rows->key().ToStringView()));
    const std::string key(row.key);
    rows->Seek(rocks::version_row(key, answer.revision));
    VMS_TRY(auto entry, Reader::entry_at(*rows, key));
    answer.more = entry && !budget.take(*entry);
    if (answer.more) break;
    if (entry) answer.entries.push_back(std::move(*entry));
    rows->Seek(rocks::end_of_versions(key));
  }
  VMS_CHECK(check(rows->status(), "reading a range"));
  return answer;
}

Result<bool> RocksTables::holds_all(Reader& reader, const Txn& txn, const Pending& pending) {
  for (const Compare& compare : txn.compares) {
    const auto found = pending.entries.find(compare.key);
    if (found != pending.entries.end()) {
      if (!holds(compare, found->second)) return false;
      continue;
    }
    VMS_TRY(const auto entry, reader.entry(compare.key, pending.revision_before));
    if (!holds(compare, entry)) return false;
  }
  return true;
}

Result<std::vector<RocksTables::Applied>> RocksTables::apply(std::span<const Txn> txns) {
  if (parts_->failed) return Errc::unavailable;
  Reader reader(*parts_->db);
  VMS_TRY(std::uint64_t revision, reader.revision());
  Pending pending;
  pending.revision_before = revision;
  std::vector<Applied> all;
  rocksdb::WriteBatch batch;
  for (const Txn& txn : txns) {
    Applied applied;
    VMS_TRY(applied.answer.held, holds_all(reader, txn, pending));
    const std::vector<Op>& ops = applied.answer.held ? txn.then_ops : txn.else_ops;
    if (!ops.empty()) ++revision;
    for (const Op& op : ops) {
      applied.changes.push_back({{op.key, op.put.value_or(""), revision}, !op.put.has_value()});
      auto& entry = pending.entries[op.key];
      entry.reset();
      if (op.put) entry = applied.changes.back().entry;
    }
    applied.answer.revision = revision;
    VMS_CHECK(check(stage(batch, applied.changes), "staging"));
    all.push_back(std::move(applied));
  }
  if (revision == pending.revision_before) return all;
  VMS_CHECK(stage_numbers(batch, revision, std::nullopt));
  VMS_CHECK(parts_->write(batch, true));
  return all;
}

Result<RocksTables::History> RocksTables::history(std::uint64_t from, std::size_t changes_max) {
  if (parts_->failed) return Errc::unavailable;
  Reader reader(*parts_->db);
  History history;
  VMS_TRY(history.revision, reader.revision());
  VMS_TRY(const std::uint64_t compacted, reader.compacted());
  if (from > history.revision + 1) return Errc::unknown;
  if (from <= compacted) return Errc::compacted;
  const auto rows = reader.iterate(rocks::end_of_changes(history.revision));
  for (rows->Seek(rocks::change_row(from, "")); rows->Valid(); rows->Next()) {
    VMS_TRY(const auto row, rocks::parse_change_row(rows->key().ToStringView()));
    const bool new_revision =
        history.changes.empty() || history.changes.back().entry.mod_revision != row.revision;
    if (new_revision && history.changes.size() >= changes_max) {
      history.through = history.changes.back().entry.mod_revision;
      break;
    }
    Event change;
    change.entry.key = std::string(row.key);
    change.entry.mod_revision = row.revision;
    VMS_TRY(auto parsed, reader.version(row));
    change.removed = !parsed.has_value();
    if (parsed) change.entry.value = std::move(*parsed);
    history.changes.push_back(std::move(change));
  }
  VMS_CHECK(check(rows->status(), "reading changes"));
  if (history.through == 0) history.through = history.revision;
  return history;
}

Result<bool> RocksTables::compact(std::uint64_t to, std::size_t changes_max) {
  if (parts_->failed) return Errc::unavailable;
  Reader reader(*parts_->db);
  VMS_TRY(const std::uint64_t revision, reader.revision());
  VMS_TRY(const std::uint64_t before, reader.compacted());
  const std::uint64_t compacted = std::max(before, std::min(to, revision));
  rocksdb::WriteBatch batch;
  VMS_CHECK(stage_numbers(batch, std::nullopt, compacted));
  std::vector<std::pair<std::string, std::uint64_t>> old;
  bool more = false;
  {
    const auto rows = reader.iterate(rocks::end_of_changes(compacted));
    for (rows->Seek(rocks::change_row(0, "")); rows->Valid() && !more; rows->Next()) {
      VMS_TRY(const auto row, rocks::parse_change_row(rows->key().ToStringView()));
      old.emplace_back(row.key, row.revision);
      more = old.size() == changes_max;
    }
    VMS_CHECK(check(rows->status(), "reading changes"));
  }
  if (old.empty() && compacted == before) return false;
  for (const auto& [key, at] : old) {
    VMS_CHECK(check(batch.Delete(rocks::change_row(at, key)), "staging"));
    const auto rows = reader.iterate(rocks::end_of_versions(key));
    VMS_CHECK(stage_superseded(batch, *rows, key, at));
  }
  VMS_CHECK(parts_->write(batch, false));
  return more;
}

Result<void> RocksTables::restore(const Changes& changes, std::uint64_t revision) {
  if (parts_->failed) return Errc::unavailable;
  Reader reader(*parts_->db);
  VMS_TRY(const std::uint64_t before, reader.revision());
  std::uint64_t last = before + 1;
  for (const Event& change : changes) {
    const std::uint64_t at = change.entry.mod_revision;
    if (at < last || at > revision) return Errc::invalid_argument;
    last = at;
  }
  if (revision < before) return Errc::invalid_argument;
  rocksdb::WriteBatch batch;
  VMS_CHECK(check(stage(batch, changes), "staging"));
  VMS_CHECK(stage_numbers(batch, revision, revision));
  return parts_->write(batch, true);
}

}  // namespace vmstore::meta
