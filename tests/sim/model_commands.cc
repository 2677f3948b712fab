// SPDX-License-Identifier: Apache-2.0
// Model: snapshots, clones and the other commands, and what became of one in which the client died.
#include <algorithm>
#include <string>
#include <utility>

#include "base/units.h"
#include "disk/snapshot_disk.h"
#include "tests/sim/model.h"
#include "tests/sim/model_await.h"

namespace vmstore::sim {
namespace {

using disk::Admin;
using Kind = int;

constexpr Duration kFramesLive = std::chrono::seconds(5);
constexpr Duration kFreeAfter = std::chrono::seconds(60);  // a dead session's lease is long over

template <class T>
Task<Result<void>> without_value(Task<Result<T>> task) {
  const auto outcome = co_await task;
  if (!outcome) co_return outcome.error();
  co_return success();
}

Task<Result<void>> create(Admin& admin, std::string name, std::uint64_t bytes) {
  return without_value(admin.create(std::move(name), bytes, 1));
}

Task<Result<void>> snapshot(Admin& admin, std::string name, std::string snap) {
  return without_value(admin.snapshot(std::move(name), std::move(snap)));
}

/// Reads all of a snapshot.
Task<Result<std::vector<std::byte>>> read_all(disk::Session& session,
                                              std::string name,
                                              std::string snap) {
  VMS_CO_TRY(const auto record, co_await session.catalogue().disk_by_name(std::move(name)));
  disk::SnapshotDisk opened(session);
  VMS_CO_CHECK(co_await opened.open_snapshot(disk::disk_id_of(record.record), std::move(snap)));
  std::vector<std::byte> bytes(opened.size_bytes());
  VMS_CO_CHECK(co_await opened.read(0, bytes));
  co_return bytes;
}

struct CatalogueNames {
  std::map<std::string, std::uint64_t> disks;  // name → size
  std::map<std::string, std::set<std::string>> snapshots;
  std::multiset<std::string> trash;
};

Task<Result<CatalogueNames>> list_all(Admin& admin) {
  CatalogueNames names;
  VMS_CO_TRY(const auto disks, co_await admin.list());
  for (const disk::DiskSummary& disk : disks) {
    names.disks[disk.name] = disk.size_bytes;
    VMS_CO_TRY(const auto snapshots, co_await admin.snapshots(disk.name));
    for (const auto& snap : snapshots) names.snapshots[disk.name].insert(snap.name);
  }
  VMS_CO_TRY(const auto trash, co_await admin.trash());
  for (const auto& disk : trash) names.trash.insert(disk.name);
  co_return names;
}

BlockPtr block_of(const std::vector<std::byte>& bytes, std::uint64_t lbn) {
  Block block{};
  const std::uint64_t from = lbn * kBlockBytes;
  const std::size_t count = std::min<std::size_t>(kBlockBytes, bytes.size() - from);
  std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(from), count, block.begin());
  return make_block(block);
}

/// A name that a command made for itself and that its death left.
bool is_temporary(const std::string& snap) {
  return snap.starts_with("clone-") || snap.starts_with("verify-");
}

}  // namespace

std::string Model::fresh_name(const char* kind) {
  return kind + std::to_string(++names_);
}

std::optional<Result<void>> Model::until_free(const std::function<Task<Result<void>>()>& make,
                                              const char* what) {
  const TimePoint deadline = world_.now() + kFreeAfter;
  for (;;) {
    auto outcome = await(make(), what);
    if (!outcome || *outcome) return outcome;
    // An answer that was lost leaves the outcome open: the catalogue tells.
    const Error& error = outcome->error();
    const bool again = error == Errc::busy || error == Errc::unavailable;
    if (!again || world_.now() > deadline) return outcome;
    rest();
    if (!host_.is_ready()) return std::nullopt;
  }
}

// ---- creating and removing ----

void Model::create_disk() {
  if (!host_.is_ready()) return;
  const std::string name = fresh_name("disk");
  const std::uint64_t blocks = 1 + random().below(swarm_.disk_blocks_max);
  std::uint64_t bytes = blocks * kBlockBytes;
  if (random().one_in(3)) bytes -= random().below(8) * kSectorBytes;
  say("creating " + name + " of " + std::to_string(bytes));
  Uncertain uncertain;
  uncertain.kind = Uncertain::Kind::create;
  uncertain.disk = name;
  uncertain.snapshot.content = Content(bytes);
  uncertain_ = uncertain;
  const auto made = await(create(host_.admin(), name, bytes), "create");
  if (!made) return;
  uncertain_.reset();
  if (!*made && !is_lost(made->error())) return fail("create failed: " + to_string(made->error()));
  if (!*made) return find_out_now(uncertain);
  ModelDisk& disk = disks_[name];
  disk.name = name;
  disk.oracle = DiskOracle(Content(bytes));
}

