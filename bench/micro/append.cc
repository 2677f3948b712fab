// SPDX-License-Identifier: Apache-2.0
// Appends to a BlockStore on real files, beside what the same bytes cost without it.
// Usage: append FOLDER [SECONDS for each line, default 2]
// The floor of small appends is one 8 KiB O_DIRECT|O_DSYNC write into a pre-written file; that of
// large ones is a buffered write of a new file and fdatasync. Store and floor take turns, so that a
// noisy machine disturbs both; the median of the turns is printed.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/assert.h"
#include "base/checksum.h"
#include "base/limits.h"
#include "base/posix_files.h"
#include "base/thread_pool.h"
#include "net/block_on.h"
#include "net/io_thread.h"
#include "storaged/block_store.h"

namespace vmstore::storaged {
namespace {

using Clock = std::chrono::steady_clock;

constexpr DiskId kDisk{1, 1};
constexpr std::size_t kTurns = 5;
constexpr std::uint64_t kFloorFileBytes = 64 * limits::kMiB;
constexpr std::uint64_t kFloorSmallBytes = 8192;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// One key's owner: appends one record after the other.
struct Owner {
  KeyId key;
  KeyLength length;
  std::uint64_t appends = 0;
};

std::vector<std::byte> header_record(KeyId key) {
  wire::RecordHeader header;
  header.kind = wire::RecordKind::key_header;
  header.disk = kDisk;
  header.key = key;
  header.epoch = Epoch(1);
  header.sequence = Sequence(1);
  return wire::encode_record(header);
}

struct Blocks {
  wire::Payload payload;
  std::vector<std::uint64_t> sums;
};

Blocks make_blocks(std::size_t bytes) {
  Blocks blocks{wire::Payload::allocate(bytes), {}};
  std::uint64_t word = 88172645463325252U;
  for (std::byte& byte : blocks.payload.writable()) {
    word ^= word << 13U;
    word ^= word >> 7U;
    word ^= word << 17U;
    byte = static_cast<std::byte>(word & 0xffU);
  }
  for (std::size_t at = 0; at < bytes; at += kBlockBytes) {
    blocks.sums.push_back(block_sum(blocks.payload.bytes().subspan(at, kBlockBytes)));
  }
  return blocks;
}

AppendRequest next_append(const Owner& owner, const Blocks& blocks) {
  wire::RecordHeader header;
  header.disk = kDisk;
  header.key = owner.key;
  header.epoch = Epoch(1);
  header.sequence = owner.length.last_sequence.next();
  header.data_offset = owner.length.blocks;
  wire::Run run;
  run.kind = wire::RunKind::stored;
  run.count = blocks.sums.size();
  header.runs.push_back(run);
  header.block_sums = blocks.sums;
  AppendRequest request;
  request.key = owner.key;
  request.token = Epoch(1);
  request.sequence = header.sequence;
  request.log_offset = owner.length.log_bytes;
  request.data_offset = owner.length.blocks;
  request.record = wire::encode_record(header);
  request.blocks = blocks.payload;
  return request;
}

Task<bool> append_until(BlockStore& store,
                        Owner& owner,
                        const Blocks& blocks,
                        Clock::time_point end) {
  while (Clock::now() < end) {
    auto request = next_append(owner, blocks);
    const auto done = co_await store.append(std::move(request));
    VMS_ASSERT(done.has_value());
    owner.length = *done;
    ++owner.appends;
  }
  co_return true;
}

struct Together {
  explicit Together(Scheduler& scheduler) : ended(scheduler) {}
  std::size_t running = 0;
  Event ended;
};

Task<void> run_one(BlockStore& store,
                   Owner& owner,
                   const Blocks& blocks,
                   Clock::time_point end,
                   Together& together) {
  static_cast<void>(co_await append_until(store, owner, blocks, end));
  --together.running;
  together.ended.pulse();
}

Task<bool> run_all(Scheduler& scheduler,
                   BlockStore& store,
                   std::vector<Owner>& owners,
                   const Blocks& blocks,
                   Clock::time_point end) {
  Together together(scheduler);
  for (Owner& owner : owners) {
    ++together.running;
    scheduler.spawn(run_one(store, owner, blocks, end, together));
  }
  while (together.running > 0) static_cast<void>(co_await together.ended.wait_pulse());
  co_return true;
}

class Bench {
 public:
  Bench(const std::string& folder, double seconds)
      : seconds_(seconds), io_("bench"), pool_(4), journal_pool_(1) {
    auto opened = PosixFiles::open_folder(folder);
    VMS_ASSERT(opened.has_value());
    files_ = std::move(*opened);
    BlockStoreOptions options;
    options.journal_pool = &journal_pool_;
    store_ = std::make_unique<BlockStore>(io_, pool_, *files_, options);
    const auto started = net::block_on(io_, store_->open(Incarnation{1, 2}));
    VMS_ASSERT(started.has_value());
  }
  ~Bench() { net::block_on(io_, store_->close()); }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  void line(std::size_t keys, std::size_t bytes) {
    const Blocks blocks = make_blocks(bytes);
    std::vector<double> rates;
    std::vector<double> floors;
    std::vector<double> ratios;
    for (std::size_t turn = 0; turn < kTurns; ++turn) {
      floors.push_back(bytes > limits::kJournalSmallBytesMax ? floor_large(blocks) : floor_small());
      rates.push_back(store_rate(keys, blocks));
      ratios.push_back(rates.back() / floors.back());
    }
    std::printf(
        "%2zu keys %7zu bytes: %9.0f appends/s %8.1f us each %8.1f MiB/s; floor %8.0f/s %8.1f us; "
        "ratio %.2f\n",
        keys,
        bytes,
        median(rates),
        1e6 / median(rates),
        median(rates) * static_cast<double>(bytes) / (1 << 20),
        median(floors),
        1e6 / median(floors),
        median(ratios));
    std::fflush(stdout);
  }

