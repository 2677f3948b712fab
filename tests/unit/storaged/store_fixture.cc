// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/storaged/store_fixture.h"

#include <algorithm>
#include <sstream>
#include <utility>

#include "base/checksum.h"
#include "base/limits.h"
#include "base/random.h"

namespace vmstore::storaged {
namespace {

constexpr std::uint64_t kSmallRing = limits::kMiB;

}  // namespace

wire::Payload make_blocks(std::size_t count, std::uint64_t seed) {
  wire::Payload blocks = wire::Payload::allocate(count * kBlockBytes);
  ByteWriter writer;
  Random random(seed);
  for (std::size_t i = 0; i < count; ++i) {
    for (std::size_t word = 0; word < kBlockBytes / 64; ++word) {
      const std::uint64_t value = random.u64();
      for (int copy = 0; copy < 8; ++copy) writer.put(value);
    }
  }
  std::copy(writer.bytes().begin(), writer.bytes().end(), blocks.writable().begin());
  return blocks;
}

KeyModel::KeyModel(KeyId key, Epoch token, Sequence first)
    : key_(key), token_(token), first_(first) {
  length_.last_sequence = Sequence(first.value - 1);
  length_.log_bytes = header_record().size();
}

std::vector<std::byte> KeyModel::header_record() const {
  wire::RecordHeader header;
  header.kind = wire::RecordKind::key_header;
  header.disk = kDisk;
  header.key = key_;
  header.epoch = Epoch(1);
  header.sequence = first_;
  return wire::encode_record(header);
}

AppendRequest KeyModel::next(std::size_t blocks, std::uint64_t seed, Sequence committed) {
  AppendRequest request;
  request.blocks = make_blocks(blocks, seed);
  wire::RecordHeader header;
  header.disk = kDisk;
  header.key = key_;
  header.epoch = token_;
  header.sequence = length_.last_sequence.next();
  header.data_offset = length_.blocks;
  header.committed = committed;
  wire::Run run;
  run.kind = blocks > 0 ? wire::RunKind::stored : wire::RunKind::zero;
  run.lbn = Lbn(seed % 1000);
  run.count = std::max<std::size_t>(blocks, 1);
  header.runs.push_back(run);
  for (std::size_t i = 0; i < blocks; ++i) {
    header.block_sums.push_back(
        block_sum(request.blocks.bytes().subspan(i * kBlockBytes, kBlockBytes)));
  }
  request.key = key_;
  request.token = token_;
  request.sequence = header.sequence;
  request.log_offset = length_.log_bytes;
  request.data_offset = length_.blocks;
  request.committed = committed;
  request.record = wire::encode_record(header);
  Record record;
  record.start = length_;
  record.bytes = request.record;
  record.seed = seed;
  length_.last_sequence = header.sequence;
  length_.log_bytes += request.record.size();
  length_.blocks.value += blocks;
  record.end = length_;
  records_.push_back(record);
  return request;
}

void KeyModel::cut(const KeyLength& length) {
  while (!records_.empty() && records_.back().end.last_sequence > length.last_sequence) {
    length_ = records_.back().start;
    records_.pop_back();
  }
}

Machine::Machine(std::uint64_t seed, std::uint64_t capacity) : world(seed), files(capacity, seed) {
  options.journal_bytes = kSmallRing;
}

Machine::~Machine() {
  end_process();
}

void Machine::end_process() {
  if (process_) process_->kill();
  store_.reset();
  pool_.reset();
  process_.reset();
}

Result<void> Machine::start() {
  process_ = std::make_unique<sim::VirtualScheduler>(world, "node");
  process_->on_freeze([this] { files.freeze(); });
  if (on_process) on_process(*process_);
  pool_ = std::make_unique<sim::SimWorkerPool>(world);
  store_ = std::make_unique<BlockStore>(*process_, *pool_, files, options);
  sim::Running<Result<void>> opening(*process_, store_->open(incarnation));
  if (!opening.wait(std::chrono::hours(1))) {
    end_process();
    return Errc::closing;  // killed meanwhile
  }
  const Result<void> opened = opening.outcome();
  if (!opened) end_process();
  return opened;
}

void Machine::start_well() {
  const auto started = start();
  VMS_ASSERT(started.has_value());
}

void Machine::stop() {
  sim::run(*process_, store_->close());
  end_process();
  files.restart();
}

void Machine::power_cut() {
  end_process();
  files.cancel_freeze();
  files.crash(world.random());
}

void Machine::kill() {
  end_process();
  files.cancel_freeze();
  files.restart();
}

Result<KeyState> Machine::create(const KeyModel& key, bool shared) {
  return run(store_->create(key.key(), kDisk, key.token(), key.header_record(), 1, shared));
}

Result<KeyLength> Machine::append(AppendRequest request) {
  return run(store_->append(std::move(request)));
}

void Machine::append_well(KeyModel& key, std::size_t blocks, std::uint64_t seed) {
  const auto appended = append(key.next(blocks, seed));
  VMS_ASSERT(appended.has_value() && *appended == key.length());
}

Result<BlockStore::Fenced> Machine::fence(const KeyModel& key, Epoch token) {
  return run(store_->fence(key.key(), token));
}

Result<ReadAnswer> Machine::read(KeyId key, std::uint64_t first, std::uint32_t blocks) {
  ReadRangeRequest range;
  range.address = *Address::make(key, BlockIndex{first});
  range.blocks = blocks;
  std::vector<ReadRangeRequest> ranges{range};
  return run(store_->read(std::move(ranges)));
}

Errc Machine::read_error(KeyId key, std::uint64_t block) {
  const auto answer = read(key, block, 1);
  return answer ? Errc::ok : answer.error().code;
}

std::string Machine::compare(const KeyModel& key, std::size_t records) {
  std::ostringstream wrong;
  for (std::size_t i = 0; i < records; ++i) {
    const KeyModel::Record& record = key.records()[i];
    const auto bytes = static_cast<std::uint32_t>(record.bytes.size());
    const auto log = run(store_->read_log(key.key(), record.start.log_bytes, bytes));
    if (!log || !std::ranges::equal(log->bytes.bytes(), record.bytes)) {
      wrong << "record " << i << " differs in the log";
      return wrong.str();
    }
    const std::uint64_t blocks = record.end.blocks.value - record.start.blocks.value;
    if (blocks == 0) continue;
    const auto got = read(key.key(), record.start.blocks.value, static_cast<std::uint32_t>(blocks));
    if (!got) {
      wrong << "the blocks of record " << i << ": " << to_string(got.error());
      return wrong.str();
    }
    const wire::Payload wanted = make_blocks(blocks, record.seed);
    if (!std::ranges::equal(got->payload.bytes(), wanted.bytes())) {
      wrong << "the blocks of record " << i << " differ";
      return wrong.str();
    }
  }
  return wrong.str();
}

}  // namespace vmstore::storaged