void Model::remove_disk(ModelDisk& disk) {
  if (!settle(disk)) return;
  const std::string name = disk.name;
  const bool now = random().one_in(2);
  say("removing " + name + (now ? " for good" : ""));
  Uncertain uncertain;
  uncertain.kind = Uncertain::Kind::remove;
  uncertain.disk = name;
  uncertain_ = uncertain;
  Admin& admin = host_.admin();
  const auto removed = until_free([&] { return admin.remove(name, now, false); }, "remove");
  if (!removed) return;
  uncertain_.reset();
  if (!*removed) {
    if (is_lost(removed->error())) return find_out_now(uncertain);
    return fail("remove failed: " + to_string(removed->error()));
  }
  if (!now) trash_[name] = std::move(disk);
  disks_.erase(name);
}

void Model::restore_disk() {
  if (trash_.empty()) return;
  const std::string name = trash_.begin()->first;
  const bool restores = random().one_in(2);
  say((restores ? "restoring " : "purging ") + name);
  Uncertain uncertain;
  uncertain.kind = restores ? Uncertain::Kind::restore : Uncertain::Kind::purge;
  uncertain.disk = name;
  uncertain_ = uncertain;
  Admin& admin = host_.admin();
  const auto done =
      await(restores ? admin.restore(name, "") : admin.purge(name), "restore or purge");
  if (!done) return;
  uncertain_.reset();
  if (!*done) {
    if (is_lost(done->error())) return find_out_now(uncertain);
    return fail("restore or purge failed: " + to_string(done->error()));
  }
  if (restores) disks_[name] = std::move(trash_.at(name));
  trash_.erase(name);
}

void Model::rename(ModelDisk& disk) {
  if (!settle(disk)) return;
  const std::string from = disk.name;
  const std::string to = fresh_name("renamed");
  say("renaming " + from + " to " + to);
  Uncertain uncertain;
  uncertain.kind = Uncertain::Kind::rename;
  uncertain.disk = from;
  uncertain.other = to;
  uncertain_ = uncertain;
  Admin& admin = host_.admin();
  const auto renamed = until_free([&] { return admin.rename(from, to); }, "rename");
  if (!renamed) return;
  uncertain_.reset();
  if (!*renamed) {
    if (is_lost(renamed->error())) return find_out_now(uncertain);
    return fail("rename failed: " + to_string(renamed->error()));
  }
  note_renamed(from, to);
}

void Model::note_renamed(const std::string& from, const std::string& to) {
  auto moved = disks_.extract(from);
  moved.key() = to;
  moved.mapped().name = to;
  disks_.insert(std::move(moved));
}

/// Opens a disk that died and gives it back, or closes an open one: then its bytes are known.
bool Model::settle(ModelDisk& disk) {
  if (!disk.clean && disk.open == nullptr && !ensure_open(disk)) return false;
  if (disk.open != nullptr) {
    // Whoever has the object has not the token yet; reading takes it.
    if (disk.died && !verify(disk)) return false;
    return close(disk);
  }
  return host_.is_ready();
}

// ---- snapshots, clones, rollback, resize ----

void Model::take_snapshot(ModelDisk& disk) {
  if (!host_.is_ready() || (disk.open == nullptr && !settle(disk))) return;
  const std::string snap = fresh_name("snap");
  say("snapshot " + disk.name + "@" + snap);
  Uncertain uncertain;
  uncertain.kind = Uncertain::Kind::snapshot;
  uncertain.disk = disk.name;
  uncertain.other = snap;
  uncertain.snapshot.content = disk.oracle.content();
  uncertain_ = uncertain;
  Admin& admin = host_.admin();
  const std::string name = disk.name;
  const auto taken = until_free([&] { return snapshot(admin, name, snap); }, "snapshot");
  if (!taken) return;
  uncertain_.reset();
  if (!*taken) {
    if (is_lost(taken->error())) return find_out_now(uncertain);
    if (tolerates(taken->error())) return;
    return fail("snapshot failed: " + to_string(taken->error()));
  }
  disk.oracle.all_flushed();
  disk.snapshots[snap] = uncertain.snapshot;
}

