// SPDX-License-Identifier: Apache-2.0
// A simulated machine with one BlockStore: the files stay, processes come and go. And KeyModel:
// what an owner knows of a key, to make its next append and to compare what is there.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "storaged/block_store.h"
#include "tests/support/crash_points.h"
#include "tests/support/memory_files.h"
#include "tests/support/sim_worker_pool.h"
#include "tests/support/virtual_scheduler.h"

namespace vmstore::storaged {

inline constexpr Incarnation kNode{1, 2};
inline constexpr DiskId kDisk{7, 7};

inline KeyId key_number(std::uint64_t n) {
  return *KeyId::make(KeyId::kFirst + n);
}

/// Blocks with recognizable content: equal seeds give equal bytes.
wire::Payload make_blocks(std::size_t count, std::uint64_t seed);

/// What the owner of a key knows.
class KeyModel {
 public:
  explicit KeyModel(KeyId key, Epoch token = Epoch(1), Sequence first = Sequence(1));
  [[nodiscard]] KeyId key() const noexcept { return key_; }
  [[nodiscard]] std::vector<std::byte> header_record() const;
  [[nodiscard]] const KeyLength& length() const noexcept { return length_; }
  void set_token(Epoch token) noexcept { token_ = token; }
  [[nodiscard]] Epoch token() const noexcept { return token_; }

  /// The next append; the model then counts it in.
  AppendRequest next(std::size_t blocks, std::uint64_t seed, Sequence committed = Sequence());
  /// Forgets what lies behind `length`.
  void cut(const KeyLength& length);

  struct Record {
    KeyLength start;
    KeyLength end;
    std::vector<std::byte> bytes;
    std::uint64_t seed = 0;
  };
  [[nodiscard]] const std::vector<Record>& records() const noexcept { return records_; }

 private:
  KeyId key_;
  Epoch token_;
  Sequence first_;
  KeyLength length_;
  std::vector<Record> records_;
};

class Machine {
 public:
  explicit Machine(std::uint64_t seed = 1, std::uint64_t capacity = sim::MemoryFiles::kUnlimited);
  ~Machine();

  /// Starts a process and opens the store.
  Result<void> start();
  /// Starts a process and opens the store; ends the test program when that fails.
  void start_well();
  /// Closes the store and ends the process in order.
  void stop();
  /// Ends the process as it is; what was not synced may be lost.
  void power_cut();
  /// Ends the process as it is; the host lives.
  void kill();
  [[nodiscard]] BlockStore& store() { return *store_; }
  [[nodiscard]] bool runs() const noexcept { return store_ != nullptr; }

  template <class T>
  T run(Task<T> task) {
    return sim::run(*process_, std::move(task));
  }

  Result<KeyState> create(const KeyModel& key, bool shared = false);
  Result<KeyLength> append(AppendRequest request);
  /// Appends and expects success.
  void append_well(KeyModel& key, std::size_t blocks, std::uint64_t seed);
  Result<BlockStore::Fenced> fence(const KeyModel& key, Epoch token);
  Result<ReadAnswer> read(KeyId key, std::uint64_t first, std::uint32_t blocks);
  /// The error of reading one block, or `ok`.
  Errc read_error(KeyId key, std::uint64_t block);
  /// Empty when the first `records` records of the model are there byte for byte.
  std::string compare(const KeyModel& key, std::size_t records);

  sim::World world;
  sim::MemoryFiles files;
  BlockStoreOptions options;
  Incarnation incarnation = kNode;  // of the processes that are started from here on
  /// Called with each new process before it opens the store.
  std::function<void(sim::VirtualScheduler&)> on_process;
  [[nodiscard]] sim::VirtualScheduler& process() { return *process_; }
  [[nodiscard]] sim::SimWorkerPool& pool() { return *pool_; }

 private:
  void end_process();
  std::unique_ptr<sim::VirtualScheduler> process_;
  std::unique_ptr<sim::SimWorkerPool> pool_;
  std::unique_ptr<BlockStore> store_;
};

}  // namespace vmstore::storaged
