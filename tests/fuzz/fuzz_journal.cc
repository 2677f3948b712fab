// SPDX-License-Identifier: Apache-2.0
// decode_group() on any bytes: no crash, and what it calls complete encodes to a group that decodes
// to the same. The input is taken as it is, and as the stream behind the units' prefixes with all
// checksums of the group made right, or nothing behind them would ever be reached.
#include <algorithm>
#include <cstdlib>
#include <span>
#include <vector>

#include "base/checksum.h"
#include "storaged/journal_format.h"

namespace {

using vmstore::ByteReader;
using vmstore::ByteSpan;
using vmstore::ByteWriter;
namespace storaged = vmstore::storaged;

constexpr std::size_t kFixedBytes = 48;
constexpr std::size_t kEntryBytes = 88;
constexpr std::size_t kUnitsPlace = 8;
constexpr std::size_t kDirectorySumPlace = 32;
constexpr std::size_t kFixedSumPlace = 40;
constexpr std::size_t kBodySumPlace = 80;
constexpr std::uint32_t kUnitMagic = 0x424a4d56U;

void check_again(const storaged::DecodedGroup& group) {
  std::vector<storaged::OutgoingEntry> entries;
  std::vector<ByteSpan> pieces(group.entries.size());
  for (std::size_t i = 0; i < group.entries.size(); ++i) {
    pieces[i] = group.entries[i].blocks;
    entries.push_back({group.entries[i].fields, group.entries[i].body, {&pieces[i], 1}});
  }
  const auto size = storaged::group_bytes(entries, group.previous_keys.size());
  if (size > vmstore::limits::kJournalGroupBytesMax) return;
  std::vector<std::byte> bytes(size);
  storaged::encode_group(group.number, group.previous_keys, entries, bytes);
  const auto again = storaged::decode_group(bytes);
  if (!again || !again->complete() || again->entries.size() != entries.size()) std::abort();
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const auto& a = group.entries[i];
    const auto& b = again->entries[i];
    const bool same = a.fields == b.fields && a.record == b.record &&
                      std::ranges::equal(a.body, b.body) && std::ranges::equal(a.blocks, b.blocks);
    if (!same) std::abort();
  }
}

void check(ByteSpan bytes) {
  const auto group = storaged::decode_group(bytes);
  if (group && group->complete()) check_again(*group);
}

/// Makes the checksums of bodies, directory and fixed part right, as far as the counts fit.
void correct_sums(ByteWriter& stream) {
  ByteReader fixed(stream.bytes().subspan(kUnitsPlace));
  fixed.skip(4);
  const std::size_t entries = fixed.get<std::uint32_t>();
  const std::size_t previous = fixed.get<std::uint32_t>();
  if (entries > storaged::kGroupEntriesMax || previous > storaged::kGroupEntriesMax) return;
  const std::size_t directory_bytes = entries * kEntryBytes + previous * 8;
  if (kFixedBytes + directory_bytes > stream.size()) return;
  std::size_t body = kFixedBytes + directory_bytes;
  for (std::size_t i = 0; i < entries; ++i) {
    const std::size_t place = kFixedBytes + i * kEntryBytes;
    ByteReader entry(stream.bytes().subspan(place + 4));
    const std::size_t body_bytes = entry.get<std::uint32_t>();
    const std::size_t block_bytes = entry.get<std::uint32_t>();
    if (body_bytes > stream.size() - body) break;
    stream.patch(place + kBodySumPlace, vmstore::xxh3(stream.bytes().subspan(body, body_bytes)));
    body += body_bytes;
    if (block_bytes > stream.size() - body) break;
    body += block_bytes;
  }
  const ByteSpan directory = stream.bytes().subspan(kFixedBytes, directory_bytes);
  stream.patch(kDirectorySumPlace, vmstore::xxh3(directory));
}

std::vector<std::byte> with_prefixes(ByteSpan stream, std::uint64_t number) {
  ByteWriter units;
  for (std::uint32_t unit = 0; !stream.empty(); ++unit) {
    const ByteSpan part = stream.first(std::min(stream.size(), storaged::kUnitBodyBytes));
    units.put(kUnitMagic).put(unit).put(number).put_bytes(part);
    units.put_zeros(storaged::kUnitBodyBytes - part.size());
    stream = stream.subspan(part.size());
  }
  return units.take();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ByteSpan input = std::as_bytes(std::span(data, size));
  check(input);
  static_cast<void>(storaged::decode_punch(input));
  static_cast<void>(storaged::decode_create(input));
  if (size < kFixedBytes) return 0;
  ByteWriter stream;
  stream.put_bytes(input);
  const std::size_t units = (size + storaged::kUnitBodyBytes - 1) / storaged::kUnitBodyBytes;
  stream.patch(kUnitsPlace, static_cast<std::uint32_t>(units));
  correct_sums(stream);
  stream.patch(kFixedSumPlace, vmstore::xxh3(stream.bytes().first(kFixedSumPlace)));
  ByteReader first(stream.bytes());
  check(with_prefixes(stream.bytes(), first.get<std::uint64_t>()));
  return 0;
}
