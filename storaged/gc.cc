// SPDX-License-Identifier: Apache-2.0
#include "storaged/gc.h"

#include <algorithm>
#include <string>
#include <unordered_map>
#include <utility>

#include "base/checksum.h"
#include "base/fault.h"
#include "base/log.h"
#include "meta/records.h"
#include "meta/schema.h"
#include "storaged/metrics.h"

namespace vmstore::storaged {
namespace {

constexpr std::string_view kMagic = "VMSTOREG";
constexpr std::string_view kHoldText = "restored from a backup; `vmstore gc` by hand ends this\n";
constexpr std::size_t kStateBytes = 48;
constexpr std::size_t kStateBytesMax = 4096;
constexpr std::size_t kChecksumBytes = 8;
constexpr std::size_t kVersionEnd = 12;
constexpr std::uint64_t kFailuresSaid = 16;  // one by one in the log, of each round
constexpr std::size_t kRunsAtOnce = 256;     // of one punch: bounds its journal record

/// Epochs of the disks that exist, in the trash or not, at the round's revision.
using Epochs = std::unordered_map<DiskId, Epoch>;

Epochs epochs_of(const GcCatalogue& catalogue) {
  Epochs epochs;
  for (const auto& disk : catalogue.disks) {
    epochs[meta::from_pb<DiskId>(disk.id())] = Epoch(disk.epoch());
  }
  return epochs;
}

template <class Fate>
Fate decide(const KeyState& key, const KeyMarks& marks, const Epochs& epochs) {
  const auto disk = epochs.find(key.disk);
  const bool disk_gone = disk == epochs.end();
  const bool needed = marks.live_count > 0 || marks.log_needed || marks.named;
  if (key.damaged && !disk_gone) return Fate::keep;  // for whoever repairs it
  if (!needed) {
    // C4: a transaction of an older epoch that would name it cannot succeed any more.
    const bool never_named = disk_gone || key.token < disk->second;
    return key.sealed || never_named ? Fate::remove : Fate::keep;
  }
  if (key.sealed) return key.damaged ? Fate::keep : Fate::punch;
  // Nobody owns it any more but clones use it: sealed now, the next round can punch it.
  return disk_gone && !key.damaged ? Fate::seal : Fate::keep;
}

/// The runs of `present` that are not live.
std::vector<BlockRun> unreached(const std::vector<BlockRun>& present, const KeyMarks& marks) {
  std::vector<BlockRun> runs;
  for (const BlockRun& run : present) {
    for (std::uint64_t i = 0; i < run.blocks; ++i) {
      const std::uint64_t block = run.first.value + i;
      // Beyond what was there when the round began: younger, not ours to judge.
      if (block >= marks.live.size() || marks.live[block]) continue;
      const bool follows = !runs.empty() && runs.back().first.value + runs.back().blocks == block;
      if (follows) {
        ++runs.back().blocks;
      } else {
        runs.push_back({BlockIndex{block}, 1});
      }
    }
  }
  return runs;
}

Result<bool> has_hold(Files& files) {
  VMS_TRY(const auto names, files.list(""));
  return std::binary_search(names.begin(), names.end(), kGcHoldFile);
}

std::uint64_t count_blocks(const std::vector<BlockRun>& runs) {
  std::uint64_t blocks = 0;
  for (const BlockRun& run : runs) blocks += run.blocks;
  return blocks;
}

}  // namespace

std::vector<std::byte> encode_gc_state(const GcState& state) {
  ByteWriter out;
  out.put_bytes(as_byte_span(kMagic)).put(kGcFormat).put(std::uint32_t{0});
  out.put(state.round).put(state.revision).put(state.live_bytes);
  out.put(xxh3(out.bytes()));
  VMS_ASSERT(out.size() == kStateBytes);
  return out.take();
}

Result<GcState> decode_gc_state(ByteSpan bytes) {
  if (bytes.size() < kVersionEnd || as_text(bytes.first(kMagic.size())) != kMagic) {
    return Errc::corrupt;
  }
  ByteReader in(bytes);
  in.skip(kMagic.size());
  const auto format = in.get<std::uint32_t>();
  if (format > kGcFormat) return Errc::newer_format;
  if (format == 0 || bytes.size() != kStateBytes) return Errc::corrupt;
  const auto reserved = in.get<std::uint32_t>();
  GcState state;
  state.round = in.get<std::uint64_t>();
  state.revision = in.get<std::uint64_t>();
  state.live_bytes = in.get<std::uint64_t>();
  const auto checksum = in.get<std::uint64_t>();
  if (reserved != 0 || checksum != xxh3(bytes.first(kStateBytes - kChecksumBytes))) {
    return Errc::corrupt;
  }
  return state;
}

Result<void> hold_gc(Files& files) {
  return replace_file(files, kGcHoldFile, as_byte_span(kHoldText));
}

/// What becomes of a key.
enum class Gc::Fate : std::uint8_t { keep, remove, punch, seal };

// ---- the round ----

Task<Result<GcReport>> Gc::run(bool dry_run) {
  if (stop_) co_return Errc::interrupted;
  if (running_) co_return Errc::busy;
  running_ = true;
  const TimePoint began = parts_.scheduler.now();
  problem_.clear();
  auto report = co_await run_round(dry_run);
  running_ = false;
  last_took_ = parts_.scheduler.now() - began;
  if (!report) {
    ++failures_;
    if (problem_.empty()) problem_ = to_string(report.error());
    VMS_LOG(warning, "gc", "the round ended early: " << problem_);
    co_return report;
  }
  if (dry_run) co_return report;
  ++rounds_;
  last_ = *report;
  total_.keys_deleted += report->keys_deleted;
  total_.keys_failed += report->keys_failed;
  total_.blocks_punched += report->blocks_punched;
  total_.bytes_freed += report->bytes_freed;
  VMS_LOG(info,
          "gc",
          "round " << report->round << ": " << report->blocks_live << " blocks live, "
                   << report->blocks_punched << " punched, " << report->keys_deleted
                   << " keys deleted");
  co_return report;
}

Task<Result<GcReport>> Gc::run_round(bool dry_run) {
  const std::vector<KeyState> keys = parts_.store.list();  // before the revision, see gc.h
  GcState state;
  if (!dry_run) {
    VMS_CO_TRY(state, co_await begin_round());
  }
  VMS_CO_TRY(const GcCatalogue catalogue, co_await read_gc_catalogue(parts_.meta, state.revision));
  if (!dry_run && catalogue.revision != state.revision) co_return Errc::unknown;
  GcMark mark(parts_.scheduler, parts_.pool, parts_.store, parts_.meta, keys, stop_);
  const auto marked = co_await mark.run(catalogue);
  problem_ = mark.problem();
  VMS_CO_CHECK(marked);
  VMS_FAULT("gc.marked");
  GcReport report;
  report.round = state.round;
  report.blocks_live = mark.blocks_live();
  report.pages_visited = mark.pages_visited();
  VMS_CO_CHECK(co_await sweep(keys, catalogue, mark, dry_run, report));
  if (!dry_run) ignore(co_await end_round(state.round), "only says when it ended");
  co_return report;
}

/// Begins a round in the catalogue and in the folder. The revision of the transaction is a fact:
/// whatever was acknowledged before it is at or below it, also where plain reads may be stale.
Task<Result<GcState>> Gc::begin_round() {
  GcState state;
  auto known = co_await load_state();
  if (known) {
    state = *known;
  } else if (known.error() != Error(Errc::not_found)) {
    VMS_LOG(error, "gc", "file 'gc': " << to_string(known.error()));
    co_return known.error();
  }
  const std::string key(meta::kGcKey);
  VMS_CO_TRY(const auto found, co_await parts_.meta.get(key));
  meta::pb::GcRecord record;
  meta::Txn txn;
  txn.compares.push_back(meta::Compare{key, false});
  if (found.entry) {
    VMS_CO_TRY(record, meta::decode<meta::pb::GcRecord>(found.entry->value));
    txn.compares.front().what = found.entry->mod_revision;
  }
  // Never below what this node saw: a round's number is a token [C7].
  record.set_round(std::max<std::uint64_t>(record.round(), state.round) + 1);
  const auto now = parts_.scheduler.wall_now().time_since_epoch().count();
  record.set_started_ns(static_cast<std::uint64_t>(now));
  record.set_finished_ns(0);
  txn.then_ops.push_back(meta::Op{key, meta::encode(record)});
  VMS_CO_TRY(const auto begun, co_await parts_.meta.txn(std::move(txn)));
  if (!begun.held) co_return Errc::conflict;
  if (begun.revision <= state.revision) {
    VMS_LOG(error,
            "gc",
            "the catalogue is at revision " << begun.revision << ", the last round saw "
                                            << state.revision
                                            << ": it went back; nothing is freed");
    co_return Errc::corrupt;
  }
  state.round = record.round();
  state.revision = begun.revision;
  VMS_CO_CHECK(co_await save_state(state));
  co_return state;
}

Task<Result<void>> Gc::end_round(std::uint64_t round) {
  const std::string key(meta::kGcKey);
  VMS_CO_TRY(const auto found, co_await parts_.meta.get(key));
  if (!found.entry) co_return Errc::not_found;
  VMS_CO_TRY(auto record, meta::decode<meta::pb::GcRecord>(found.entry->value));
  if (record.round() != round) co_return Errc::conflict;
  const auto now = parts_.scheduler.wall_now().time_since_epoch().count();
  record.set_finished_ns(static_cast<std::uint64_t>(now));
  meta::Txn txn;
  txn.compares.push_back(meta::Compare{key, found.entry->mod_revision});
  txn.then_ops.push_back(meta::Op{key, meta::encode(record)});
  const auto ended = co_await parts_.meta.txn(std::move(txn));
  if (!ended) co_return ended.error();
  co_return success();
}

// ---- freeing ----

Task<Result<void>> Gc::sweep(const std::vector<KeyState>& keys,
                             const GcCatalogue& catalogue,
                             const GcMark& mark,
                             bool dry_run,
                             GcReport& report) {
  const Epochs epochs = epochs_of(catalogue);
  for (const KeyState& key : keys) {
    if (stop_) co_return Errc::interrupted;
    const KeyMarks& marks = mark.of(key.key);
    const Fate fate = decide<Fate>(key, marks, epochs);
    if (fate == Fate::keep) continue;
    const auto freed = co_await free_key(key, fate, marks, dry_run, report);
    if (freed) continue;
    if (stop_) co_return freed;
    if (++report.keys_failed > kFailuresSaid) continue;
    VMS_LOG(
        warning, "gc", "key " << key.key.hex() << " cannot be freed: " << to_string(freed.error()));
  }
  if (report.keys_failed > 0) {
    VMS_LOG(warning, "gc", report.keys_failed << " keys are left to the next round");
  }
  co_return success();
}

Task<Result<void>> Gc::free_key(
    KeyState key, Fate fate, const KeyMarks& marks, bool dry_run, GcReport& report) {
  if (fate == Fate::remove) co_return co_await delete_key(key, dry_run, report);
  if (fate == Fate::punch) co_return co_await punch_unreached(key, marks, dry_run, report);
  if (dry_run) co_return success();
  // Grown since it was listed (an owner that does not know yet): the next round tries again.
  ignore(co_await parts_.store.seal(key.key, key.token, key.length), "tried every round");
  co_return success();
}

Task<Result<void>> Gc::delete_key(KeyState key, bool dry_run, GcReport& report) {
  // A damaged key may not be able to tell what it has; it is deleted all the same.
  std::uint64_t blocks = 0;
  const auto present = co_await parts_.store.present_blocks(key.key);
  if (present) blocks = count_blocks(*present);
  if (!dry_run) {
    VMS_FAULT("gc.before_remove");
    const auto removed = co_await parts_.store.remove(key.key);
    if (!removed && removed.error() != Error(Errc::not_found)) co_return removed;
    VMS_FAULT("gc.removed");
  }
  ++report.keys_deleted;
  report.bytes_freed += blocks * kBlockBytes;
  co_return success();
}

Task<Result<void>> Gc::punch_unreached(KeyState key,
                                       const KeyMarks& marks,
                                       bool dry_run,
                                       GcReport& report) {
  VMS_CO_TRY(const auto present, co_await parts_.store.present_blocks(key.key));
  const std::vector<BlockRun> runs = unreached(present, marks);
  for (std::size_t i = 0; i < runs.size(); i += kRunsAtOnce) {
    if (stop_) co_return Errc::interrupted;
    const auto begin = runs.begin() + static_cast<std::ptrdiff_t>(i);
    const std::size_t count = std::min(kRunsAtOnce, runs.size() - i);
    std::vector<BlockRun> some(begin, begin + static_cast<std::ptrdiff_t>(count));
    std::uint64_t punched = count_blocks(some);
    if (!dry_run) {
      VMS_FAULT("gc.before_punch");
      VMS_CO_TRY(punched, co_await parts_.store.punch(key.key, std::move(some)));
      VMS_FAULT("gc.punched");
    }
    report.blocks_punched += punched;
    report.bytes_freed += punched * kBlockBytes;
  }
  co_return success();
}

// ---- what is remembered and shown ----

Task<Result<GcState>> Gc::load_state() {
  const auto load = [this]() -> Result<GcState> {
    VMS_TRY(const auto bytes, read_file(parts_.files, kGcFile, kStateBytesMax));
    return decode_gc_state(bytes);
  };
  co_return co_await run_on(parts_.pool, parts_.scheduler, load);
}

Task<Result<void>> Gc::save_state(GcState state) {
  const std::vector<std::byte> bytes = encode_gc_state(state);
  const auto save = [this, &bytes] { return replace_file(parts_.files, kGcFile, bytes); };
  co_return co_await run_on(parts_.pool, parts_.scheduler, save);
}

Task<Result<bool>> Gc::is_held() {
  const auto look = [this] { return has_hold(parts_.files); };
  co_return co_await run_on(parts_.pool, parts_.scheduler, look);
}

Task<Result<void>> Gc::lift_hold() {
  const auto lift = [this]() -> Result<void> {
    VMS_TRY(const bool held, has_hold(parts_.files));
    if (!held) return success();
    VMS_CHECK(parts_.files.remove(kGcHoldFile));
    return parts_.files.sync_folder("");
  };
  co_return co_await run_on(parts_.pool, parts_.scheduler, lift);
}

Task<Result<void>> Gc::save_live(std::uint64_t live_bytes) {
  VMS_CO_TRY(GcState state, co_await load_state());
  state.live_bytes = live_bytes;
  co_return co_await save_state(state);
}

void Gc::write_metrics(MetricsText& out) const {
  out.family("gc_rounds_total", "counter", "Rounds that ended well.").value(rounds_);
  out.family("gc_failed_rounds_total", "counter", "Rounds that ended early.").value(failures_);
  out.family("gc_running", "gauge", "1 during a round.").value(running_ ? 1 : 0);
  out.family("gc_last_round_seconds", "gauge", "How long the last round took.").seconds(last_took_);
  out.family("gc_live_blocks", "gauge", "Blocks that the last round found live.")
      .value(last_.blocks_live);
  out.family("gc_punched_blocks_total", "counter", "Blocks freed by rounds.")
      .value(total_.blocks_punched);
  out.family("gc_deleted_keys_total", "counter", "Keys deleted by rounds.")
      .value(total_.keys_deleted);
  out.family("gc_failed_keys_total", "counter", "Keys that a round could not free.")
      .value(total_.keys_failed);
  out.family("gc_freed_bytes_total", "counter", "Bytes of blocks freed by rounds.")
      .value(total_.bytes_freed);
}

}  // namespace vmstore::storaged
