// SPDX-License-Identifier: Apache-2.0
#include "net/etcd_root.h"

#include <utility>
#include <vector>

#include "base/log.h"

namespace vmstore::net {
namespace {

constexpr const char* kTarget = "/v3/kv/txn";
constexpr std::size_t kOpsAtOnce = 100;                   // etcd takes 128
constexpr std::size_t kBytesAtOnce = 512 * limits::kKiB;  // etcd takes 1.5 MiB of a request
constexpr int kAttempts = 5;

Task<Result<etcd::TxnReply>> post(EtcdCalls& calls, etcd::TxnText txn, EtcdCalls::Kind kind) {
  VMS_CO_TRY(const std::string text, co_await calls.post(kTarget, etcd::txn_text(txn), kind));
  auto reply = etcd::parse_txn_reply(text);
  if (!reply) co_return Errc::unknown;
  co_return reply;
}

std::string root_end() {
  return etcd::prefix_end(std::string(etcd::kRoot));
}

/// Does `txn` until it is known whether its compares held.
Task<Result<bool>> decide(EtcdCalls& calls, etcd::TxnText txn) {
  Error error = Errc::timed_out;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const auto reply = co_await post(calls, txn, EtcdCalls::Kind::change);
    if (reply) co_return reply->succeeded;
    error = reply.error();
    if (!meta::is_outcome_unknown(error)) break;
  }
  co_return error;
}

std::string key_of(const meta::Entry& entry) {
  return etcd::data_key(entry.key);
}

/// Puts all entries, guarded by `making`. `exists`: it is another's by now.
Task<Result<void>> put_entries(EtcdCalls& calls, const meta::Image& image, std::string making) {
  std::vector<std::string> ops;
  std::size_t bytes = 0;
  auto next = image.entries.begin();
  while (next != image.entries.end() || !ops.empty()) {
    const bool at_end = next == image.entries.end();
    const std::size_t more = at_end ? 0 : next->second.key.size() + next->second.value.size();
    if (at_end || ops.size() >= kOpsAtOnce || (!ops.empty() && bytes + more > kBytesAtOnce)) {
      etcd::TxnText txn;
      txn.compares.push_back(etcd::value_is(etcd::kMakingKey, making));
      txn.success = std::exchange(ops, {});
      bytes = 0;
      // Putting the same again is no harm.
      VMS_CO_TRY(const bool held, co_await decide(calls, std::move(txn)));
      if (!held) co_return Errc::exists;
      continue;
    }
    ops.push_back(etcd::put_op(key_of(next->second), next->second.value));
    bytes += more;
    ++next;
  }
  co_return success();
}

/// Leaves nothing but `making` there. `held`: false when something else is there than `instead_of`.
Task<Result<bool>> begin_making(EtcdCalls& calls,
                                EtcdRoot root,
                                std::string making,
                                std::optional<std::string> instead_of) {
  etcd::TxnText txn;
  if (root.making) {
    txn.compares.push_back(etcd::value_is(etcd::kMakingKey, making));
  } else if (instead_of) {
    txn.compares.push_back(etcd::value_is(etcd::kHeadKey, *instead_of));
  } else {
    txn.compares.push_back(etcd::none_between(etcd::kRoot, root_end()));
  }
  // A transaction may not touch a key twice: everything below and above kMakingKey.
  const std::string behind = std::string(etcd::kMakingKey) + '\0';
  txn.success.push_back(etcd::remove_range_op(etcd::kRoot, etcd::kMakingKey));
  txn.success.push_back(etcd::remove_range_op(behind, root_end()));
  txn.success.push_back(etcd::put_op(etcd::kMakingKey, making));
  const auto reply = co_await post(calls, std::move(txn), EtcdCalls::Kind::change);
  if (!reply) co_return reply.error();
  co_return reply->succeeded;
}

}  // namespace

Task<Result<EtcdRoot>> read_etcd_root(EtcdCalls& calls) {
  etcd::Range head;
  head.key = etcd::kHeadKey;
  etcd::Range making;
  making.key = etcd::kMakingKey;
  etcd::TxnText inner;
  inner.success.push_back(etcd::range_op(head));
  inner.success.push_back(etcd::range_op(making));
  etcd::TxnText txn;  // an inner transaction goes through etcd's log like a change
  txn.success.push_back(etcd::txn_op(etcd::txn_text(inner)));
  VMS_CO_TRY(const auto reply, co_await post(calls, std::move(txn), EtcdCalls::Kind::read));
  if (reply.ops.empty() || reply.ops.front().txn.empty()) co_return Errc::unknown;
  const auto& ops = reply.ops.front().txn.front().ops;
  if (ops.size() != 2) co_return Errc::unknown;
  EtcdRoot root;
  if (!ops[0].kvs.empty()) {
    root.head = ops[0].kvs.front().value;
    root.head_at = ops[0].kvs.front().mod_revision;
  }
  if (!ops[1].kvs.empty()) root.making = ops[1].kvs.front().value;
  co_return root;
}

Task<Result<void>> make_etcd_catalogue(EtcdCalls& calls, etcd::Head head) {
  etcd::TxnText txn;
  txn.compares.push_back(etcd::none_between(etcd::kRoot, root_end()));
  txn.success.push_back(etcd::put_op(etcd::kHeadKey, etcd::encode_head(head)));
  VMS_CO_TRY(const bool made, co_await decide(calls, std::move(txn)));
  if (made) co_return success();
  // Ours, if an answer was lost.
  VMS_CO_TRY(const EtcdRoot root, co_await read_etcd_root(calls));
  if (root.head && *root.head == etcd::encode_head(head)) co_return success();
  co_return Errc::exists;
}

Task<Result<void>> fill_etcd_catalogue(EtcdCalls& calls,
                                       etcd::Head head,
                                       const meta::Image& image,
                                       std::optional<std::string> instead_of) {
  const std::string wanted = etcd::encode_head(head);
  VMS_CO_TRY(const EtcdRoot root, co_await read_etcd_root(calls));
  if (root.head && *root.head == wanted) co_return success();
  if (root.making && *root.making != wanted) co_return Errc::exists;
  if (root.head && root.head != instead_of) co_return Errc::exists;
  if (!root.head) instead_of.reset();
  VMS_CO_TRY(const bool begun, co_await begin_making(calls, root, wanted, instead_of));
  if (!begun) co_return Errc::exists;
  VMS_CO_CHECK(co_await put_entries(calls, image, wanted));
  etcd::TxnText last;
  last.compares.push_back(etcd::value_is(etcd::kMakingKey, wanted));
  last.success.push_back(etcd::put_op(etcd::kHeadKey, wanted));
  last.success.push_back(etcd::remove_op(etcd::kMakingKey));
  VMS_CO_TRY(const bool done, co_await decide(calls, std::move(last)));
  if (done) co_return success();
  VMS_CO_TRY(const EtcdRoot now, co_await read_etcd_root(calls));
  if (now.head && *now.head == wanted) co_return success();
  co_return Errc::exists;
}

}  // namespace vmstore::net
