// SPDX-License-Identifier: Apache-2.0
// decode_record() on any bytes: no crash, and what it accepts encodes to the same bytes. The
// checksum is made right first, or nothing behind it would ever be reached.
#include <cstdlib>
#include <vector>

#include "base/checksum.h"
#include "wire/record.h"

namespace {

constexpr std::size_t kChecksumPlace = 24;

void check(vmstore::ByteSpan log) {
  const auto decoded = vmstore::wire::decode_record(log);
  if (!decoded) return;
  const auto again = vmstore::wire::encode_record(decoded->header);
  const bool same =
      again.size() == decoded->bytes && std::equal(again.begin(), again.end(), log.begin());
  if (!same) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto input = std::as_bytes(std::span(data, size));
  check(input);
  if (size < vmstore::wire::kRecordFixedBytes || size % 8 != 0) return 0;
  vmstore::ByteWriter record;
  record.put_bytes(input);
  record.patch(kChecksumPlace, std::uint64_t{0});
  record.patch(kChecksumPlace, vmstore::xxh3(record.bytes()));
  check(record.bytes());
  return 0;
}
