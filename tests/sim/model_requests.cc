// SPDX-License-Identifier: Apache-2.0
// Model: opening, reading and writing.
#include <algorithm>
#include <string>
#include <utility>

#include "base/checksum.h"
#include "tests/sim/model.h"
#include "tests/sim/model_await.h"

namespace vmstore::sim {
namespace {

using disk::AsyncDisk;
using disk::DiskExtent;

/// Tells the disk that its guest has a request open.
class GuestRequest {
 public:
  explicit GuestRequest(AsyncDisk& disk) noexcept : disk_(disk) { disk_.note_request_begin(); }
  GuestRequest(const GuestRequest&) = delete;
  GuestRequest& operator=(const GuestRequest&) = delete;
  ~GuestRequest() { disk_.note_request_end(); }

 private:
  AsyncDisk& disk_;
};

// As BlockingDisk does: what is at hand on the spot, the rest by the task.

Task<Result<void>> read_disk(AsyncDisk& disk, std::uint64_t offset, MutableBytes into) {
  const GuestRequest request(disk);
  if (disk.try_read(offset, into)) co_return success();
  co_return co_await disk.read(offset, into);
}

Task<Result<void>> write_disk(AsyncDisk& disk, std::uint64_t offset, ByteSpan bytes) {
  const GuestRequest request(disk);
  if (disk.try_write(offset, bytes)) co_return success();
  co_return co_await disk.write(offset, bytes);
}

Task<Result<void>> zero_disk(AsyncDisk& disk, std::uint64_t offset, std::uint64_t bytes) {
  const GuestRequest request(disk);
  if (disk.try_zero(offset, bytes)) co_return success();
  co_return co_await disk.zero(offset, bytes);
}

Task<Result<void>> flush_disk(AsyncDisk& disk) {
  const GuestRequest request(disk);
  if (disk.try_flush()) co_return success();
  co_return co_await disk.flush();
}

Task<Result<void>> find_extents(AsyncDisk& disk,
                                std::uint64_t offset,
                                std::uint64_t bytes,
                                std::vector<DiskExtent>& found) {
  const GuestRequest request(disk);
  VMS_CO_TRY(found, co_await disk.extents(offset, bytes, 16));
  co_return success();
}

Task<Result<std::shared_ptr<AsyncDisk>>> open_disk(disk::Session& session,
                                                   disk::Admin& admin,
                                                   std::string name,
                                                   disk::AsyncDiskOptions options) {
  VMS_CO_TRY(const auto record, co_await session.catalogue().disk_by_name(std::move(name)));
  co_return co_await admin.open_for_guest(record, options);
}

}  // namespace

/// What was read of a disk in one piece.
class Model::ReadBytes final : public BlockSource {
 public:
  explicit ReadBytes(std::vector<std::byte> bytes) : bytes_(std::move(bytes)) {}
  [[nodiscard]] BlockPtr block(std::uint64_t lbn) const override {
    Block block{};
    const std::uint64_t from = lbn * kBlockBytes;
    if (from >= bytes_.size()) return nullptr;
    const std::size_t count = std::min<std::size_t>(kBlockBytes, bytes_.size() - from);
    std::copy_n(bytes_.begin() + static_cast<std::ptrdiff_t>(from), count, block.begin());
    return make_block(block);
  }

 private:
  std::vector<std::byte> bytes_;
};

struct Model::Request {
  enum class Kind { read, write, zero, flush, extents };
  Kind kind = Kind::read;
  Range range;
  std::vector<std::byte> bytes;  // to write, or as read
  std::vector<DiskExtent> extents;
  std::size_t number = 0;  // in the oracle's group
  std::unique_ptr<Running<Result<void>>> running;
  bool seen = false;  // its end was taken notice of