void Model::read_snapshot(ModelDisk& disk) {
  if (disk.snapshots.empty()) return;
  auto entry = disk.snapshots.begin();
  std::advance(entry, static_cast<std::ptrdiff_t>(random().below(disk.snapshots.size())));
  const auto read = await(read_all(host_.session(), disk.name, entry->first), "snapshot read");
  if (!read) return;
  const std::string name = disk.name + "@" + entry->first;
  if (!*read) return fail("snapshot " + name + " cannot be read: " + to_string(read->error()));
  const std::vector<std::byte>& bytes = **read;
  const Content& content = entry->second.content;
  if (bytes.size() != content.size_bytes()) return fail("snapshot " + name + " changed its size");
  for (std::uint64_t lbn = 0; lbn * kBlockBytes < bytes.size(); ++lbn) {
    if (same_block(block_of(bytes, lbn), content.block(lbn))) continue;
    return fail("snapshot " + name + ": block " + std::to_string(lbn) + " changed");
  }
}

void Model::remove_snapshot(ModelDisk& disk) {
  if (disk.snapshots.empty()) return;
  const std::string snap = disk.snapshots.begin()->first;
  say("removing " + disk.name + "@" + snap);
  Uncertain uncertain;
  uncertain.kind = Uncertain::Kind::remove_snapshot;
  uncertain.disk = disk.name;
  uncertain.other = snap;
  uncertain_ = uncertain;
  const auto removed = await(host_.admin().remove_snapshot(disk.name, snap), "snapshot rm");
  if (!removed) return;
  uncertain_.reset();
  if (!*removed) {
    if (is_lost(removed->error())) return find_out_now(uncertain);
    return fail("snapshot rm failed: " + to_string(removed->error()));
  }
  disk.snapshots.erase(snap);
}

void Model::clone_disk(ModelDisk& disk) {
  if (!host_.is_ready() || (disk.open == nullptr && !settle(disk))) return;
  Uncertain uncertain;
  uncertain.kind = Uncertain::Kind::clone;
  uncertain.disk = disk.name;
  uncertain.snapshot.content = disk.oracle.content();
  std::string source = disk.name;
  if (!disk.snapshots.empty() && random().one_in(2)) {
    source += "@" + disk.snapshots.begin()->first;
    uncertain.snapshot = disk.snapshots.begin()->second;
  }
  std::vector<std::string> names{fresh_name("clone")};
  if (random().one_in(3)) names.push_back(fresh_name("clone"));
  uncertain.names = names;
  say("cloning " + source);
  uncertain_ = uncertain;
  Admin& admin = host_.admin();
  const auto cloned = until_free([&] { return admin.clone(source, names); }, "clone");
  if (!cloned) return;
  uncertain_.reset();
  if (!*cloned) {
    if (is_lost(cloned->error())) return find_out_now(uncertain);
    if (tolerates(cloned->error())) return;
    return fail("clone failed: " + to_string(cloned->error()));
  }
  if (source == disk.name) disk.oracle.all_flushed();
  for (const std::string& name : names) note_made(name, uncertain.snapshot.content);
}

void Model::note_made(const std::string& name, const Content& content) {
  ModelDisk& made = disks_[name];
  made.name = name;
  made.oracle = DiskOracle(content);
}

void Model::roll_back(ModelDisk& disk) {
  if (disk.snapshots.empty() || !settle(disk)) return;
  const std::string snap = disk.snapshots.begin()->first;
  const std::string name = disk.name;
  say("rolling " + name + " back to " + snap);
  Uncertain uncertain;
  uncertain.kind = Uncertain::Kind::rollback;
  uncertain.disk = name;
  uncertain.snapshot = disk.snapshots.begin()->second;
  uncertain_ = uncertain;
  disk.clean = false;
  Admin& admin = host_.admin();
  const auto done = until_free([&] { return admin.rollback(name, snap, false); }, "rollback");
  if (!done) return;
  uncertain_.reset();
  if (!*done) {
    if (is_lost(done->error())) return find_out_now(uncertain);
    if (tolerates(done->error())) return settle_either(disk, uncertain.snapshot.content);
    return fail("rollback failed: " + to_string(done->error()));
  }
  disk.clean = true;
  disk.oracle.replace(uncertain.snapshot.content);
}

