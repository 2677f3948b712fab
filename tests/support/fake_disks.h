// SPDX-License-Identifier: Apache-2.0
// FakeStore: disks in memory behind the interfaces of disk/disk.h, for the tests of front ends.
//
// It keeps what a front end may ask for and counts what a test wants to know; it has no tokens, no
// batches and no node. Blocks of 4 KiB that are all zero take no space, as in the real one.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "disk/disk.h"

namespace vmstore::test {

using FakeBlock = std::array<std::byte, 4096>;

/// A disk or a snapshot.
struct FakeImage {
  DiskId id;
  std::uint64_t size_bytes = 0;
  std::uint64_t created_ns = 0;
  std::map<std::uint64_t, FakeBlock> blocks;
};

/// THREADS: any.
class FakeStore {
 public:
  /// A session; any number may be open at once.
  [[nodiscard]] static std::unique_ptr<disk::Client> client(std::shared_ptr<FakeStore> store);

  void add(const std::string& name, std::uint64_t size_bytes);

  std::mutex mutex;
  std::map<std::string, FakeImage> images;  // by NAME or NAME@SNAP
  std::uint64_t next_id = 1;

  // What happened.
  int opened = 0;
  int closed = 0;
  int flushed = 0;
  int fua_writes = 0;
  int listed = 0;
  std::vector<bool> connected;  // each call of set_connected
  std::vector<disk::DiskOpenOptions> open_options;

  bool outdated = false;  // what every open disk says of itself

  /// Called at the start of each request, without the mutex: to block one or to make one fail.
  std::function<Result<void>(const char* what)> before_request;
};

}  // namespace vmstore::test