  [[nodiscard]] bool changes() const noexcept { return kind == Kind::write || kind == Kind::zero; }
  [[nodiscard]] bool overlaps(const Range& other) const noexcept {
    return range.offset < other.offset + other.bytes && other.offset < range.offset + range.bytes;
  }
};

// ---- which step comes next ----

ModelDisk* Model::pick_disk() {
  if (disks_.empty()) {
    create_disk();
    return nullptr;
  }
  auto disk = disks_.begin();
  std::advance(disk, static_cast<std::ptrdiff_t>(random().below(disks_.size())));
  return &disk->second;
}

void Model::step() {
  ModelDisk* const disk = pick_disk();
  if (disk == nullptr) return;
  switch (random().below(32)) {
    case 0:
    case 1:
      return rest();
    case 2:
      return flush(*disk);
    case 3:
      return forced_write(*disk);
    case 4:
      return swarm_.connections_break ? break_connections() : rest();
    case 5:
    case 6:
      return maintain(*disk);
    case 7:
      if (disk->open != nullptr && !close(*disk)) return;
      return;
    case 8:
      if (disks_.size() < 4) return create_disk();
      return;
    case 9:
    case 10:
    case 11:
      if (swarm_.snapshots && disk->snapshots.size() < 4) return take_snapshot(*disk);
      return;
    case 12:
      return read_snapshot(*disk);
    case 13:
      return remove_snapshot(*disk);
    case 14:
      if (swarm_.clones && disks_.size() < 6) return clone_disk(*disk);
      return;
    case 15:
      if (swarm_.rollbacks) return roll_back(*disk);
      return;
    case 16:
      if (swarm_.resizes) return resize(*disk);
      return;
    case 17:
      if (swarm_.removals && disks_.size() > 1) return remove_disk(*disk);
      return;
    case 18:
      if (swarm_.removals) return random().one_in(2) ? restore_disk() : rename(*disk);
      return;
    case 19:
      if (swarm_.collections) return collect_garbage();
      return;
    case 20:
      if (ensure_open(*disk)) static_cast<void>(verify(*disk));
      return;
    default:
      return burst(*disk);
  }
}

// ---- opening and closing ----

bool Model::ensure_open(ModelDisk& disk) {
  if (failed() || !host_.is_ready()) return false;
  if (disk.open != nullptr) return true;
  disk.options = disk::AsyncDiskOptions();
  disk.options.bulk = !disk.died && random().one_in(12);
  if (random().one_in(2)) {
    disk.options.checkpoint_runs = 4 + random().below(60);
    disk.options.checkpoint_leaves = 2 + random().below(8);
    disk.options.checkpoint_log_bytes = 64 * limits::kKiB;
    disk.options.free_batch_blocks = 1 + random().below(64);
    disk.options.credit_ahead_blocks = 256;
    // Some of them so little that every second write waits for a free.
    disk.options.garbage_blocks_max = 4 * disk.options.free_batch_blocks;
    disk.options.free_runs_per_call = disk.options.free_batch_blocks;
    if (disk.options.free_batch_blocks % 2 == 0) disk.options.release_freeing = Duration(0);
    if (random().one_in(3)) disk.options.key_roll_bytes = (32 + random().below(512)) * limits::kKiB;
  }
  const auto opened =
      await(open_disk(host_.session(), host_.admin(), disk.name, disk.options), "opening a disk");
  if (!opened) return false;
  if (!*opened) {
    fail("disk " + disk.name + " cannot be opened: " + to_string(opened->error()));
    return false;
  }
  disk.open = **opened;
  disk.clean = false;
  say("opened " + disk.name);
  return disk.died || disk.either ? verify(disk) : true;
}

bool Model::close(ModelDisk& disk) {
  if (disk.open == nullptr) return true;
  say("closing " + disk.name);
  const auto released = await(disk.open->leave(), "closing a disk");
  if (!released) return false;
  if (!*released) {
    fail("disk " + disk.name + " cannot be closed: " + to_string(released->error()));
    return false;
  }
  disk.open.reset();
  disk.clean = true;
  disk.oracle.all_flushed();
  return true;
}

bool Model::tolerates(const Error& error) const {
  return swarm_.space_is_short && error == Errc::no_space;
}

/// A command of unknown outcome may have replaced the content.
void Model::choose(ModelDisk& disk, const ReadBytes& source, std::uint64_t size) {
  if (!disk.either) return;
  const Content other = *std::exchange(disk.either, std::nullopt);
  const bool may_be_old = size == disk.oracle.content().size_bytes();
  bool is_new = size == other.size_bytes();
  for (std::uint64_t lbn = 0; is_new && may_be_old && lbn * kBlockBytes < size; ++lbn) {
    is_new = same_block(source.block(lbn), other.block(lbn));
  }
  if (is_new) disk.oracle.replace(other);
}

bool Model::verify(ModelDisk& disk) {
  std::uint64_t size = disk.oracle.content().size_bytes();
  if (disk.either) {
    std::byte first{};
    const auto taken = await(read_disk(*disk.open, 0, MutableBytes(&first, 1)), "opening");
    if (!taken) return false;
    if (!*taken) {
      fail("disk " + disk.name + " cannot be read: " + to_string(taken->error()));
      return false;
    }
    size = disk.open->size_bytes();
  }
  std::vector<std::byte> bytes(size);
  if (size > 0) {
    const auto outcome = await(read_disk(*disk.open, 0, bytes), "reading a whole disk");
    if (!outcome) return false;
    if (!*outcome) {
      fail("disk " + disk.name + " cannot be read: " + to_string(outcome->error()));
      return false;
    }
  }
  const ReadBytes source(std::move(bytes));
  choose(disk, source, size);
  if (size != disk.oracle.content().size_bytes()) {
    fail("disk " + disk.name + " has " + std::to_string(size) + " bytes instead of " +
         std::to_string(disk.oracle.content().size_bytes()));
    return false;
  }
  std::vector<std::uint64_t> lbns;
  for (std::uint64_t lbn = 0; lbn * kBlockBytes < size; ++lbn) lbns.push_back(lbn);
  std::optional<std::string> wrong;
  if (disk.died == Death::power) {
    wrong = disk.oracle.settle_after_power_cut(source, lbns);
  } else if (disk.died == Death::kill) {
    wrong = disk.oracle.settle_after_kill(source, lbns);
  } else {
    for (const std::uint64_t lbn : lbns) {
      if (same_block(source.block(lbn), disk.oracle.content().block(lbn))) continue;
      wrong = "block " + std::to_string(lbn) + " is not what was written";
      break;
    }
  }
  if (wrong) {
    fail("disk " + disk.name + ": " + *wrong);
    return false;
  }
  if (disk.died) say("settled " + disk.name);
  disk.died.reset();
  return true;
}

// ---- requests ----

std::vector<std::byte> Model::draw_bytes(std::size_t count) {
  std::vector<std::byte> bytes(count);
  if (random().one_in(10)) return bytes;  // zeros
  const bool repeats = random().one_in(6);
  Random source(repeats ? random().below(4) : random().u64());
  for (std::size_t at = 0; at < count; at += sizeof(std::uint64_t)) {
    const std::uint64_t word = source.u64();
    const std::size_t part = std::min(sizeof word, count - at);
    std::copy_n(reinterpret_cast<const std::byte*>(&word),
                part,
                bytes.begin() + static_cast<std::ptrdiff_t>(at));
  }
  return bytes;
}

Model::Range Model::draw_range(const ModelDisk& disk, std::uint64_t bytes_max) {
  const std::uint64_t size = disk.oracle.content().size_bytes();
  const std::uint64_t unit = random().one_in(3)   ? kBlockBytes
                             : random().one_in(2) ? kSectorBytes
                                                  : 1;
  Range range;
  range.offset = random().below(size) / unit * unit;
  const std::uint64_t left = std::min(size - range.offset, bytes_max);
  range.bytes =
      std::max<std::uint64_t>(1, std::min(left, (1 + random().below(left)) / unit * unit));
  if (random().one_in(16)) range.bytes = left;
  return range;
}

Model::Request Model::draw_request(const ModelDisk& disk, const std::vector<Request>& others) {
  Request request;
  const std::uint64_t kind = random().below(20);
  request.kind = kind < 11   ? Request::Kind::write
                 : kind < 13 ? Request::Kind::zero
                 : kind < 18 ? Request::Kind::read
                 : kind < 19 ? Request::Kind::flush
                             : Request::Kind::extents;
  if (request.kind == Request::Kind::flush) return request;
  const std::uint64_t bytes_max = random().one_in(20)  ? 2 * limits::kMiB
                                  : random().one_in(3) ? 64 * limits::kKiB
                                                       : 8192;
  request.range = draw_range(disk, request.kind == Request::Kind::zero ? limits::kTiB : bytes_max);
  const bool overlaps = std::any_of(others.begin(), others.end(), [&](const Request& other) {
    return other.changes() && other.overlaps(request.range);
  });
  if (overlaps && request.changes()) request.kind = Request::Kind::read;
  if (request.kind == Request::Kind::write) request.bytes = draw_bytes(request.range.bytes);
  if (request.kind == Request::Kind::read) request.bytes.resize(request.range.bytes);
  return request;
}

std::string Model::describe(const Request& request) {
  constexpr const char* kNames[] = {"read", "write", "zero", "flush", "extents"};
  const std::string name = kNames[static_cast<int>(request.kind)];
  if (request.kind == Request::Kind::flush) return name;
  return name + " " + std::to_string(request.range.bytes) + " bytes at " +
         std::to_string(request.range.offset);
}

Task<Result<void>> Model::start_request(ModelDisk& disk, Request& request) {
  AsyncDisk& target = *disk.open;
  const Range& range = request.range;
  switch (request.kind) {
    case Request::Kind::read:
      return read_disk(target, range.offset, request.bytes);
    case Request::Kind::write:
      request.number = disk.oracle.write(range.offset, request.bytes);
      return write_disk(target, range.offset, request.bytes);
    case Request::Kind::zero:
      request.number = disk.oracle.zero(range.offset, range.bytes);
      return zero_disk(target, range.offset, range.bytes);
    case Request::Kind::flush:
      break;
    case Request::Kind::extents:
      return find_extents(target, range.offset, range.bytes, request.extents);
  }
  return flush_disk(target);
}

void Model::burst(ModelDisk& disk) {
  if (!ensure_open(disk)) return;
  std::vector<Request> requests;
  const std::uint64_t count = random().one_in(2) ? 1 : 1 + random().below(8);
  for (std::uint64_t i = 0; i < count; ++i) requests.push_back(draw_request(disk, requests));
  disk.oracle.begin_group();
  for (Request& request : requests) {
    ++counters_.requests;
    say(disk.name + ": " + describe(request));
    Task<Result<void>> task = start_request(disk, request);
    request.running = std::make_unique<Running<Result<void>>>(host_.process(), std::move(task));
  }
  const bool lived = drive(
      [&] {
        bool all = true;
        for (Request& request : requests) {
          if (!request.running->ended()) {
            all = false;
          } else if (!std::exchange(request.seen, true)) {
            // What ends in the very event in which the process died was not answered any more.
            if (request.changes() && request.running->outcome() && !host_.is_dead()) {
              disk.oracle.acknowledge(request.number);
            }
          }
        }
        return all;
      },
      "requests");
  if (!lived) {
    host_.process().kill();
    return;
  }
  bool flushed = false;
  for (Request& request : requests) {
    const Result<void>& outcome = request.running->outcome();
    if (!outcome) {
      if (!tolerates(outcome.error())) fail("a request failed: " + to_string(outcome.error()));
      continue;
    }
    if (request.kind == Request::Kind::read) check_read(disk, request);
    if (request.kind == Request::Kind::extents) check_extents(disk, request);
    flushed = flushed || request.kind == Request::Kind::flush;
  }
  if (flushed) disk.oracle.flushed_before_group();
  const bool refused = std::any_of(requests.begin(), requests.end(), [](Request& request) {
    return !request.running->outcome();
  });
  if (refused) {  // may be there in part: look
    disk.died = Death::kill;
    static_cast<void>(verify(disk));
  } else if (!swarm_.batch_room && !disk.options.bulk) {
    disk.oracle.all_flushed();
  }
}

void Model::check_read(const ModelDisk& disk, const Request& request) {
  // A read that began before a write beside it was acknowledged may miss it.
  const Group* const beside = disk.oracle.present_group();
  const std::uint64_t first = request.range.offset / kBlockBytes;
  const std::uint64_t end = request.range.offset + request.range.bytes;
  for (std::uint64_t lbn = first; lbn * kBlockBytes < end; ++lbn) {
    const std::uint64_t start = lbn * kBlockBytes;
    const std::uint64_t from = std::max(request.range.offset, start);
    const std::uint64_t to = std::min(end, start + kBlockBytes);
    const BlockPtr wanted = disk.oracle.content().block(lbn);
    Block seen = wanted ? *wanted : Block{};
    std::copy_n(request.bytes.begin() + static_cast<std::ptrdiff_t>(from - request.range.offset),
                to - from,
                seen.begin() + static_cast<std::ptrdiff_t>(from - start));
    const BlockPtr block = make_block(seen);
    if (same_block(block, wanted)) continue;
    bool allowed = false;
    if (beside != nullptr) {
      const auto change = beside->changes.find(lbn);
      const Group::InBlock looked_at{static_cast<std::uint32_t>(from - start),
                                     static_cast<std::uint32_t>(to - start)};
      allowed = change != beside->changes.end() &&
                Group::allows(change->second, block, nullptr, looked_at);
    }
    if (!allowed) {
      return fail("disk " + disk.name + ": a read of block " + std::to_string(lbn) +
                  " returned what was never there");
    }
  }
}

void Model::check_extents(const ModelDisk& disk, const Request& request) {
  std::uint64_t at = request.range.offset;
  const std::uint64_t end = request.range.offset + request.range.bytes;
  if (request.extents.empty()) fail("block status made no progress");
  for (const DiskExtent& extent : request.extents) {
    if (extent.offset != at || extent.bytes == 0 || extent.bytes > end - at) {
      return fail("disk " + disk.name + ": block status is no tiling of what was asked");
    }
    at += extent.bytes;
    if (!extent.zero) continue;
    const std::uint64_t last = (at - 1) / kBlockBytes;
    for (std::uint64_t lbn = extent.offset / kBlockBytes; lbn <= last; ++lbn) {
      const Group* const beside = disk.oracle.present_group();
      const BlockPtr block = disk.oracle.content().block(lbn);
      if (block == nullptr || (beside != nullptr && beside->changes.contains(lbn))) continue;
      const std::uint64_t start = lbn * kBlockBytes;
      const std::uint64_t from = std::max(extent.offset, start) - start;
      const std::uint64_t to = std::min(at, start + kBlockBytes) - start;
      if (!is_all_zero(ByteSpan(*block).subspan(from, to - from))) {
        return fail("disk " + disk.name + ": block status calls data a hole");
      }
    }
  }
}

void Model::flush(ModelDisk& disk) {
  if (disk.open == nullptr) return;
  const auto flushed = await(flush_disk(*disk.open), "flush");
  if (!flushed) return;
  if (!*flushed) return fail("flush failed: " + to_string(flushed->error()));
  disk.oracle.all_flushed();
}

void Model::forced_write(ModelDisk& disk) {
  if (!ensure_open(disk)) return;
  const Range range = draw_range(disk, 8192);
  const std::vector<std::byte> bytes = draw_bytes(range.bytes);
  disk.oracle.begin_group();
  const std::size_t number = disk.oracle.write(range.offset, bytes);
  const auto written = await(write_disk(*disk.open, range.offset, bytes), "FUA write");
  if (!written) return;
  if (!*written) {
    if (!tolerates(written->error())) fail("FUA write failed: " + to_string(written->error()));
    disk.died = Death::kill;
    static_cast<void>(verify(disk));
    return;
  }
  disk.oracle.acknowledge(number);
  flush(disk);
}

void Model::rest() {
  pass_time(world_.random_duration(Duration(0), std::chrono::seconds(3)));
}

void Model::pass_time(Duration pause) {
  const TimePoint end = world_.now() + pause;
  supervisor_.start_timer(end, [] {});  // so that there is something to wait for
  static_cast<void>(drive([&] { return world_.now() >= end; }, "resting"));
}

void Model::break_connections() {
  say("connections break");
  network_.break_connections(host_.process());
  rest();
}

void Model::maintain(ModelDisk& disk) {
  if (!ensure_open(disk)) return;
  if (random().one_in(3)) return disk.open->evict();
  const auto done = await(disk.open->checkpoint(), "checkpoint");
  // It may end early when the node dies; nothing depends on it.
  if (done && !*done && !tolerates(done->error()) && !is_lost(done->error())) {
    fail("checkpoint failed: " + to_string(done->error()));
  }
}

}  // namespace vmstore::sim