void Model::resize(ModelDisk& disk) {
  if (disk.either && !settle(disk)) return;  // its size is not known
  const std::uint64_t old_bytes = disk.oracle.content().size_bytes();
  std::uint64_t bytes = (1 + random().below(2 * swarm_.disk_blocks_max * 8)) * kSectorBytes;
  if (bytes == old_bytes) bytes += kSectorBytes;
  const bool shrinks = bytes < old_bytes;
  if (shrinks || disk.open == nullptr) {
    if (!settle(disk)) return;
    disk.clean = false;
  } else if (disk.died && !verify(disk)) {
    return;
  }
  const std::string name = disk.name;
  say("resizing " + name + " from " + std::to_string(old_bytes) + " to " + std::to_string(bytes));
  Uncertain uncertain;
  uncertain.kind = Uncertain::Kind::resize;
  uncertain.disk = name;
  uncertain.snapshot.content = disk.oracle.content();
  uncertain.snapshot.content.resize(bytes);
  uncertain_ = uncertain;
  if (shrinks) {  // what is cut off is zeroed first, block by block
    disk.oracle.begin_group();
    static_cast<void>(disk.oracle.zero(bytes, old_bytes - bytes));
  }
  Admin& admin = host_.admin();
  const auto done = until_free([&] { return admin.resize(name, bytes, shrinks, false); }, "resize");
  if (!done) return;
  uncertain_.reset();
  if (!*done) {
    if (is_lost(done->error())) return find_out_now(uncertain);
    if (tolerates(done->error())) return settle_either(disk, uncertain.snapshot.content);
    return fail("resize failed: " + to_string(done->error()));
  }
  if (disk.open == nullptr) disk.clean = true;
  disk.oracle.resize(bytes);
}

void Model::collect_garbage() {
  say("collecting garbage");
  const auto done = await(without_value(host_.admin().collect_garbage(random().one_in(4))), "gc");
  if (!done || *done) return;
  const Error& error = done->error();
  if (error == Errc::busy || is_lost(error) || tolerates(error)) return;
  fail("gc failed: " + to_string(error));
}

// ---- finding out ----

bool Model::is_lost(const Error& error) const {
  return error == Errc::disconnected || error == Errc::timed_out;
}

/// The node died in the command: the answer was lost, the client lives.
void Model::find_out_now(const Uncertain& uncertain) {
  uncertain_ = uncertain;
  find_out();
}

/// What the disk holds now is `other` or what it held; which one, its size or bytes tell.
void Model::settle_either(ModelDisk& disk, const Content& other) {
  disk.either = other;
  if (!disk.died) disk.died = Death::kill;
  if (disk.open != nullptr && !close(disk)) return;
  if (ensure_open(disk) && disk.either) static_cast<void>(verify(disk));
}

void Model::find_out() {
  if (!host_.is_ready()) return;
  // What the dead client sent may still be on its way.
  if (uncertain_) pass_time(kFramesLive);
  if (!host_.is_ready()) return;
  auto found = await(list_all(host_.admin()), "listing");
  while (found && !*found && is_lost(found->error()) && !failed()) {
    rest();
    if (!host_.is_ready()) return;
    found = await(list_all(host_.admin()), "listing");
  }
  if (!found) return;
  if (!*found) return fail("the catalogue cannot be listed: " + to_string(found->error()));
  const CatalogueNames& names = **found;
  if (uncertain_)
    apply_uncertain(
        *std::exchange(uncertain_, std::nullopt), names.disks, names.snapshots, names.trash);
  if (failed()) return;
  check_catalogue_is(names.disks, names.snapshots, names.trash);
}

