// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/storaged_service/gc_disk.h"

#include <algorithm>
#include <utility>

#include "base/checksum.h"
#include "base/limits.h"
#include "meta/records.h"
#include "meta/schema.h"
#include "tests/support/built_pages.h"

namespace vmstore::storaged::test {
namespace {

std::uint64_t last_key = KeyId::kFirst;  // keys are never used twice, across all tests

wire::Payload block_of(std::uint64_t seed) {
  return make_blocks(1, seed);
}

/// What a view maps: pages first, then the records of its parts in order.
class ViewReplay {
 public:
  ViewReplay(Machine& machine, snapshot::RunMap& overlay) : machine_(machine), overlay_(overlay) {}

  [[nodiscard]] Result<void> part(const meta::pb::LogPart& part) {
    const bool stop = false;
    GcLog log(machine_.node().store(), stop);
    const LogPosition to = meta::from_pb(part.to());
    VMS_TRY(const auto spans,
            machine_.run(log.spans(meta::from_pb(part.from()), to.key, to.log_offset)));
    const GcRecordVisitor visitor = [this](const wire::RecordHeader& header) {
      return apply(header);
    };
    for (const LogSpan& span : spans) VMS_CHECK(machine_.run(log.visit(span, visitor)));
    return success();
  }

 private:
  Result<void> apply(const wire::RecordHeader& header) {
    std::uint64_t stored = 0;
    for (const wire::Run& run : header.runs) {
      if (run.kind != wire::RunKind::stored) return Errc::unsupported;
      const Address first = Address::make(header.key, header.data_offset)->plus(stored);
      overlay_.put({run.lbn, run.count, snapshot::Where::address, first.raw()});
      stored += run.count;
    }
    return success();
  }
  Machine& machine_;
  snapshot::RunMap& overlay_;
};

}  // namespace

Task<Result<snapshot::PagePtr>> StorePages::load(Address address) {
  std::vector<ReadRangeRequest> ranges(1);
  ranges.front().address = address;
  ranges.front().blocks = 1;
  VMS_CO_TRY(const auto found, co_await machine_.node().store().read(std::move(ranges)));
  auto page = snapshot::decode_page(found.payload.bytes());
  if (!page) co_return page.error();
  co_return snapshot::PagePtr(std::make_shared<snapshot::Page>(*page));
}

TestDisk::TestDisk(Machine& machine, DiskId id, std::string name)
    : machine_(machine), id_(id), record_(disk_record(id, name, 1)), next_seed_(id.low * 100000) {}

void TestDisk::put_record() {
  machine_.put_meta(meta::disk_key(id_), meta::encode(record_));
}

void TestDisk::make() {
  put_record();
}

void TestDisk::make_clone_of(const TestDisk& parent, const std::string& snapshot) {
  const SnapshotState& from = parent.snapshots_.at(snapshot);
  base_ = from.record.view();
  *record_.mutable_base() = base_;
  top_ = Address::from_raw(base_.top_page());
  content_ = from.content;
  put_record();
}

// ---- the log ----

KeyId TestDisk::create_key() {
  const KeyId key = *KeyId::make(++last_key);
  wire::RecordHeader header;
  header.kind = wire::RecordKind::key_header;
  header.disk = id_;
  header.key = key;
  header.epoch = Epoch(record_.epoch());
  header.sequence = sequence_;
  header.predecessor = key_;
  header.predecessor_length = length_;
  const auto state = machine_.run(machine_.node().store().create(
      key, id_, header.epoch, wire::encode_record(header), 1, false));
  EXPECT_TRUE(state) << to_string(state.error());
  if (state) made_[key] = state->length;
  return key;
}

void TestDisk::name_key(KeyId key) {
  if (!key_.is_none()) {
    const auto sealed =
        machine_.run(machine_.node().store().seal(key_, Epoch(record_.epoch()), length_));
    EXPECT_TRUE(sealed) << to_string(sealed.error());
    record_.mutable_last_sealed()->set_key(key_.value());
    *record_.mutable_last_sealed_length() = meta::to_pb(length_);
  }
  key_ = key;
  keys_.push_back(key);
  length_ = made_.at(key);
  record_.mutable_open_key()->set_key(key.value());
  record_.mutable_open_key()->set_token(record_.epoch());
  if (record_.log_from().key() == 0) {
    replay_from_ = end();
    *record_.mutable_log_from() = meta::to_pb(replay_from_);
  }
  put_record();
}

void TestDisk::append(wire::RecordHeader header, const wire::Payload& blocks) {
  if (key_.is_none()) roll();
  header.disk = id_;
  header.key = key_;
  header.epoch = Epoch(record_.epoch());
  header.sequence = sequence_;
  header.data_offset = length_.blocks;
  for (std::uint64_t at = 0; at < blocks.size(); at += kBlockBytes) {
    header.block_sums.push_back(block_sum(blocks.bytes().subspan(at, kBlockBytes)));
  }
  AppendRequest request;
  request.key = key_;
  request.token = header.epoch;
  request.sequence = sequence_;
  request.log_offset = length_.log_bytes;
  request.data_offset = length_.blocks;
  request.record = wire::encode_record(header);
  request.blocks = blocks;
  const auto length = machine_.run(machine_.node().store().append(std::move(request)));
  ASSERT_TRUE(length) << to_string(length.error());
  length_ = *length;
  sequence_ = sequence_.next();
}

void TestDisk::write(std::uint64_t lbn, std::uint64_t count, std::uint64_t seed) {
  if (key_.is_none()) roll();
  wire::Payload blocks = wire::Payload::allocate(count * kBlockBytes);
  for (std::uint64_t i = 0; i < count; ++i) {
    const wire::Payload block = block_of(seed + i);
    std::ranges::copy(block.bytes(), blocks.writable().subspan(i * kBlockBytes).begin());
    content_[lbn + i] = seed + i;
  }
  wire::RecordHeader header;
  header.runs.push_back({wire::RunKind::stored, Lbn(lbn), count, Address()});
  const Address first = *Address::make(key_, length_.blocks);
  append(std::move(header), blocks);
  overlay_.put({Lbn(lbn), count, snapshot::Where::address, first.raw()}, [this](const auto& old) {
    for (std::uint64_t i = 0; i < old.blocks; ++i) {
      replaced_.push_back(Address::from_raw(old.place).plus(i));
    }
  });
}

// ---- checkpoints ----

void TestDisk::append_pages() {
  StorePages pages(machine_);
  snapshot::RunMap overlay;
  if (base_.parts_size() > 0) {
    ViewReplay replay(machine_, overlay);
    for (const auto& part : base_.parts()) ASSERT_TRUE(replay.part(part));
  }
  overlay_.visit_all([&](const snapshot::Extent& extent) { overlay.put(extent); });
  const std::uint64_t size = limits::kGiB / kBlockBytes;
  auto built = machine_.run(snapshot::build_in_memory(pages, top_, overlay, size, true));
  ASSERT_TRUE(built) << to_string(built.error());
  next_replay_from_ = end();
  next_top_ = built->empty ? Address() : built->unchanged_top;
  if (built->pages.empty()) return;
  wire::Payload blocks = wire::Payload::allocate(built->pages.size() * kBlockBytes);
  std::vector<Address> addresses;
  wire::RecordHeader header;
  header.kind = wire::RecordKind::pages;
  for (snapshot::NewPage& page : built->pages) {
    const std::uint64_t index = addresses.size();
    for (const auto& child : page.children) {
      page.page.entries[child.entry] = addresses.at(child.index);
    }
    addresses.push_back(Address::make(key_, length_.blocks)->plus(index));
    snapshot::encode_page(page.page, blocks.writable().subspan(index * kBlockBytes, kBlockBytes));
    header.pages.push_back({page.level, page.first_lbn});
  }
  append(std::move(header), blocks);
  next_top_ = addresses.back();
  replaced_.insert(replaced_.end(), built->replaced_pages.begin(), built->replaced_pages.end());
  for (const snapshot::Extent& extent : built->replaced_blocks) {
    for (std::uint64_t i = 0; i < extent.blocks; ++i) {
      replaced_.push_back(Address::from_raw(extent.place).plus(i));
    }
  }
}

void TestDisk::append_root() {
  wire::RecordHeader header;
  header.kind = wire::RecordKind::root;
  header.top_page = next_top_;
  header.replay_from = next_replay_from_;
  header.disk_bytes = record_.size_bytes();
  append(std::move(header), wire::Payload());
  top_ = next_top_;
  replay_from_ = next_replay_from_;
  overlay_.clear();
  base_.Clear();
}

void TestDisk::name_root() {
  record_.mutable_base()->Clear();
  record_.mutable_base()->set_top_page(top_.raw());
  record_.mutable_base()->set_size_bytes(record_.size_bytes());
  *record_.mutable_log_from() = meta::to_pb(replay_from_);
  put_record();
}

void TestDisk::checkpoint(bool named) {
  append_pages();
  append_root();
  if (named) name_root();
}

void TestDisk::free_replaced() {
  for (const Address address : std::exchange(replaced_, {})) {
    if (std::find(keys_.begin(), keys_.end(), address.key()) == keys_.end()) continue;
    const bool before_cut =
        address.key() < cut_key_ || (address.key() == cut_key_ && address.block() < cut_block_);
    if (before_cut) continue;
    std::vector<BlockRun> runs{{address.block(), 1}};
    const auto freed = machine_.run(machine_.node().store().free_private(
        address.key(), Epoch(record_.epoch()), id_, std::move(runs)));
    EXPECT_TRUE(freed) << to_string(freed.error());
  }
}

// ---- views ----

meta::pb::View TestDisk::view() const {
  meta::pb::View view = base_;
  view.set_top_page(top_.raw());
  view.set_size_bytes(record_.size_bytes());
  if (!key_.is_none() && replay_from_.sequence < sequence_) {
    auto* const part = view.add_parts();
    *part->mutable_disk() = meta::to_pb(id_);
    *part->mutable_from() = meta::to_pb(replay_from_);
    *part->mutable_to() = meta::to_pb(end());
  }
  return view;
}

void TestDisk::snapshot(const std::string& name) {
  SnapshotState state;
  *state.record.mutable_id() = meta::to_pb(SnapshotId{id_.low, snapshots_.size() + 1});
  *state.record.mutable_disk() = meta::to_pb(id_);
  state.record.set_name(name);
  *state.record.mutable_view() = view();
  state.content = content_;
  machine_.put_meta(meta::snap_key(id_, name), meta::encode(state.record));
  snapshots_[name] = std::move(state);
  cut_key_ = key_;
  cut_block_ = length_.blocks;
}

void TestDisk::remove_snapshot(const std::string& name) {
  machine_.remove_meta(meta::snap_key(id_, name));
}

void TestDisk::trash() {
  machine_.remove_meta(meta::disk_key(id_));
  machine_.put_meta(meta::trash_key(id_), meta::encode(record_));
}

void TestDisk::purge() {
  machine_.remove_meta(meta::disk_key(id_));
  machine_.remove_meta(meta::trash_key(id_));
}

void TestDisk::take_over() {
  record_.set_epoch(record_.epoch() + 1);
  put_record();
}

// ---- checking ----

std::string TestDisk::check() {
  meta::pb::View now = view();
  if (record_.base().parts_size() > 0 && base_.parts_size() == 0) now = view();
  return check_view(now, content_);
}

std::string TestDisk::check_snapshot(const std::string& name) {
  const SnapshotState& state = snapshots_.at(name);
  return check_view(state.record.view(), state.content);
}

std::string TestDisk::check_view(const meta::pb::View& view, const Content& content) {
  snapshot::RunMap overlay;
  ViewReplay replay(machine_, overlay);
  for (const auto& part : view.parts()) {
    if (const auto done = replay.part(part); !done) {
      return "log part: " + to_string(done.error());
    }
  }
  StorePages pages(machine_);
  const Address top = Address::from_raw(view.top_page());
  for (const auto& [lbn, seed] : content) {
    Address address;
    if (const auto run = overlay.find(Lbn(lbn))) {
      address = Address::from_raw(run->place);
    } else {
      const auto found = machine_.run(snapshot::lookup(pages, top, Lbn(lbn)));
      if (!found) return "lookup of " + std::to_string(lbn) + ": " + to_string(found.error());
      address = *found;
    }
    std::vector<ReadRangeRequest> ranges{{address, 1}};
    const auto block = machine_.run(machine_.node().store().read(std::move(ranges)));
    if (!block) return "block " + std::to_string(lbn) + ": " + to_string(block.error());
    if (!std::ranges::equal(block->payload.bytes(), block_of(seed).bytes())) {
      return "block " + std::to_string(lbn) + " holds something else";
    }
  }
  return {};
}

}  // namespace vmstore::storaged::test
