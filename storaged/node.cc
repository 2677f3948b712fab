// SPDX-License-Identifier: Apache-2.0
#include "storaged/node.h"

#include <utility>

#include "base/limits.h"
#include "base/log.h"
#include "meta/records.h"
#include "meta/schema.h"
#include "storaged/ballast.h"
#include "storaged/session.h"
#include "storaged/startup.h"
#include "wire/vmstore.pb.h"

namespace vmstore::storaged {
namespace {

constexpr Duration kHousePause = std::chrono::seconds(10);
constexpr Duration kMeetWait = std::chrono::seconds(2);
constexpr Duration kTrashPause = std::chrono::minutes(10);
// Sessions of different starts never share a number: a lease or an event of an older one is
// recognised.
constexpr unsigned kSessionCountBits = 32;

BlockStoreOptions store_options(const NodeOptions& options) {
  BlockStoreOptions wanted;
  wanted.journal_bytes = options.journal_bytes;
  wanted.reserve_bytes = options.reserve_bytes;
  wanted.open_keys_max = options.open_keys_max;
  wanted.journal_pool = options.journal_pool;
  return wanted;
}

}  // namespace

Node::Node(NodeParts parts, NodeOptions options)
    : parts_(parts),
      options_(std::move(options)),
      store_(parts.scheduler, parts.pool, parts.files, store_options(options_)),
      names_(store_, parts.meta, [this] { return is_alone(); }),
      numbers_(parts.scheduler, parts.meta),
      leases_(parts.scheduler.now(), limits::kLeaseTime),
      gc_(GcParts{parts.scheduler, parts.pool, parts.files, store_, parts.meta}),
      trash_(parts.scheduler, parts.meta),
      started_(parts.scheduler.now()),
      stop_event_(parts.scheduler),
      tasks_(parts.scheduler) {}

Node::~Node() = default;

Task<Result<void>> Node::start() {
  VMS_CO_CHECK(co_await register_start());
  VMS_CO_CHECK(co_await meet_peers());
  co_await load_key_counter();
  VMS_CO_CHECK(co_await store_.open(identity().incarnation));
  opened_ = true;
  started_ = parts_.scheduler.now();
  leases_ = Leases(started_, limits::kLeaseTime);  // replay took its time: a full term from now
  ready_ = true;
  parts_.scheduler.spawn(keep_house());
  VMS_LOG(info,
          "node",
          "store " << identity().store.hex() << ", node " << identity().node.hex() << ", start "
                   << identity().start_count << ": ready");
  co_return success();
}

Task<Result<void>> Node::register_start() {
  NodePlace place;
  place.address = options_.address;
  place.certificate = options_.certificate;
  place.zone = options_.zone;
  place.weight = options_.weight;
  if (!place.address.empty()) {
    VMS_CO_CHECK(co_await check_place_among(parts_.meta, identity(), place));
  }
  IsServedAt ask;
  if (parts_.dialer != nullptr)
    ask = [this](std::string at) { return is_served_at(std::move(at)); };
  co_return co_await join_catalogue(parts_.scheduler,
                                    parts_.meta,
                                    parts_.folder,
                                    parts_.random,
                                    std::move(place),
                                    std::move(ask));
}

/// A copy of the folder may be served: two processes of one node would each believe that what the
/// other has is its own. One that does not answer is none, as far as anybody can tell.
Task<bool> Node::is_served_at(std::string address) {
  net::Endpoint there{std::move(address)};
  const auto answered = co_await parts_.dialer->dial(there);
  if (!answered) co_return false;
  (*answered)->close();
  net::ClientOptions options;
  options.endpoint = there;
  options.program = "vmstored";
  options.store = identity().store;
  options.node = identity().node;
  net::NodeClient client(parts_.scheduler, *parts_.dialer, std::move(options));
  client.start();
  const auto met = co_await client.wait_connected(parts_.scheduler.now() + kMeetWait);
  co_await client.stop();
  co_return met.has_value();
}

Task<Result<void>> Node::meet_peers() {
  if (parts_.dialer == nullptr) co_return success();
  net::ClientOptions options;
  options.program = "vmstored";
  options.store = identity().store;
  peers_ = std::make_unique<net::NodePool>(
      parts_.scheduler, *parts_.dialer, parts_.meta, identity().node, options);
  co_return co_await peers_->start();
}

/// Not known: then every key may have been drawn.
Task<void> Node::load_key_counter() {
  const std::string key(meta::kKeyCounterKey);
  const auto found = co_await read_entry_now(parts_.meta, key);
  std::uint64_t next = found && !*found ? KeyId::kFirst : KeyId::kEnd;
  if (found && *found) {
    const auto counter = meta::decode<meta::pb::KeyCounter>((*found)->value);
    if (counter) next = counter->next();
  }
  names_.note_keys_drawn(next);
}

void Node::serve(std::unique_ptr<net::Connection> connection) {
  if (!ready_ || stopping_ || sessions_.size() >= limits::kConnectionsMax) {
    VMS_LOG(warning, "node", "connection refused: " << sessions_.size() << " sessions");
    connection->close();
    return;
  }
  const SessionId id((identity().start_count << kSessionCountBits) | ++last_session_);
  auto session = std::make_shared<Session>(*this, id, std::move(connection));
  sessions_.emplace(id, session);
  parts_.scheduler.spawn(run_session(std::move(session)));
}

Task<void> Node::run_session(std::shared_ptr<Session> session) {
  const auto pass = tasks_.enter();
  co_await session->run();
  sessions_.erase(session->id());
}

Task<void> Node::stop() {
  stopping_ = true;
  ready_ = false;
  stop_event_.set();
  gc_.stop();
  // close() may end a session at once, which erases it: walk over a copy.
  const auto sessions = sessions_;
  for (const auto& [id, session] : sessions) session->close();
  if (peers_) co_await peers_->stop();
  co_await tasks_.close();
  if (opened_) co_await store_.close();
}

bool Node::is_ready() const noexcept {
  return ready_ && store_.takes_changes() && parts_.meta.takes_changes();
}

std::shared_ptr<Session> Node::find_session(SessionId id) const {
  const auto found = sessions_.find(id);
  return found == sessions_.end() ? nullptr : found->second;
}

std::optional<Leases::Hold> Node::holder(DiskId disk) {
  const auto hold = leases_.find(disk);
  if (!hold) return std::nullopt;
  if (const auto session = find_session(hold->session)) {
    leases_.renew(hold->session, session->last_heard());
  }
  const auto living = leases_.holder(disk, parts_.scheduler.now());
  // Whoever asks may take the disk now: the old holder has to look at the record before its lease
  // runs again.
  if (!living) leases_.release(disk, hold->epoch, hold->session);
  return living;
}

// ---- space, garbage ----

Task<Result<void>> Node::take_sample() {
  VMS_CO_TRY(const std::uint64_t used, co_await store_.used_bytes());
  VMS_CO_TRY(const FolderSpace space, co_await store_.space());
  SpaceSample sample;
  sample.total_bytes = space.total_bytes;
  sample.free_bytes = space.free_bytes;
  sample.used_bytes = used;
  space_.sample(sample);
  co_return success();
}

Task<void> Node::keep_house() {
  const auto pass = tasks_.enter();
  if (const auto state = co_await gc_.load_state(); state) space_.restore_live(state->live_bytes);
  while (!stopping_) {
    leases_.expire(parts_.scheduler.now());
    const auto sampled = co_await take_sample();
    if (!sampled) {
      VMS_LOG(warning, "node", "cannot measure space: " << to_string(sampled.error()));
    }
    ignore(co_await keep_ballast(), "logged where it failed; tried again");
    if (options_.collect_by_itself) co_await look_at_trash();
    const bool due = sampled && options_.collect_by_itself && !stopping_ &&
                     space_.round_is_due(parts_.scheduler.now());
    if (due) co_await collect_by_itself();
    const TimePoint next = parts_.scheduler.now() + kHousePause;
    static_cast<void>(co_await stop_event_.wait_until(next));
  }
}

Task<Result<void>> Node::keep_ballast() {
  if (parts_.ballast == nullptr) co_return success();
  const auto take = [this]() -> Result<void> {
    parts_.ballast->take(options_.reserve_bytes);
    return success();
  };
  co_return co_await run_on(parts_.pool, parts_.scheduler, take);
}

Task<void> Node::look_at_trash() {
  const TimePoint now = parts_.scheduler.now();
  if (now - trash_looked_at_ < kTrashPause) co_return;
  trash_looked_at_ = now;
  const auto emptied = co_await trash_.empty_old();
  if (!emptied) VMS_LOG(warning, "trash", "cannot be emptied: " << to_string(emptied.error()));
}

Task<void> Node::collect_by_itself() {
  const auto held = co_await gc_.is_held();
  if (!held) VMS_LOG(warning, "gc", "cannot tell whether it is held: " << to_string(held.error()));
  if (!held || *held) co_return;  // status() says it
  ignore(co_await collect(false), "logged where it failed; tried again when due");
}

Task<Result<GcReport>> Node::collect(bool dry_run) {
  auto report = co_await gc_.run(dry_run);
  if (dry_run) co_return report;
  const auto used = co_await store_.used_bytes();
  if (!report || !used) {
    space_.round_failed(parts_.scheduler.now());
    co_return report;
  }
  const auto lifted = co_await gc_.lift_hold();
  if (!lifted) VMS_LOG(warning, "gc", kGcHoldFile << ": " << to_string(lifted.error()));
  space_.round_ended(*used, parts_.scheduler.now());
  ignore(co_await gc_.save_live(*used), "only a hint for the next start");
  co_return report;
}

// ---- what people see ----

Task<pb::NodeStatusReply> Node::status() {
  // A failure leaves the sample of up to ten seconds ago, which is what the numbers then say.
  ignore(co_await take_sample(), "the last sample is shown");
  const SpaceSample& sample = space_.newest();
  pb::NodeStatusReply reply;
  reply.set_total_bytes(sample.total_bytes);
  reply.set_free_bytes(sample.free_bytes);
  reply.set_used_bytes(sample.used_bytes);
  reply.set_garbage_bytes(space_.garbage_bytes());
  reply.set_key_count(store_.list().size());
  reply.set_journal_bytes(options_.journal_bytes != 0 ? options_.journal_bytes
                                                      : limits::kJournalBytes);
  reply.set_journal_used_bytes(store_.journal_used_bytes());
  reply.set_session_count(sessions_.size());
  reply.set_version(options_.version);
  const Duration uptime = parts_.scheduler.now() - started_;
  reply.set_uptime_ms(static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(uptime).count()));
  reply.set_direct_io(parts_.files.used_direct());
  if (!store_.takes_changes()) {
    reply.add_warnings("the journal failed: this node takes no changes until it is restarted");
  }
  if (!parts_.meta.takes_changes()) {
    reply.add_warnings("the catalogue's log failed: no metadata until it could be made anew");
  }
  const auto held = co_await gc_.is_held();
  if (held && *held) {
    reply.add_warnings(
        "the catalogue is of a backup: no space is freed by itself until `vmstore gc` was run");
  }
  if (!gc_.problem().empty()) {
    reply.add_warnings("the last garbage collection freed nothing: " + gc_.problem());
  }
  for (std::string& warning : space_.warnings()) reply.add_warnings(std::move(warning));
  for (const KeyState& key : store_.list()) {
    if (key.damaged) reply.add_warnings("key " + key.key.hex() + " is damaged");
  }
  if (!parts_.files.used_direct()) {
    reply.add_warnings("the file system does without O_DIRECT: the journal uses O_DSYNC alone");
  }
  reply.set_data_folder(options_.data_folder);
  co_return reply;
}

