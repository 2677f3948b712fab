// SPDX-License-Identifier: Apache-2.0
#include "net/meta_etcd.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/log.h"
#include "meta/request_check.h"
#include "net/etcd_root.h"

namespace vmstore::net {
namespace {

constexpr const char* kTxnTarget = "/v3/kv/txn";
constexpr const char* kWatchTarget = "/v3/watch";
constexpr Duration kPollPause = std::chrono::seconds(5);
constexpr Duration kResumePause = std::chrono::milliseconds(200);
constexpr Duration kWatchBegins = std::chrono::seconds(2);
constexpr std::uint32_t kSmallRange = 8;  // entries of any size in one answer

std::string newest_op() {
  etcd::Range newest;
  newest.key = etcd::kChangeKey;
  return etcd::range_op(newest);
}

/// What an answer says of an inner transaction. `unknown`: nothing that could be understood.
Result<const etcd::TxnReply*> inner_of(const etcd::TxnReply& reply, std::size_t ops_least) {
  if (reply.ops.empty() || reply.ops.front().txn.empty()) return Errc::unknown;
  const etcd::TxnReply& inner = reply.ops.front().txn.front();
  if (inner.ops.size() < ops_least) return Errc::unknown;
  return &inner;
}

}  // namespace

/// One watch. Its task holds it, and the handle.
struct MetaEtcd::Follower {
  Follower(const etcd::Numbers& numbers, std::string prefix, std::uint64_t from, WatchCallback told)
      : reader(numbers, std::move(prefix), from), callback(std::move(told)) {}
  void end() noexcept {
    ended = true;
    if (stream) stream->close();
  }
  etcd::ChangeReader reader;
  WatchCallback callback;
  std::unique_ptr<HttpConnection> stream;
  std::uint64_t next_at_poll = 0;
  bool ended = false;
};

/// What the caller of watch() holds.
class MetaEtcd::Handle final : public meta::Watch {
 public:
  explicit Handle(FollowerPtr follower) : follower_(std::move(follower)) {}
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() override { follower_->end(); }

