// SPDX-License-Identifier: Apache-2.0
// Model: one seeded run of a whole store against an oracle: random requests, snapshots, clones,
// rollbacks, resizes, removals, garbage collection, and deaths of client and node at any point.
//
// Invariant: everything random comes from the world's Random; so a seed is a run.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "disk/async_disk.h"
#include "tests/sim/disk_oracle.h"
#include "tests/sim/sim_store.h"
#include "tests/support/crash_points.h"

namespace vmstore::sim {

/// What this seed does at all: many runs have most faults off, so that each is seen alone.
struct Swarm {
  bool same_host = false;
  bool node_dies = false;
  bool client_dies = false;
  bool power_fails = false;  // else processes are killed only
  bool connections_break = false;
  bool batch_room = true;
  bool snapshots = false;
  bool clones = false;
  bool resizes = false;
  bool rollbacks = false;
  bool removals = false;
  bool collections = false;
  bool space_is_short = false;
  std::uint64_t disk_blocks_max = 64;
  std::uint64_t steps = 60;
};
[[nodiscard]] Swarm draw_swarm(Random& random);

/// Taken between requests: what a snapshot taken beside some contains is the promises' (S3, N4).
struct SnapshotModel {
  Content content;
};

struct ModelDisk {
  std::string name;
  DiskOracle oracle;
  std::map<std::string, SnapshotModel> snapshots;
  disk::AsyncDiskOptions options;
  std::shared_ptr<disk::AsyncDisk> open;
  bool clean = true;               // given back in order since it was last used
  std::optional<Death> died;       // its contents are to be settled at the next open
  std::optional<Content> either;   // it may also hold this: a command of unknown outcome
  bool snapshots_unknown = false;  // some may be gone: a purge of unknown outcome
};

class Model {
 public:
  explicit Model(std::uint64_t seed, bool verbose = false);
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;
  ~Model();

  /// One run. Empty: all promises held.
  [[nodiscard]] std::optional<std::string> run();
  /// Equal for two runs of one seed.
  [[nodiscard]] std::uint64_t trace_hash() const;
  struct Counters {
    std::uint64_t requests = 0;
    std::uint64_t node_deaths = 0;
    std::uint64_t client_deaths = 0;
    std::uint64_t power_cuts = 0;
  };
  [[nodiscard]] const Counters& counters() const noexcept { return counters_; }
  [[nodiscard]] const CrashPoints& points() const noexcept { return points_; }

 private:
  /// A command whose outcome is not known because the client died in it.
  struct Uncertain {
    enum class Kind {
      create,
      snapshot,
      remove_snapshot,
      clone,
      rename,
      remove,
      restore,
      purge,
      rollback,
      resize,
    };
    Kind kind = Kind::create;
    std::string disk;
    std::string other;
    std::vector<std::string> names;  // of clones
    SnapshotModel snapshot;          // what the command would make of it
  };
  struct Request;
  class ReadBytes;

  // model.cc: processes, time, deaths
  void fail(const std::string& text);
  [[nodiscard]] bool failed() const noexcept { return failure_.has_value(); }
  void say(const std::string& text) const;
  [[nodiscard]] Random& random() noexcept { return world_.random(); }
  [[nodiscard]] bool chance(std::uint64_t percent) { return random().below(100) < percent; }
  /// Runs until `done`, restarting the node when it dies. False when the client died or the run
  /// failed.
  bool drive(const std::function<bool()>& done, const char* what);
  /// Waits for a task of the client.
  template <class T>
  std::optional<T> await(Task<T> task, const char* what);
  void revive_node();
  void plan_death();
  void cancel_deaths();
  /// Restarts the dead client, finds out what became of the command under way.
  void revive_client();
  void restart_client();
  void find_out();
  void bury_client(Death death);
  [[nodiscard]] bool start_all();

  // model_requests.cc: reading and writing
  void step();
  [[nodiscard]] ModelDisk* pick_disk();
  [[nodiscard]] bool ensure_open(ModelDisk& disk);
  [[nodiscard]] bool close(ModelDisk& disk);
  void burst(ModelDisk& disk);
  void flush(ModelDisk& disk);
  void forced_write(ModelDisk& disk);
  void rest();
  void pass_time(Duration pause);
  void break_connections();
  void maintain(ModelDisk& disk);
  [[nodiscard]] std::vector<std::byte> draw_bytes(std::size_t count);
  struct Range {
    std::uint64_t offset = 0;
    std::uint64_t bytes = 0;
  };
  [[nodiscard]] Range draw_range(const ModelDisk& disk, std::uint64_t bytes_max);
  [[nodiscard]] static Task<Result<void>> start_request(ModelDisk& disk, Request& request);
  [[nodiscard]] static std::string describe(const Request& request);
  [[nodiscard]] Request draw_request(const ModelDisk& disk, const std::vector<Request>& others);
  void check_read(const ModelDisk& disk, const Request& request);
  void check_extents(const ModelDisk& disk, const Request& request);
  /// Reads all of an open disk and settles what is there.
  [[nodiscard]] bool verify(ModelDisk& disk);
  void choose(ModelDisk& disk, const ReadBytes& source, std::uint64_t size);
  [[nodiscard]] bool tolerates(const Error& error) const;

  // model_commands.cc: everything else
  void create_disk();
  void take_snapshot(ModelDisk& disk);
  void read_snapshot(ModelDisk& disk);
  void remove_snapshot(ModelDisk& disk);
  void clone_disk(ModelDisk& disk);
  void roll_back(ModelDisk& disk);
  void resize(ModelDisk& disk);
  void rename(ModelDisk& disk);
  void remove_disk(ModelDisk& disk);
  void restore_disk();
  void collect_garbage();
  [[nodiscard]] bool settle(ModelDisk& disk);
  void settle_either(ModelDisk& disk, const Content& other);
  void note_renamed(const std::string& from, const std::string& to);
  void note_made(const std::string& name, const Content& content);
  [[nodiscard]] bool is_lost(const Error& error) const;
  void find_out_now(const Uncertain& uncertain);
  void apply_uncertain(const Uncertain& command,
                       const std::map<std::string, std::uint64_t>& disks,
                       const std::map<std::string, std::set<std::string>>& snapshots,
                       const std::multiset<std::string>& trash);
  void check_catalogue_is(const std::map<std::string, std::uint64_t>& disks,
                          const std::map<std::string, std::set<std::string>>& snapshots,
                          const std::multiset<std::string>& trash);
  /// Deletes everything; nothing may be left.
  void leave_nothing();
  [[nodiscard]] std::string fresh_name(const char* kind);
  /// Tries a command again while it answers busy.
  [[nodiscard]] std::optional<Result<void>> until_free(
      const std::function<Task<Result<void>>()>& make, const char* what);

  const std::uint64_t seed_;
  const bool verbose_;
  World world_;
  const Swarm swarm_;
  SimNetwork network_;
  VirtualScheduler supervisor_;
  SimNode node_;
  SimHost host_;
  CrashPoints points_;
  std::map<std::string, ModelDisk> disks_;
  std::map<std::string, ModelDisk> trash_;  // by name
  std::optional<Uncertain> uncertain_;
  std::uint64_t names_ = 0;
  std::optional<Scheduler::TimerId> death_timer_;
  bool nothing_dies_ = false;  // the end of the run
  bool given_up_ = false;      // the store is full and nothing goes on
  std::optional<std::string> failure_;
  Counters counters_;
};

}  // namespace vmstore::sim