void Model::apply_uncertain(const Uncertain& command,
                            const std::map<std::string, std::uint64_t>& disks,
                            const std::map<std::string, std::set<std::string>>& snapshots,
                            const std::multiset<std::string>& trash) {
  using Kind = Uncertain::Kind;
  const auto disk = disks_.find(command.disk);
  // The command may have held the disk's token.
  if (disk != disks_.end()) {
    disk->second.clean = false;
    if (!disk->second.died) disk->second.died = Death::kill;
  }
  const auto has_snapshot = [&] {
    const auto of_disk = snapshots.find(command.disk);
    return of_disk != snapshots.end() && of_disk->second.contains(command.other);
  };
  switch (command.kind) {
    case Kind::create:
      if (disks.contains(command.disk)) note_made(command.disk, command.snapshot.content);
      return;
    case Kind::snapshot:
      // Taken of what was acknowledged then; nothing was asked since.
      if (has_snapshot()) disk->second.snapshots[command.other] = command.snapshot;
      return;
    case Kind::remove_snapshot:
      if (!has_snapshot()) disk->second.snapshots.erase(command.other);
      return;
    case Kind::clone:
      for (const std::string& name : command.names) {
        if (disks.contains(name)) note_made(name, command.snapshot.content);
      }
      return;
    case Kind::rename:
      if (disks.contains(command.other)) note_renamed(command.disk, command.other);
      return;
    case Kind::remove:
      if (disks.contains(command.disk)) return;
      if (trash.contains(command.disk)) trash_[command.disk] = std::move(disk->second);
      disks_.erase(command.disk);
      return;
    case Kind::restore:
      if (!disks.contains(command.disk)) return;
      disks_[command.disk] = std::move(trash_.at(command.disk));
      trash_.erase(command.disk);
      return;
    case Kind::purge:
      // Its snapshots may be gone before it is.
      if (!trash.contains(command.disk)) {
        trash_.erase(command.disk);
      } else {
        trash_.at(command.disk).snapshots_unknown = true;
      }
      return;
    case Kind::rollback:
    case Kind::resize:
      disk->second.either = command.snapshot.content;
      return;
  }
}

void Model::check_catalogue_is(const std::map<std::string, std::uint64_t>& disks,
                               const std::map<std::string, std::set<std::string>>& snapshots,
                               const std::multiset<std::string>& trash) {
  for (auto& [name, disk] : disks_) {
    if (!disks.contains(name)) return fail("disk " + name + " is gone");
    const auto found = snapshots.find(name);
    std::set<std::string> present =
        found == snapshots.end() ? std::set<std::string>() : found->second;
    std::erase_if(present, is_temporary);
    if (std::exchange(disk.snapshots_unknown, false)) {
      std::erase_if(disk.snapshots,
                    [&](const auto& entry) { return !present.contains(entry.first); });
    }
    std::set<std::string> wanted;
    for (const auto& [snap, model] : disk.snapshots) wanted.insert(snap);
    if (present != wanted) return fail("disk " + name + " has other snapshots than were taken");
  }
  if (disks.size() != disks_.size()) return fail("there are disks that nobody made");
  if (trash.size() != trash_.size()) return fail("the trash holds other disks than were removed");
}

// ---- the end ----

void Model::leave_nothing() {
  nothing_dies_ = true;
  cancel_deaths();
  while (!failed() && !given_up_ && !host_.is_ready()) revive_client();
  for (auto& [name, disk] : disks_) {
    if (ensure_open(disk)) static_cast<void>(verify(disk));
    for (std::size_t i = 0; i < disk.snapshots.size() && !failed(); ++i) read_snapshot(disk);
    if (failed()) return;
    if (!settle(disk)) return fail("the end was not reached");
  }
  find_out();
  Admin& admin = host_.admin();
  for (const auto& [name, disk] : disks_) {
    if (failed()) return;
    const auto removed = until_free([&] { return admin.remove(name, true, false); }, "remove");
    if (!removed || !*removed) return fail("disk " + name + " cannot be removed at the end");
  }
  if (failed()) return;
  const auto purged = await(admin.purge(""), "purge");
  if (!purged || !*purged) return fail("the trash cannot be emptied at the end");
  for (int round = 0; round < 2; ++round) {
    const auto done = await(without_value(admin.collect_garbage(false)), "last gc");
    if (!done || !*done) {
      return fail("gc failed at the end: " +
                  (done ? to_string(done->error()) : std::string("died")));
    }
  }
  const auto status = await(admin.node_status(), "status");
  if (!status || !*status) return fail("no status at the end");
  if ((*status)->used_bytes != 0 || (*status)->key_count != 0) {
    fail("everything was deleted and " + format_size((*status)->used_bytes) + " in " +
         std::to_string((*status)->key_count) + " keys are left");
  }
}

}  // namespace vmstore::sim
