// SPDX-License-Identifier: Apache-2.0
// A seeded owner of a batch file and a model of what a scan must find at any instant.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "base/random.h"
#include "disk/batch_file.h"

namespace vmstore::disk {

inline constexpr BatchFileIdentity kTestIdentity{{1, 2}, {3, 4}, {5, 6}};

/// 8 MiB of zeros on the heap, aligned as a mapping is.
class HeapFile {
 public:
  HeapFile() : bytes_(limits::kBatchFileBytes + kBlockBytes) {
    const auto address = reinterpret_cast<std::uintptr_t>(bytes_.data());
    skip_ = (kBlockBytes - address % kBlockBytes) % kBlockBytes;
  }
  [[nodiscard]] MutableBytes memory() {
    return MutableBytes(bytes_).subspan(skip_, limits::kBatchFileBytes);
  }

 private:
  std::vector<std::byte> bytes_;
  std::size_t skip_;
};

inline BatchFile make_file(MutableBytes memory, Epoch epoch = Epoch(1)) {
  BatchFileState state;
  state.epochs[0] = epoch;
  return BatchFile::create(memory, kTestIdentity, state);
}

/// Every word of the block says which content it is and where in the block it lies.
inline std::uint64_t word_of(std::uint64_t id, std::size_t index) {
  return (id << 16) | index;
}

inline void fill_block(MutableBytes block, std::uint64_t id) {
  for (std::size_t i = 0; i < block.size() / 8; ++i) {
    const std::uint64_t word = word_of(id, i);
    std::memcpy(block.data() + i * 8, &word, 8);
  }
}

/// Which content a block has; empty when it is torn.
inline std::optional<std::uint64_t> block_id(ByteSpan block) {
  std::uint64_t first = 0;
  std::memcpy(&first, block.data(), 8);
  for (std::size_t i = 0; i < kBlockBytes / 8; ++i) {
    std::uint64_t word = 0;
    std::memcpy(&word, block.data() + i * 8, 8);
    if (word != word_of(first >> 16, i)) return std::nullopt;
  }
  return first >> 16;
}

/// A batch as the model has it: content 0 is zeros.
struct ModelBatch {
  std::optional<Sequence> sequence;
  bool flush_mark = false;
  std::optional<std::uint64_t> disk_bytes;
  std::map<std::uint64_t, std::uint64_t> blocks;
  friend bool operator==(const ModelBatch&, const ModelBatch&) = default;
};
using Model = std::vector<ModelBatch>;

inline ModelBatch model_of(const RecoveredBatch& batch, ByteSpan memory) {
  ModelBatch model{batch.sequence, batch.flush_mark, batch.disk_bytes, {}};
  for (const snapshot::Extent& run : batch.extents) {
    for (std::uint64_t i = 0; i < run.blocks; ++i) {
      std::uint64_t id = 0;
      if (run.where == snapshot::Where::slot) {
        const std::size_t place = kBatchSlotsOffset + (run.place + i) * kBlockBytes;
        const auto found = block_id(memory.subspan(place, kBlockBytes));
        EXPECT_TRUE(found.has_value()) << "block " << run.lbn.value + i << " is torn";
        id = found.value_or(0);
      }
      model.blocks[run.lbn.value + i] = id;
    }
  }
  return model;
}

/// What a session that comes after a death at this instant finds.
inline Model scan_model(ByteSpan memory) {
  const auto content = scan_batch_file(memory, kTestIdentity);
  EXPECT_TRUE(content.has_value());
  if (!content) return {};
  EXPECT_EQ(content->condition, BatchFileCondition::live);
  Model model;
  for (const RecoveredBatch& batch : content->batches) model.push_back(model_of(batch, memory));
  return model;
}

/// Does what an owner does, in an order that follows from the seed alone.
class Workload {
 public:
  /// Called between any two stores of the owner itself, with the content before and after the step.
  using Instant = std::function<void(const Model& before, const Model& after)>;

  explicit Workload(std::uint64_t seed) : random_(seed) {}
  void on_instant(Instant instant) { instant_ = std::move(instant); }

  /// Leaves few free slots, so that each is used again soon.
  static void tighten(BatchFile& file) {
    std::vector<SlotRun> kept;
    if (file.free_slot_count() <= kSlots) return;
    EXPECT_TRUE(file.allocate(file.free_slot_count() - kSlots, kept));
  }

  /// Publishes, closes or releases once at most.
  void step(BatchFile& file) {
    const std::uint64_t choice = random_.below(100);
    if (choice < 55) {
      write(file);
    } else if (choice < 65) {
      zero(file);
    } else if (choice < 68) {
      resize(file);
    } else if (choice < 86) {
      close(file);
    } else {
      release(file);
    }
  }

