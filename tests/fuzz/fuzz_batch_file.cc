// SPDX-License-Identifier: Apache-2.0
// scan_batch_file() on any bytes: no crash, and what it accepts is inside the file. The input is
// laid over a small valid file: its first byte says where, the rest are the bytes. Sums and tags
// are made right again, or nothing behind them would be reached.
#include <array>
#include <cstdlib>
#include <vector>

#include "base/checksum.h"
#include "disk/batch_file_format.h"

namespace {

using namespace vmstore;        // tidy-allow: using-namespace a test program
using namespace vmstore::disk;  // tidy-allow: using-namespace a test program
namespace format = batch_format;

constexpr BatchFileIdentity kIdentity{{1, 2}, {3, 4}, {5, 6}};
constexpr std::uint64_t kEntriesFuzzed = 16;

void set_word(MutableBytes memory, std::size_t place, std::uint64_t value) {
  std::memcpy(memory.data() + place, &value, sizeof value);
}

void overlay(MutableBytes memory, std::size_t place, ByteSpan bytes) {
  const std::size_t count = std::min(bytes.size(), memory.size() - place);
  std::copy_n(bytes.begin(), count, memory.begin() + static_cast<std::ptrdiff_t>(place));
}

/// Entries of 24 bytes each, tagged.
void set_entries(MutableBytes memory, ByteSpan bytes) {
  std::uint64_t position = 0;
  for (; position < kEntriesFuzzed && bytes.size() >= 24; ++position, bytes = bytes.subspan(24)) {
    const std::size_t place = format::entry_place(position);
    overlay(memory, place, bytes.first(24));
    const auto words = format::load_words<3>(memory, place);
    const std::array<std::uint64_t, 4> tagged = {position, words[0], words[1], words[2]};
    set_word(memory, place + 24, xxh3(std::as_bytes(std::span(tagged))));
  }
  set_word(memory, format::kPublishedAt, format::encode_count(position));
}

void check(ByteSpan memory) {
  const auto content = scan_batch_file(memory, kIdentity);
  if (!content) return;
  std::vector<bool> used(kBatchSlots);
  for (const RecoveredBatch& batch : content->batches) {
    std::uint64_t end = 0;
    for (const snapshot::Extent& run : batch.extents) {
      if (run.blocks == 0 || run.lbn.value < end) std::abort();
      end = run.lbn.value + run.blocks;
      if (end > format::kIndexBlocks) std::abort();
      if (run.where == snapshot::Where::zero) continue;
      for (std::uint64_t slot = run.place; slot < run.place + run.blocks; ++slot) {
        if (slot >= kBatchSlots || used[slot]) std::abort();
        used[slot] = true;
      }
    }
  }
}

MutableBytes buffer() {
  static std::vector<std::byte> bytes(limits::kBatchFileBytes + kBlockBytes);
  const auto address = reinterpret_cast<std::uintptr_t>(bytes.data());
  const std::size_t skip = (kBlockBytes - address % kBlockBytes) % kBlockBytes;
  return MutableBytes(bytes).subspan(skip, limits::kBatchFileBytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0 || size > 2 * kBatchHeaderBytes) return 0;
  const MutableBytes memory = buffer();
  const auto input = std::as_bytes(std::span(data, size)).subspan(1);
  // Only the header and the first entries are ever changed.
  std::fill_n(memory.begin(), 3 * kBatchHeaderBytes, std::byte{0});
  set_word(memory, 0, 0);
  BatchFileState state;
  state.epochs[0] = Epoch(1);
  if (data[0] % 5 == 4) state.takeover_base = Sequence(3);
  static_cast<void>(BatchFile::create(memory, kIdentity, state));
  switch (data[0] % 5) {
    case 0:
      overlay(memory, 0, input);
      break;
    case 1:
      overlay(memory, 0, input);
      set_word(memory, 0, format::kMagic);
      set_word(memory, format::kChecksumAt, xxh3(memory.first(format::kChecksumAt)));
      break;
    case 2:
      overlay(memory, format::kStateNumberAt, input);
      break;
    default:
      set_entries(memory, input);
      break;
  }
  check(memory);
  const auto adopted = BatchFile::adopt(memory, kIdentity);
  if (adopted && adopted->published() - adopted->released() > kBatchEntries) std::abort();
  return 0;
}
