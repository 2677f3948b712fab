// SPDX-License-Identifier: Apache-2.0
// The disks of a boot storm: clones of one snapshot, each attached through the supervisor, all
// removed again.
//
// Invariants: whatever was made or attached is undone when the object goes, also after a failure or
// an interrupt; what cannot be undone is told by name.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "cli/boot_trace.h"
#include "cli/context.h"

namespace vmstore::cli {

/// THREADS: one.
class StormDisks {
 public:
  explicit StormDisks(Context& context) : context_(context) {}
  StormDisks(const StormDisks&) = delete;
  StormDisks& operator=(const StormDisks&) = delete;
  ~StormDisks() { remove(); }

  struct Served {
    std::string name;
    std::string uri;
  };

  /// `count` clones of `source` (NAME or NAME@SNAP); when it is empty, of a disk made for it, with
  /// noise wherever the trace reads.
  [[nodiscard]] Answer<void> make(const std::string& source,
                                  const BootTrace& trace,
                                  std::uint64_t count);
  /// Serves them all and waits until each answers.
  [[nodiscard]] Answer<void> attach();
  void remove();

  [[nodiscard]] const std::vector<Served>& served() const noexcept { return served_; }
  [[nodiscard]] std::chrono::nanoseconds clone_time() const noexcept { return clone_time_; }
  [[nodiscard]] std::chrono::nanoseconds attach_time() const noexcept { return attach_time_; }

  struct Processes {
    pid_t node = 0;              // 0: not on this host's supervisor
    std::vector<pid_t> servers;  // nbdkit's, of our clones
  };
  [[nodiscard]] Answer<Processes> processes() const;

 private:
  /// What killed storms left: exports and disks.
  void sweep(disk::Client& client);
  [[nodiscard]] Answer<std::string> make_base(disk::Client& client, const BootTrace& trace);
  [[nodiscard]] Answer<void> check_server(const std::string& name) const;

  Context& context_;
  std::string prefix_;
  std::vector<std::string> made_;      // disks to remove
  std::vector<std::string> attached_;  // exports to detach
  std::vector<std::string> clones_;
  std::vector<Served> served_;
  std::chrono::nanoseconds clone_time_{0};
  std::chrono::nanoseconds attach_time_{0};
};

/// Waits for `count` servers one after the other, for each at most `wait` from when the one before
/// it answered: a thousand that come up one by one are not too late, one that hangs is. `probe`
/// waits for the server of that number until the deadline.
using ServerProbe =
    std::function<Answer<void>(std::size_t number, std::chrono::steady_clock::time_point deadline)>;
[[nodiscard]] Answer<void> wait_for_servers(std::size_t count,
                                            std::chrono::milliseconds wait,
                                            const ServerProbe& probe);

/// The byte ranges that the trace reads, sorted, without overlaps, in whole blocks of the disk.
struct ByteRange {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};
[[nodiscard]] std::vector<ByteRange> read_ranges(const BootTrace& trace);

}  // namespace vmstore::cli