Task<std::string> Node::metrics_text() {
  const pb::NodeStatusReply now = co_await status();
  const BlockStoreCounters& counters = store_.counters();
  std::uint64_t backlog_blocks = 0;
  for (const auto& [id, session] : sessions_) backlog_blocks += session->garbage_blocks();
  MetricsText out;
  out.family("up", "gauge", "1 while the node serves.").value(ready_ ? 1 : 0);
  out.family("takes_changes", "gauge", "0 while the journal or the catalogue refuses changes.")
      .value(store_.takes_changes() && parts_.meta.takes_changes() ? 1 : 0);
  out.family("uptime_seconds", "gauge", "Since the start of the node.")
      .seconds(parts_.scheduler.now() - started_);
  out.family("starts_total", "counter", "Starts of this node on its folder.")
      .value(identity().start_count);
  out.family("sessions", "gauge", "Connected sessions.").value(now.session_count());
  out.family("held_disks", "gauge", "Disks that some session holds.").value(leases_.count());
  out.family("filesystem_bytes", "gauge", "Size of the data folder's file system.")
      .value(now.total_bytes());
  out.family("filesystem_free_bytes", "gauge", "Free there.").value(now.free_bytes());
  out.family("used_bytes", "gauge", "Taken by key files.").value(now.used_bytes());
  out.family("garbage_bytes", "gauge", "Grown since the last collection: at most this is garbage.")
      .value(now.garbage_bytes());
  out.family("owner_garbage_bytes", "gauge", "Overwritten, and to be freed by the disks' owners.")
      .value(backlog_blocks * kBlockBytes);
  out.family("writers_slowed_seconds_total", "counter", "Waited for that, of all disks.")
      .seconds(Duration(static_cast<std::int64_t>(slowed_ns_)));
  out.family("keys", "gauge", "Keys (block files).").value(now.key_count());
  out.family("journal_bytes", "gauge", "Size of the journal.").value(now.journal_bytes());
  out.family("journal_used_bytes", "gauge", "Not destaged yet.").value(now.journal_used_bytes());
  out.family("appends_total", "counter", "Records appended.").value(counters.appends);
  out.family("append_bytes_total", "counter", "Bytes of them.").value(counters.append_bytes);
  out.family("journal_groups_total", "counter", "Group commits.").value(counters.journal_groups);
  out.family("syncs_total", "counter", "Syncs of files.").value(counters.syncs);
  out.family("reads_total", "counter", "Reads of blocks.").value(counters.reads);
  out.family("read_bytes_total", "counter", "Bytes of them.").value(counters.read_bytes);
  out.family("checksum_failures_total", "counter", "Blocks that did not match their sum.")
      .value(counters.checksum_failures);
  out.family("punched_blocks_total", "counter", "Blocks freed.").value(counters.blocks_punched);
  out.family("deleted_keys_total", "counter", "Keys deleted.").value(counters.keys_deleted);
  gc_.write_metrics(out);
  requests_.write(out);
  co_return out.take();
}

}  // namespace vmstore::storaged
