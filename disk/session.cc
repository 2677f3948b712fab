// SPDX-License-Identifier: Apache-2.0
// Steps of docs/protocol/handover.pml: acquire, others.
#include "disk/session.h"

#include <utility>
#include <vector>

#include "base/limits.h"
#include "base/log.h"
#include "wire/vmstore.pb.h"

namespace vmstore::disk {
namespace {

constexpr Duration kRenewEvery = std::chrono::milliseconds(1500);
constexpr int kRenewalsPerSweep = 4;

std::uint64_t or_default(std::uint64_t value, std::uint64_t fallback) noexcept {
  return value == 0 ? fallback : value;
}

}  // namespace

Session::Session(Scheduler& scheduler,
                 net::NodePool& nodes,
                 BatchHome& batches,
                 SessionOptions options)
    : scheduler_(scheduler),
      nodes_(nodes),
      node_(nodes.home()),
      batches_(batches),
      options_(options),
      catalogue_(scheduler, node_.meta()),
      copies_(scheduler, nodes),
      page_cache_(or_default(options.page_cache_bytes, limits::kPageCacheBytes)),
      block_cache_(or_default(options.block_cache_bytes, limits::kBlockCacheBytes)),
      blocks_(copies_, page_cache_, block_cache_),
      random_(options.seed ? Random(*options.seed) : Random::from_system()),
      gate_(scheduler),
      stopping_(scheduler),
      lease_mutex_(scheduler) {}

Session::~Session() = default;

Task<Result<void>> Session::start(std::optional<TimePoint> deadline) {
  node_.set_disk_call_handler([this](DiskId id, std::unique_ptr<pb::DiskCallRequest> call) {
    return on_call(id, std::move(call));
  });
  VMS_CO_TRY(const auto info, co_await node_.wait_connected(deadline));
  store_ = info.store;
  VMS_CO_CHECK(co_await nodes_.start());
  seen_sessions_ = node_.session_count();
  scheduler_.spawn(keep_leases());
  co_return success();
}

Task<void> Session::stop() {
  stopping_.set();
  node_.session_changed().pulse();
  co_await gate_.close();
  co_await nodes_.stop();
  node_.set_disk_call_handler({});
}

Task<Result<void>> Session::hold(DiskId id, Epoch epoch, HeldDisk* disk) {
  const auto lock = co_await lease_mutex_.lock();
  held_[id] = disk;  // first: a call may be relayed as soon as the node knows
  disk->lease().start();
  const auto renewal = disk->lease().begin(scheduler_.now());
  const auto told = co_await node_.hold(id, epoch);
  const auto found = held_.find(id);
  if (found == held_.end() || found->second != disk) co_return told;  // it may be gone
  if (told) {
    disk->lease().prove(renewal);
  } else {
    forget_disk(id, disk);
  }
  co_return told;
}

Task<void> Session::release(DiskId id, Epoch epoch, HeldDisk* disk) {
  forget_disk(id, disk);
  const auto lock = co_await lease_mutex_.lock();
  const auto told = co_await node_.release(id, epoch);
  ignore(told, "the lease runs out by itself");
}

void Session::forget_disk(DiskId id, HeldDisk* disk) {
  disk->lease().drop();  // before anybody can hear that it is not held any more
  const auto found = held_.find(id);
  if (found != held_.end() && found->second == disk) held_.erase(found);
}

Task<Result<void>> Session::renew(DiskId id) {
  const auto found = held_.find(id);
  if (found == held_.end()) co_return Errc::not_owner;
  if (found->second->lease().is_proven()) {
    std::vector<DiskId> one(1, id);
    VMS_CO_CHECK(co_await renew_proven(std::move(one)));
    const auto still = held_.find(id);
    if (still == held_.end()) co_return Errc::not_owner;
    if (still->second->lease().is_proven()) co_return success();
  }
  co_return co_await prove(id);
}

/// For disks that the node said are held: it answers that without the catalogue. What it does not
/// know any more has to be proved.
Task<Result<void>> Session::renew_proven(std::vector<DiskId> disks) {
  std::map<DiskId, HolderLease::Renewal> asked;
  for (const DiskId id : disks) asked[id] = held_.at(id)->lease().begin(scheduler_.now());
  VMS_CO_TRY(const auto lost, co_await node_.renew(std::move(disks)));
  for (const DiskId id : lost) {
    const auto found = held_.find(id);
    const bool is_same = found != held_.end() && found->second->lease().is_current(asked.at(id));
    if (is_same) found->second->lease().drop();
    asked.erase(id);
  }
  for (const auto& [id, renewal] : asked) {
    const auto found = held_.find(id);
    if (found != held_.end()) found->second->lease().extend(renewal);
  }
  co_return success();
}

/// The node looks whether the record names a newer owner.
Task<Result<void>> Session::prove(DiskId id) {
  const auto lock = co_await lease_mutex_.lock();
  // Given back meanwhile: a renewal after the release would hold it for ever.
  const auto found = held_.find(id);
  if (found == held_.end()) co_return Errc::not_owner;
  if (found->second->lease().is_proven()) co_return success();  // somebody else did
  const Epoch epoch = found->second->held_epoch();
  const auto renewal = found->second->lease().begin(scheduler_.now());
  const auto told = co_await node_.hold(id, epoch);
  const auto now = held_.find(id);
  if (now == held_.end()) co_return Errc::not_owner;
  if (told) now->second->lease().prove(renewal);
  // A lease only says when a takeover may begin; safety is the fence (DESIGN 6). But one that only
  // reads meets no fence: it must hear of it, or it would read older bytes for ever.
  if (!told && told.error() == Errc::stale_token) now->second->on_fenced(epoch);
  co_return told;
}

Task<void> Session::keep_leases() {
  const auto pass = gate_.enter();
  for (int renewals = 1; pass && !stopping_.is_set(); ++renewals) {
    // A new session means that the node may have forgotten us: register again at once.
    static_cast<void>(co_await node_.session_changed().wait_pulse(scheduler_.now() + kRenewEvery));
    if (stopping_.is_set()) break;
    if (!node_.is_connected()) continue;
    if (node_.session_count() != seen_sessions_) {
      seen_sessions_ = node_.session_count();
      blocks_.forget_files();
    }
    if (renewals % kRenewalsPerSweep == 0) blocks_.close_unused_files();
    std::vector<DiskId> proven;
    for (const auto& [id, disk] : held_) {
      if (disk->lease().is_proven()) proven.push_back(id);
    }
    if (!proven.empty()) ignore(co_await renew_proven(std::move(proven)), "asked again");
    std::vector<DiskId> unproven;
    for (const auto& [id, disk] : held_) {
      if (!disk->lease().is_proven()) unproven.push_back(id);
    }
    for (const DiskId id : unproven) ignore(co_await prove(id), "asked again");
  }
}

Task<Result<net::DiskCallAnswer>> Session::on_call(DiskId id,
                                                   std::unique_ptr<pb::DiskCallRequest> call) {
  const auto pass = gate_.enter();
  if (!pass) co_return Errc::not_owner;  // it holds nothing any more
  const auto found = held_.find(id);
  if (found == held_.end()) co_return Errc::not_owner;
  co_return co_await found->second->serve(std::move(call));
}

}  // namespace vmstore::disk