 private:
  static double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
  }
  [[nodiscard]] double turn_seconds() const { return seconds_ / kTurns; }
  [[nodiscard]] Clock::time_point turn_end() const {
    return Clock::now() + std::chrono::duration_cast<Clock::duration>(
                              std::chrono::duration<double>(turn_seconds()));
  }

  double store_rate(std::size_t keys, const Blocks& blocks) {
    std::vector<Owner> owners(keys);
    for (Owner& owner : owners) {
      owner.key = *KeyId::make(next_key_++);
      const auto made = net::block_on(
          io_, store_->create(owner.key, kDisk, Epoch(1), header_record(owner.key), 1, false));
      VMS_ASSERT(made.has_value());
      owner.length = made->length;
      // As an owner does: a credit first.
      const auto credit =
          net::block_on(io_, store_->reserve(owner.key, Epoch(1), BlockIndex{4096}, limits::kMiB));
      VMS_ASSERT(credit.has_value());
    }
    const auto start = Clock::now();
    net::block_on(io_, run_all(io_, *store_, owners, blocks, turn_end()));
    const double seconds = seconds_since(start);
    std::uint64_t appends = 0;
    for (const Owner& owner : owners) appends += owner.appends;
    for (const Owner& owner : owners) {
      VMS_ASSERT(net::block_on(io_, store_->remove(owner.key)).has_value());
    }
    return static_cast<double>(appends) / seconds;
  }

  double floor_small() {
    OpenOptions options;
    options.create = true;
    {
      const auto made = files_->open("floor", options);
      VMS_ASSERT(made.has_value());
      const std::vector<std::byte> zeros(limits::kMiB);
      const std::uint64_t size = *(*made)->size();
      for (std::uint64_t at = size; at < kFloorFileBytes; at += zeros.size()) {
        VMS_ASSERT((*made)->write(at, zeros).has_value());
      }
      VMS_ASSERT((*made)->sync().has_value());
    }
    options.direct_sync = true;
    const auto file = files_->open("floor", options);
    VMS_ASSERT(file.has_value());
    const wire::Payload bytes = wire::Payload::allocate(kFloorSmallBytes);
    std::uint64_t writes = 0;
    const auto start = Clock::now();
    while (seconds_since(start) < turn_seconds()) {
      const std::uint64_t offset = writes * kFloorSmallBytes % kFloorFileBytes;
      VMS_ASSERT((*file)->write(offset, bytes.bytes()).has_value());
      ++writes;
    }
    return static_cast<double>(writes) / seconds_since(start);
  }

  double floor_large(const Blocks& blocks) {
    OpenOptions options;
    options.create = true;
    std::uint64_t writes = 0;
    double seconds = 0;
    {
      const auto file = files_->open("floor.large", options);
      VMS_ASSERT(file.has_value());
      const auto start = Clock::now();
      while (seconds_since(start) < turn_seconds()) {
        VMS_ASSERT(
            (*file)->write(writes * blocks.payload.size(), blocks.payload.bytes()).has_value());
        VMS_ASSERT((*file)->sync().has_value());
        ++writes;
      }
      seconds = seconds_since(start);
    }
    VMS_ASSERT(files_->remove("floor.large").has_value());
    return static_cast<double>(writes) / seconds;
  }

  double seconds_;
  std::unique_ptr<PosixFiles> files_;
  net::IoThread io_;
  ThreadPool pool_;
  ThreadPool journal_pool_;
  std::unique_ptr<BlockStore> store_;
  std::uint64_t next_key_ = KeyId::kFirst;
};

}  // namespace
}  // namespace vmstore::storaged

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: append FOLDER [SECONDS]\n");
    return 2;
  }
  const std::string folder = std::string(argv[1]) + "/append-bench";
  std::filesystem::create_directory(folder);
  {
    vmstore::storaged::Bench bench(folder, argc > 2 ? std::strtod(argv[2], nullptr) : 2.0);
    for (const std::size_t keys : {1U, 16U}) {
      for (const std::size_t bytes : {4096U, 512U * 1024U}) bench.line(keys, bytes);
    }
  }
  std::filesystem::remove_all(folder);
  return 0;
}