  /// The process died and the next one took the file over.
  void adopt(BatchFile& file, MutableBytes memory) {
    auto adopted = BatchFile::adopt(memory, kTestIdentity);
    ASSERT_TRUE(adopted.has_value());
    file = std::move(*adopted);
    tighten(file);
    const auto content = scan_batch_file(memory, kTestIdentity);
    ASSERT_TRUE(content.has_value());
    ends_.clear();
    slots_.clear();
    for (const RecoveredBatch& batch : content->batches) {
      if (batch.sequence) {
        ends_.push_back(batch.end_entry);
        continue;
      }
      for (const snapshot::Extent& run : batch.extents) {
        for (std::uint64_t i = 0; i < run.blocks; ++i) {
          if (run.where != snapshot::Where::slot) continue;
          slots_[run.lbn.value + i] = static_cast<std::uint32_t>(run.place + i);
        }
      }
    }
  }

  [[nodiscard]] const Model& model() const { return now_; }
  void instant() {
    if (instant_) instant_(now_, next_);
  }

 private:
  void settle() { now_ = next_; }
  static constexpr std::uint64_t kBlocks = 48;
  static constexpr std::uint32_t kSlots = 60;

  ModelBatch& open() {
    if (next_.empty() || next_.back().sequence) next_.emplace_back();
    return next_.back();
  }

  void write(BatchFile& file) {
    const std::uint64_t lbn = random_.below(kBlocks);
    const auto count = static_cast<std::uint32_t>(
        1 + random_.below(std::min<std::uint64_t>(kBlocks - lbn, random_.one_in(8) ? 30 : 4)));
    std::vector<SlotRun> runs;
    if (!file.allocate(count, runs) || !file.can_publish(count)) {
      for (const SlotRun& run : runs) file.free_slots(run);
      return ends_.empty() ? close(file) : release(file);
    }
    ModelBatch& batch = open();
    std::vector<BatchEntry> entries;
    std::map<std::uint64_t, std::uint32_t> taken;
    std::uint64_t at = lbn;
    for (const SlotRun& run : runs) {
      entries.push_back(BatchEntry::make_blocks(Lbn(at), run));
      for (std::uint32_t i = 0; i < run.count; ++i, ++at) {
        taken[at] = run.first + i;
        batch.blocks[at] = ++last_id_;
        fill_block(file.slot(run.first + i).first(kBlockBytes / 2), last_id_);
        instant();
        fill_block(file.slot(run.first + i), last_id_);
      }
    }
    instant();
    file.publish(entries);
    settle();
    instant();
    supersede(file, lbn, count);
    slots_.merge(taken);
  }

  void supersede(BatchFile& file, std::uint64_t lbn, std::uint64_t count) {
    const auto from = slots_.lower_bound(lbn);
    const auto to = slots_.lower_bound(lbn + count);
    for (auto it = from; it != to; ++it) file.free_slots({it->second, 1});
    slots_.erase(from, to);
  }

  void zero(BatchFile& file) {
    if (!file.can_publish(1)) return;
    const std::uint64_t lbn = random_.below(kBlocks);
    const std::uint64_t count = 1 + random_.below(kBlocks - lbn);
    for (std::uint64_t i = 0; i < count; ++i) open().blocks[lbn + i] = 0;
    const BatchEntry entry = BatchEntry::make_zero(Lbn(lbn), count);
    file.publish({&entry, 1});
    settle();
    supersede(file, lbn, count);
  }

  void resize(BatchFile& file) {
    if (!file.can_publish(1)) return;
    const std::uint64_t bytes = kSectorBytes * (1 + random_.below(1000));
    open().disk_bytes = bytes;
    const BatchEntry entry = BatchEntry::make_resize(bytes);
    file.publish({&entry, 1});
    settle();
  }

  void close(BatchFile& file) {
    sequence_ += 1 + random_.below(3);
    ModelBatch& batch = open();
    batch.sequence = Sequence(sequence_);
    batch.flush_mark = random_.one_in(2);
    ends_.push_back(file.close_batch(Sequence(sequence_), batch.flush_mark));
    settle();
    slots_.clear();
  }

  void release(BatchFile& file) {
    if (ends_.empty()) return;
    next_.erase(next_.begin());
    std::vector<SlotRun> runs;
    file.release_up_to(ends_.front(), runs);
    settle();
    ends_.pop_front();
    for (const SlotRun& run : runs) file.free_slots(run);
  }

  Random random_;
  Instant instant_;
  Model now_;
  Model next_;
  std::map<std::uint64_t, std::uint32_t> slots_;  // of the open batch
  std::deque<std::uint64_t> ends_;                // of the closed batches
  std::uint64_t sequence_ = 0;
  std::uint64_t last_id_ = 0;
};

}  // namespace vmstore::disk
