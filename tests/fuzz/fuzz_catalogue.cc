// SPDX-License-Identifier: Apache-2.0
// scan() of a catalogue log and decode() of every record on any bytes: no crash, and what is
// accepted means the same again when it is written anew. Checksums would keep the fuzzer out, so
// the input is also taken as the payloads of groups that are framed here.
#include <cstdlib>
#include <span>
#include <vector>

#include "base/checksum.h"
#include "meta/catalogue_log_format.h"
#include "meta/records.h"

namespace {

using namespace vmstore;        // tidy-allow: using-namespace a test program
using namespace vmstore::meta;  // tidy-allow: using-namespace a test program

void require(bool condition) {
  if (!condition) std::abort();
}

template <class Record>
void check_decoded(std::string_view value) {
  const auto record = decode<Record>(value);
  if (!record) return;
  const std::string bytes = encode(*record);
  const auto again = decode<Record>(bytes);
  require(again.has_value() && encode(*again) == bytes);
}

void check_positions(std::string_view value) {
  const auto record = decode<pb::DiskRecord>(value);
  if (!record) return;
  require(from_pb(record->log_from()).key.value() < KeyId::kEnd);
  require(from_pb(record->last_sealed_length()).blocks.value <= BlockIndex::kEnd);
  for (const auto& part : record->base().parts()) static_cast<void>(from_pb(part.to()));
}

void check_scanned(ByteSpan file) {
  const auto scan = log_format::scan(file);
  if (!scan) return;
  require(scan->bytes + scan->torn_bytes == file.size());
  for (const auto& [key, entry] : scan->image.entries) {
    require(key == entry.key && entry.mod_revision <= scan->image.revision);
    check_decoded<pb::DiskRecord>(entry.value);
  }
  const auto whole = log_format::scan(file.first(scan->bytes));
  require(whole.has_value() && whole->image.entries.size() == scan->image.entries.size());
}

/// A log whose groups have the pieces of `input` as payloads.
std::vector<std::byte> framed(ByteSpan input) {
  std::vector<std::byte> file;
  const auto add = [&file](ByteSpan bytes) { file.insert(file.end(), bytes.begin(), bytes.end()); };
  const auto base = log_format::encode_group(1, 1, {});
  log_format::Header header;
  header.base_groups = 1;
  header.base_bytes = log_format::kHeaderBytes + base.size();
  header.revision = 1;
  add(log_format::encode_header(header));
  add(base);
  for (std::uint64_t number = 2; input.size() > 2; ++number) {
    const auto changes = std::to_integer<std::uint32_t>(input[0]);
    const auto bytes =
        std::min<std::size_t>(std::to_integer<std::size_t>(input[1]), input.size() - 2);
    const ByteSpan payload = input.subspan(2, bytes);
    ByteWriter group;
    group.put(std::uint32_t{0x47544143}).put(static_cast<std::uint32_t>(bytes));
    group.put(number).put(number).put(changes).put(std::uint32_t{0}).put(xxh3(payload));
    group.put(xxh3(group.bytes())).put_bytes(payload).put_bytes(as_byte_span("groupend"));
    add(group.bytes());
    input = input.subspan(2 + bytes);
  }
  return file;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto input = std::as_bytes(std::span(data, size));
  const auto value = as_text(input);
  check_decoded<pb::DiskRecord>(value);
  check_decoded<pb::SnapshotRecord>(value);
  check_decoded<pb::StoreRecord>(value);
  check_decoded<pb::NodeRecord>(value);
  check_decoded<pb::KeyCounter>(value);
  check_decoded<pb::GcRecord>(value);
  check_positions(value);
  check_scanned(input);
  check_scanned(framed(input));
  return 0;
}