 private:
  FollowerPtr follower_;
};

MetaEtcd::MetaEtcd(IoThread& io, EtcdOptions options, const etcd::Head& head, std::uint64_t head_at)
    : io_(io),
      calls_(io, std::move(options)),
      head_(head),
      numbers_(head.base, head_at),
      stop_(io),
      gate_(io) {}

MetaEtcd::~MetaEtcd() {
  for (const auto& weak : followers_) {
    const auto follower = weak.lock();
    if (follower == nullptr) continue;
    follower->ended = true;
    follower->stream = nullptr;
  }
}

Task<Result<std::unique_ptr<MetaEtcd>>> MetaEtcd::open(IoThread& io, EtcdOptions options) {
  EtcdCalls calls(io, options);
  VMS_CO_TRY(const EtcdRoot root, co_await read_etcd_root(calls));
  if (root.making) co_return Errc::unknown;
  if (!root.head) co_return Errc::not_found;
  VMS_CO_TRY(const etcd::Head head, etcd::decode_head(*root.head));
  co_return std::unique_ptr<MetaEtcd>(new MetaEtcd(io, std::move(options), head, root.head_at));
}

Task<void> MetaEtcd::close() {
  stop_.set();
  for (const auto& weak : followers_) {
    if (const auto follower = weak.lock()) follower->end();
  }
  calls_.close();
  co_await gate_.close();
}

// ---- calls ----

Task<Result<etcd::TxnReply>> MetaEtcd::ask(std::vector<std::string> ops, EtcdCalls::Kind kind) {
  auto reply = co_await ask_of_head(std::move(ops), kind);
  if (!reply && reply.error() == Errc::foreign_store) co_return Errc::unknown;
  co_return reply;
}

/// Does `ops` if the catalogue is the one that was opened, else `foreign_store`. On success the
/// reply is of them.
Task<Result<etcd::TxnReply>> MetaEtcd::ask_of_head(std::vector<std::string> ops,
                                                   EtcdCalls::Kind kind) {
  etcd::TxnText txn;
  txn.compares.push_back(etcd::value_is(etcd::kHeadKey, etcd::encode_head(head_)));
  txn.success = std::move(ops);
  VMS_CO_TRY(const std::string text, co_await calls_.post(kTxnTarget, etcd::txn_text(txn), kind));
  auto reply = etcd::parse_txn_reply(text);
  if (!reply) co_return Errc::unknown;
  if (!reply->succeeded) co_return Errc::foreign_store;
  co_return reply;
}

/// The catalogue's revision, from an answer about kChangeKey.
Result<std::uint64_t> MetaEtcd::newest_in(const etcd::OpReply& op) const {
  if (op.kvs.empty()) return numbers_.base();
  const std::uint64_t at = op.kvs.front().mod_revision;
  if (at < numbers_.head_at()) return numbers_.base();  // of the catalogue before it was moved
  return numbers_.ours(at);
}

void MetaEtcd::note(std::uint64_t revision) noexcept {
  newest_ = std::max(newest_, revision);
}

void MetaEtcd::lose(const char* why) {
  if (std::exchange(lost_, true)) return;
  VMS_LOG(error,
          "etcd",
          why << "; nothing is answered from it any more. If it was restored from a backup or made "
                 "anew: stop the nodes and run `vmstore meta rebuild`");
}

Task<Result<meta::GetAnswer>> MetaEtcd::get(std::string key) {
  VMS_CO_CHECK(meta::check_key(key));
  VMS_CO_TRY(const auto pass, gate_.enter());
  if (lost_) co_return Errc::unknown;
  etcd::Range one;
  one.key = etcd::data_key(key);
  std::vector<std::string> ops;
  ops.push_back(etcd::range_op(one));
  ops.push_back(newest_op());
  VMS_CO_TRY(const auto reply, co_await ask(std::move(ops), EtcdCalls::Kind::read));
  if (reply.ops.size() != 2) co_return Errc::unknown;
  meta::GetAnswer answer;
  VMS_CO_TRY(answer.revision, newest_in(reply.ops[1]));
  if (!reply.ops[0].kvs.empty()) {
    const etcd::Kv& kv = reply.ops[0].kvs.front();
    if (kv.key != one.key) co_return Errc::unknown;
    VMS_CO_TRY(const std::uint64_t revision, numbers_.ours(kv.mod_revision));
    answer.entry = meta::Entry{std::move(key), kv.value, revision};
  }
  note(answer.revision);
  co_return answer;
}

Task<Result<meta::TxnAnswer>> MetaEtcd::txn(meta::Txn txn) {
  VMS_CO_CHECK(meta::check_txn(txn));
  VMS_CO_TRY(const auto pass, gate_.enter());
  if (lost_) co_return Errc::unknown;
  etcd::TxnText inner;
  for (const meta::Compare& compare : txn.compares) {
    inner.compares.push_back(numbers_.compare_of(compare));
  }
  inner.success = etcd::list_ops(txn.then_ops);
  inner.failure = etcd::list_ops(txn.else_ops);
  std::vector<std::string> ops;
  ops.push_back(etcd::txn_op(etcd::txn_text(inner)));
  const bool changes = !txn.then_ops.empty() || !txn.else_ops.empty();
  const auto kind = changes ? EtcdCalls::Kind::change : EtcdCalls::Kind::read;
  VMS_CO_TRY(const auto reply, co_await ask(std::move(ops), kind));
  VMS_CO_TRY(const etcd::TxnReply* const done, inner_of(reply, 1));
  meta::TxnAnswer answer;
  answer.held = done->succeeded;
  const bool changed = !(answer.held ? txn.then_ops : txn.else_ops).empty();
  const auto revision = changed ? numbers_.ours(reply.revision) : newest_in(done->ops.front());
  if (!revision) co_return Errc::unknown;
  answer.revision = *revision;
  note(answer.revision);
  co_return answer;
}

Task<Result<meta::RangeAnswer>> MetaEtcd::range(meta::RangeRequest request) {
  VMS_CO_CHECK(meta::check_range(request));
  VMS_CO_TRY(const auto pass, gate_.enter());
  if (lost_) co_return Errc::unknown;
  std::uint32_t limit = request.limit;
  while (true) {
    auto answer = co_await range_part(request, limit);
    if (answer) note(answer->revision);
    // etcd counts entries, not bytes: large ones are asked for in fewer at a time.
    const bool too_large = !answer && answer.error() == Errc::no_space;
    if (!too_large || limit <= kSmallRange) co_return answer;
    limit = std::max(kSmallRange, limit / 8);
  }
}

/// Not stale, as read_now(): whole catalogues are compared by it.
Task<Result<meta::RangeAnswer>> MetaEtcd::range_part(meta::RangeRequest request,
                                                     std::uint32_t limit) {
  if (request.revision != 0 && request.revision < numbers_.base()) co_return Errc::compacted;
  etcd::Range range = etcd::data_range(request, limit);
  etcd::TxnText inner;
  inner.success.push_back(etcd::range_op(range));
  inner.success.push_back(newest_op());
  if (request.revision != 0) {
    // The newest revision is read as of now: what others do in that etcd may have made etcd forget
    // what it looked like then.
    range.revision = numbers_.theirs(request.revision);
    const bool is_base = request.revision == numbers_.base();
    inner.compares.push_back(is_base ? etcd::is_absent(etcd::kChangeKey)
                                     : etcd::revision_is(etcd::kChangeKey, range.revision));
    inner.failure.push_back(etcd::range_op(range));
    inner.failure.push_back(newest_op());
  }
  std::vector<std::string> ops;
  ops.push_back(etcd::txn_op(etcd::txn_text(inner)));
  VMS_CO_TRY(const auto reply, co_await ask(std::move(ops), EtcdCalls::Kind::read));
  VMS_CO_TRY(const etcd::TxnReply* const part, inner_of(reply, 2));
  meta::RangeAnswer answer;
  VMS_CO_TRY(const std::uint64_t newest, newest_in(part->ops[1]));
  if (request.revision > newest) co_return Errc::unknown;
  answer.revision = request.revision == 0 ? newest : request.revision;
  answer.more = part->ops[0].more;
  meta::RangeBudget budget(request);
  std::string last = request.after;
  for (const etcd::Kv& kv : part->ops[0].kvs) {
    if (!kv.key.starts_with(etcd::kDataPrefix)) co_return Errc::unknown;
    meta::Entry entry;
    entry.key = kv.key.substr(etcd::kDataPrefix.size());
    entry.value = kv.value;
    VMS_CO_TRY(entry.mod_revision, numbers_.ours(kv.mod_revision));
    if (entry.key <= last || !entry.key.starts_with(request.prefix)) co_return Errc::unknown;
    last = entry.key;
    if (!budget.take(entry)) {
      answer.more = true;
      break;
    }
    answer.entries.push_back(std::move(entry));
  }
  if (answer.more && answer.entries.empty()) co_return Errc::unknown;
  co_return answer;
}

/// Not stale: an inner transaction goes through etcd's log like a change. `foreign_store`: the head
/// is certainly gone, or another.
Task<Result<MetaEtcd::Now>> MetaEtcd::read_now() {
  etcd::TxnText inner;
  inner.success.push_back(newest_op());
  std::vector<std::string> ops;
  ops.push_back(etcd::txn_op(etcd::txn_text(inner)));
  VMS_CO_TRY(const auto reply, co_await ask_of_head(std::move(ops), EtcdCalls::Kind::read));
  VMS_CO_TRY(const etcd::TxnReply* const done, inner_of(reply, 1));
  Now now;
  VMS_CO_TRY(now.revision, newest_in(done->ops.front()));
  now.change_at = numbers_.theirs(now.revision);
  now.etcd = std::max(reply.revision, now.change_at);
  co_return now;
}

// ---- watches ----

bool MetaEtcd::is_told(std::uint64_t revision) const {
  if (revision < numbers_.base()) return true;
  const std::uint64_t at = numbers_.theirs(revision);
  return std::all_of(followers_.begin(), followers_.end(), [at](const auto& weak) {
    const auto follower = weak.lock();
    return follower == nullptr || follower->ended || follower->reader.next() > at;
  });
}

Task<Result<std::unique_ptr<meta::Watch>>> MetaEtcd::watch(std::string prefix,
                                                           std::uint64_t from_revision,
                                                           WatchCallback callback) {
  VMS_CO_CHECK(meta::check_prefix(prefix));
  VMS_CO_TRY(auto pass, gate_.enter());
  if (lost_) co_return Errc::unknown;
  const auto looked = co_await read_now();
  if (!looked) co_return looked.error() == Errc::foreign_store ? Errc::unknown : looked.error();
  const Now now = *looked;
  note(now.revision);
  if (from_revision > now.revision + 1) co_return Errc::unknown;
  const bool of_past = from_revision != 0 && from_revision <= now.revision;
  if (of_past && from_revision < numbers_.base()) co_return Errc::compacted;
  const std::uint64_t from = of_past ? numbers_.theirs(from_revision) : now.etcd + 1;
  const auto follower =
      std::make_shared<Follower>(numbers_, std::move(prefix), from, std::move(callback));
  VMS_CO_CHECK(co_await begin_stream(follower));
  // After the beginning: what is there now was there all the time, and is being sent.
  if (of_past) VMS_CO_CHECK(co_await check_past(from - 1));
  if (stop_.is_set()) co_return Errc::closing;
  followers_.remove_if([](const auto& weak) { return weak.expired(); });
  followers_.push_back(follower);
  if (!std::exchange(polling_, true)) {
    VMS_CO_TRY(auto poll_pass, gate_.enter());
    io_.spawn(poll(std::move(poll_pass)));
  }
  std::unique_ptr<meta::Watch> handle = std::make_unique<Handle>(follower);
  io_.spawn(follow(follower, std::move(pass)));
  co_return handle;
}

/// A stream of everything from the follower's next revision on.
Task<Result<void>> MetaEtcd::begin_stream(FollowerPtr follower) {
  etcd::Range range;
  range.key = etcd::kRoot;
  range.end = etcd::prefix_end(std::string(etcd::kRoot));
  range.revision = follower->reader.next();
  VMS_CO_TRY(auto stream, co_await calls_.begin(kWatchTarget, etcd::watch_text(range)));
  const auto line = co_await stream->next_line(io_.now() + kWatchBegins);
  if (!line) {
    calls_.prefer_another();
    co_return line.error();
  }
  const auto reply = etcd::parse_watch_reply(*line);
  if (!reply) co_return Errc::unknown;
  if (reply->canceled && reply->compact_revision != 0) co_return Errc::compacted;
  if (reply->canceled || !reply->created) co_return Errc::unavailable;
  follower->stream = std::move(stream);
  if (follower->ended) follower->stream->close();
  co_return success();
}

/// `compacted`: some of what changed behind that revision of etcd is gone.
Task<Result<void>> MetaEtcd::check_past(std::uint64_t etcd_revision) {
  if (etcd_revision == 0) co_return success();  // from the first one on: 0 would be "now"
  etcd::Range one;
  one.key = etcd::kHeadKey;
  one.revision = etcd_revision;
  std::vector<std::string> ops;
  ops.push_back(etcd::range_op(one));
  VMS_CO_CHECK(co_await ask(std::move(ops), EtcdCalls::Kind::read));
  co_return success();
}

Task<void> MetaEtcd::follow(FollowerPtr follower, Gate::Pass /*pass*/) {
  while (!follower->ended && !stop_.is_set()) {
    const auto line = co_await follower->stream->next_line(std::nullopt);
    const auto taken = line ? take(*follower, *line) : Result<void>(line.error());
    if (!taken) co_await resume(follower, taken.error());
  }
}

/// Tells what a line of the stream says.
Result<void> MetaEtcd::take(Follower& follower, const std::string& line) {
  VMS_TRY(const auto reply, etcd::parse_watch_reply(line));
  if (reply.canceled) {
    const bool compacted = reply.compact_revision != 0;
    VMS_LOG(warning, "etcd", "a watch was ended by etcd: " << reply.reason);
    return compacted ? Errc::compacted : Errc::unavailable;
  }
  VMS_TRY(const auto events, follower.reader.take(reply));
  for (const meta::Event& event : events) {
    if (follower.ended) break;
    note(event.entry.mod_revision);
    follower.callback(event);
  }
  return success();
}

/// Gets the watch a new stream, for as long as that takes.
Task<void> MetaEtcd::resume(FollowerPtr follower, Error error) {
  follower->stream->close();
  const auto is_wanted = [&] { return !follower->ended && !stop_.is_set() && !lost_; };
  if (error == Errc::foreign_store) lose("the catalogue in etcd was replaced");
  while (is_wanted()) {
    follower->reader.skip_to(0);  // of a revision that was under way
    if (error == Errc::compacted) {
      const auto passed = co_await pass_gap(follower);
      if (!passed) error = passed.error();
    }
    const auto begun = co_await begin_stream(follower);
    if (begun) co_return;
    error = begun.error();
    co_await sleep_for(io_, kResumePause);
  }
  follower->end();
}

/// What follows next is compacted away. Nothing of ours, if nothing of ours changed since.
Task<Result<void>> MetaEtcd::pass_gap(FollowerPtr follower) {
  VMS_CO_TRY(const Now now, co_await read_now());
  const bool missed = now.change_at >= follower->reader.next();
  follower->reader.skip_to(now.etcd + 1);
  if (!missed) co_return success();
  VMS_LOG(warning, "etcd", "changes up to " << now.revision << " are compacted away, unseen");
  meta::Event gap;
  gap.entry.mod_revision = now.revision;
  gap.gap = true;
  note(now.revision);
  if (!follower->ended) follower->callback(gap);
  co_return success();
}

/// Looks whether etcd has gone back, and whether a stream has fallen silent.
Task<void> MetaEtcd::poll(Gate::Pass /*pass*/) {
  while (!stop_.is_set() && !lost_) {
    const bool stopped = co_await stop_.wait_until(io_.now() + kPollPause);
    if (stopped) break;
    const std::uint64_t before = newest_;
    const auto now = co_await read_now();
    if (!now && now.error() == Errc::foreign_store) {
      lose("the catalogue in etcd is gone, or another one is in its place");
    }
    if (now && now->revision < before) lose("etcd has gone back to an older state");
    look_at_followers(now ? *now : Now());
  }
}

void MetaEtcd::look_at_followers(const Now& now) {
  const auto followers = followers_;
  for (const auto& weak : followers) {
    const auto follower = weak.lock();
    if (follower == nullptr || follower->ended) continue;
    const std::uint64_t next = follower->reader.next();
    const bool is_behind = next <= now.change_at;
    // Behind at two looks without one step.
    if (lost_ || (is_behind && follower->next_at_poll == next)) follower->stream->close();
    follower->next_at_poll = next;
  }
}

}  // namespace vmstore::net
