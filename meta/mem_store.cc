// SPDX-License-Identifier: Apache-2.0
#include "meta/mem_store.h"

#include <algorithm>
#include <utility>

#include "meta/request_check.h"
#include "meta/schema.h"

namespace vmstore::meta {

std::uint64_t MemCatalogue::earlier_revision() const noexcept {
  return std::max({compacted_, kFirstRevision, revision_ - 1});
}

std::optional<Entry> MemCatalogue::at(const std::string& key,
                                      const Versions& versions,
                                      std::uint64_t revision) {
  const auto newer = std::find_if(versions.begin(), versions.end(), [revision](const Version& v) {
    return v.revision > revision;
  });
  if (newer == versions.begin() || !std::prev(newer)->value) return std::nullopt;
  return Entry{key, *std::prev(newer)->value, std::prev(newer)->revision};
}

std::optional<Entry> MemCatalogue::find(const std::string& key, std::uint64_t revision) const {
  const auto found = keys_.find(key);
  if (found == keys_.end()) return std::nullopt;
  return at(key, found->second, revision);
}

Result<RangeAnswer> MemCatalogue::range(const RangeRequest& request) const {
  RangeAnswer answer;
  answer.revision = request.revision == 0 ? revision_ : request.revision;
  if (answer.revision > revision_) return Errc::unknown;
  if (answer.revision < compacted_) return Errc::compacted;
  RangeBudget budget(request);
  auto from = keys_.lower_bound(std::max(request.prefix, request.after));
  for (; from != keys_.end() && from->first.starts_with(request.prefix); ++from) {
    if (from->first == request.after) continue;
    auto entry = at(from->first, from->second, answer.revision);
    if (!entry) continue;
    answer.more = !budget.take(*entry);
    if (answer.more) break;
    answer.entries.push_back(std::move(*entry));
  }
  return answer;
}

TxnAnswer MemCatalogue::apply(const Txn& txn) {
  TxnAnswer answer;
  answer.held = std::all_of(txn.compares.begin(), txn.compares.end(), [this](const Compare& c) {
    return holds(c, find(c.key, revision_));
  });
  const std::vector<Op>& ops = answer.held ? txn.then_ops : txn.else_ops;
  Changes changes;
  for (const Op& op : ops) {
    changes.push_back({{op.key, op.put.value_or(""), revision_ + 1}, !op.put.has_value()});
  }
  if (!changes.empty()) record(std::move(changes));
  answer.revision = revision_;
  return answer;
}

void MemCatalogue::apply_late_ones() {
  const std::deque<Txn> late = std::exchange(late_, {});
  for (const Txn& txn : late) apply(txn);
}

Changes MemCatalogue::history(std::uint64_t from) const {
  const auto first = std::find_if(history_.begin(), history_.end(), [from](const Event& event) {
    return event.entry.mod_revision >= from;
  });
  return {first, history_.end()};
}

void MemCatalogue::record(Changes changes) {
  for (const Event& change : changes) {
    revision_ = change.entry.mod_revision;
    Version version;
    version.revision = revision_;
    if (!change.removed) version.value = change.entry.value;
    keys_[change.entry.key].push_back(std::move(version));
  }
  history_.insert(history_.end(), changes.begin(), changes.end());
  for (WatchHub* hub : hubs_) hub->publish(changes);
}

Result<void> MemCatalogue::restore(Changes changes, std::uint64_t revision) {
  std::uint64_t last = revision_;
  for (const Event& change : changes) {
    const std::uint64_t at = change.entry.mod_revision;
    if (at <= revision_ || at < last || at > revision) return Errc::invalid_argument;
    last = at;
  }
  if (revision < revision_) return Errc::invalid_argument;
  record(std::move(changes));
  revision_ = revision;
  compact(revision);
  return success();
}

void MemCatalogue::compact(std::uint64_t revision) {
  revision = std::min(revision, revision_);
  if (revision <= compacted_) return;
  compacted_ = revision;
  std::erase_if(history_, [revision](const Event& e) { return e.entry.mod_revision <= revision; });
  for (auto item = keys_.begin(); item != keys_.end();) {
    Versions& versions = item->second;
    const auto newer = std::find_if(versions.begin(), versions.end(), [revision](const Version& v) {
      return v.revision > revision;
    });
    if (newer != versions.begin()) {
      const auto seen = std::prev(newer);  // what is seen at `revision` itself stays
      versions.erase(versions.begin(), seen->value ? seen : newer);
    }
    item = versions.empty() ? keys_.erase(item) : std::next(item);
  }
}

MemStore::MemStore(Scheduler& scheduler, std::shared_ptr<MemCatalogue> catalogue)
    : scheduler_(scheduler), catalogue_(std::move(catalogue)), hub_(scheduler) {
  catalogue_->hubs_.push_back(&hub_);
}

MemStore::~MemStore() {
  std::erase(catalogue_->hubs_, &hub_);
}

void MemStore::set_chances(const MemChances& chances, Random& random) {
  chances_ = chances;
  random_ = &random;
}

MemFault MemStore::draw() {
  if (!planned_.empty()) {
    const MemFault fault = planned_.front();
    planned_.pop_front();
    return fault;
  }
  if (random_ == nullptr) return MemFault::none;
  const std::pair<std::uint64_t, MemFault> table[] = {
      {chances_.refused_one_in, MemFault::refused},
      {chances_.lost_request_one_in, MemFault::lost_request},
      {chances_.lost_answer_one_in, MemFault::lost_answer},
      {chances_.applied_late_one_in, MemFault::applied_late},
      {chances_.stale_read_one_in, MemFault::stale_read},
      {chances_.compacted_one_in, MemFault::compacted},
  };
  for (const auto& [one_in, fault] : table) {
    if (one_in != 0 && random_->one_in(one_in)) return fault;
  }
  return MemFault::none;
}

Task<void> MemStore::pass_time() {
  if (random_ == nullptr || chances_.delay_most == Duration(0)) {
    co_await Yield(scheduler_);
    co_return;
  }
  const auto most = static_cast<std::uint64_t>(chances_.delay_most.count());
  const auto delay = Duration(static_cast<Duration::rep>(random_->below(most + 1)));
  co_await sleep_for(scheduler_, delay);
}

Task<Result<MemFault>> MemStore::arrive() {
  co_await pass_time();
  if (down_) co_return Errc::unavailable;
  catalogue_->apply_late_ones();
  const MemFault fault = draw();
  if (fault == MemFault::refused) co_return Errc::unavailable;
  if (fault == MemFault::compacted) catalogue_->compact(catalogue_->revision());
  co_return fault;
}

Task<Result<GetAnswer>> MemStore::get(std::string key) {
  VMS_CO_CHECK(check_key(key));
  VMS_CO_TRY(const MemFault fault, co_await arrive());
  if (fault == MemFault::lost_request || fault == MemFault::lost_answer) co_return Errc::timed_out;
  GetAnswer answer;
  answer.revision = catalogue_->revision();
  if (fault == MemFault::stale_read) {
    answer.revision = catalogue_->earlier_revision();
  }
  answer.entry = catalogue_->find(key, answer.revision);
  co_await pass_time();
  co_return answer;
}

Task<Result<TxnAnswer>> MemStore::txn(Txn txn) {
  VMS_CO_CHECK(check_txn(txn));
  VMS_CO_TRY(const MemFault fault, co_await arrive());
  if (fault == MemFault::lost_request) co_return Errc::timed_out;
  if (fault == MemFault::applied_late) {
    catalogue_->late_.push_back(std::move(txn));
    co_return Errc::timed_out;
  }
  const TxnAnswer answer = catalogue_->apply(txn);
  co_await pass_time();
  if (fault == MemFault::lost_answer) co_return Errc::timed_out;
  co_return answer;
}

Task<Result<RangeAnswer>> MemStore::range(RangeRequest request) {
  VMS_CO_CHECK(check_range(request));
  VMS_CO_TRY(const MemFault fault, co_await arrive());
  if (fault == MemFault::lost_request || fault == MemFault::lost_answer) co_return Errc::timed_out;
  if (fault == MemFault::stale_read && request.revision == 0) {
    request.revision = catalogue_->earlier_revision();
  }
  auto answer = catalogue_->range(request);
  co_await pass_time();
  co_return answer;
}

Task<Result<std::unique_ptr<Watch>>> MemStore::watch(std::string prefix,
                                                     std::uint64_t from_revision,
                                                     WatchCallback callback) {
  VMS_CO_CHECK(check_prefix(prefix));
  VMS_CO_TRY(const MemFault fault, co_await arrive());
  if (fault == MemFault::lost_request || fault == MemFault::lost_answer) co_return Errc::timed_out;
  const std::uint64_t now = catalogue_->revision();
  if (from_revision == 0) from_revision = now + 1;
  if (from_revision > now + 1) co_return Errc::unknown;
  if (from_revision <= catalogue_->compacted()) co_return Errc::compacted;
  auto state = hub_.add(std::move(prefix), from_revision, std::move(callback));
  hub_.catch_up(state, catalogue_->history(from_revision), now);
  co_return hub_.start(std::move(state));
}

Task<Result<void>> MemStore::restore(Changes changes, std::uint64_t revision) {
  co_await pass_time();
  co_return catalogue_->restore(std::move(changes), revision);
}

}  // namespace vmstore::meta
