// SPDX-License-Identifier: Apache-2.0
// WritePool: buffers on their way into a disk, written by a few threads.
//
// Invariants: as many buffers as were made, so memory is bounded; after the first failed write no
// other begins, and finish() tells it.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "cli/failure.h"
#include "disk/disk.h"

namespace vmstore::cli {

struct CopyBuffer {
  explicit CopyBuffer(std::size_t bytes) : storage(bytes) {}
  std::vector<std::byte> storage;
  std::uint64_t offset = 0;  // in the disk
  std::size_t used = 0;
};

/// THREADS: one producer.
class WritePool {
 public:
  static constexpr std::size_t kBufferBytes = std::size_t{1} << 20;

  WritePool(disk::BlockingDisk& disk, std::string name, std::size_t threads, std::size_t buffers);
  WritePool(const WritePool&) = delete;
  WritePool& operator=(const WritePool&) = delete;
  ~WritePool();

  /// An unused buffer; waits for one. Null after a write failed.
  [[nodiscard]] CopyBuffer* take();
  /// The same without waiting; null when all are in use, too.
  [[nodiscard]] CopyBuffer* try_take();
  /// Writes `used` bytes at `offset`, later.
  void submit(CopyBuffer* buffer);
  /// Gives a buffer back unwritten.
  void give_back(CopyBuffer* buffer);
  /// Waits for every write; the first failure.
  [[nodiscard]] Answer<void> finish();
  [[nodiscard]] bool has_failed();

 private:
  void run();

  disk::BlockingDisk& disk_;
  std::string name_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::unique_ptr<CopyBuffer>> buffers_;
  std::vector<CopyBuffer*> free_;
  std::deque<CopyBuffer*> queue_;
  std::size_t writing_ = 0;
  bool closing_ = false;
  std::optional<Error> error_;
  std::vector<std::thread> threads_;
};

}  // namespace vmstore::cli
