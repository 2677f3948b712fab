// SPDX-License-Identifier: Apache-2.0
// EtcdClient: a process that has a catalogue in an etcd: its thread, its MetaEtcd.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "meta/meta_store.h"
#include "net/block_on.h"
#include "net/etcd_root.h"
#include "net/io_thread.h"
#include "net/meta_etcd.h"

namespace vmstore::net::test {

inline EtcdOptions options_for(const std::vector<std::string>& endpoints) {
  EtcdOptions options;
  for (const std::string& each : endpoints) options.endpoints.push_back(Endpoint{each});
  return options;
}

/// Runs one task over calls of its own.
template <class T>
Task<T> with_calls(IoThread& io, EtcdOptions options, std::function<Task<T>(EtcdCalls&)> function) {
  EtcdCalls calls(io, std::move(options));
  co_return co_await function(calls);
}

inline Task<bool> poll_until(IoThread& io, std::function<bool()> done, Duration at_most) {
  const TimePoint deadline = io.now() + at_most;
  while (!done()) {
    if (io.now() >= deadline) co_return false;
    co_await sleep_for(io, std::chrono::milliseconds(2));
  }
  co_return true;
}

/// THREADS: one, which is not its own.
class EtcdClient {
 public:
  explicit EtcdClient(std::vector<std::string> endpoints) : endpoints_(std::move(endpoints)) {}
  EtcdClient(const EtcdClient&) = delete;
  EtcdClient& operator=(const EtcdClient&) = delete;
  ~EtcdClient() { end(); }

  /// Makes an empty catalogue.
  [[nodiscard]] Result<void> make(etcd::Head head = etcd::Head{1, 7}) {
    return ask<Result<void>>([head](EtcdCalls& calls) { return make_etcd_catalogue(calls, head); });
  }
  [[nodiscard]] Result<void> open() {
    auto opened = block_on(*io_, MetaEtcd::open(*io_, options()));
    if (!opened) return opened.error();
    store_ = std::move(*opened);
    return success();
  }
  /// In order.
  void end() {
    if (store_ != nullptr) block_on(*io_, store_->close());
    drop();
  }
  /// As a process that is killed.
  void drop() {
    io_->stop();
    store_ = nullptr;
    io_ = std::make_unique<IoThread>("etcd-client");
  }

  template <class T>
  [[nodiscard]] T ask(std::function<Task<T>(EtcdCalls&)> function) {
    return block_on(*io_, with_calls<T>(*io_, options(), std::move(function)));
  }
  template <class T>
  [[nodiscard]] T run(Task<T> task) {
    return block_on(*io_, std::move(task));
  }
  void call(const std::function<void()>& function) {
    if (io_->is_own_thread()) return function();
    block_on(*io_, called(function));
  }
  [[nodiscard]] bool run_until(std::function<bool()> done,
                               Duration at_most = std::chrono::seconds(30)) {
    return run(poll_until(*io_, std::move(done), at_most));
  }
  [[nodiscard]] IoThread& io() { return *io_; }
  [[nodiscard]] MetaEtcd& store() { return *store_; }
  [[nodiscard]] EtcdOptions options() const { return options_for(endpoints_); }

  [[nodiscard]] Result<meta::TxnAnswer> put(const std::string& key, const std::string& value) {
    meta::Txn txn;
    txn.then_ops.push_back(meta::Op{key, value});
    return run(store().txn(std::move(txn)));
  }
  [[nodiscard]] Result<meta::GetAnswer> get(const std::string& key) {
    return run(store().get(key));
  }
  /// Gives up etcd's history below this revision of etcd.
  void compact_etcd(std::uint64_t etcd_revision) {
    const std::string body =
        "{\"revision\":\"" + std::to_string(etcd_revision) + "\",\"physical\":true}";
    const auto done = ask<Result<std::string>>([body](EtcdCalls& calls) {
      return calls.post("/v3/kv/compaction", body, EtcdCalls::Kind::read);
    });
    VMS_ASSERT(done || done.error() == Errc::compacted);
  }

 private:
  static Task<void> called(std::function<void()> function) {
    function();
    co_return;
  }
  std::vector<std::string> endpoints_;
  std::unique_ptr<IoThread> io_ = std::make_unique<IoThread>("etcd-client");
  std::unique_ptr<MetaEtcd> store_;
};

}  // namespace vmstore::net::test
