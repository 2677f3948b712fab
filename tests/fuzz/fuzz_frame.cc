// SPDX-License-Identifier: Apache-2.0
// decode_frame_header() and the control messages on any bytes: no crash, nothing allocated beyond
// the limits, and an accepted header encodes to the same bytes (its status apart: numbers of a
// newer peer become `unknown`).
#include <cstdlib>
#include <string>

#include "base/checksum.h"
#include "base/limits.h"
#include "wire/frame.h"
#include "wire/messages.h"
#include "wire/vmstore.pb.h"

namespace {

using vmstore::ByteSpan;
constexpr std::size_t kSummedBytes = vmstore::wire::kFrameHeaderBytes - 8;

void check_header(ByteSpan bytes) {
  const auto header = vmstore::wire::decode_frame_header(bytes);
  if (!header) return;
  if (header->control_bytes > vmstore::limits::kControlBytesMax) std::abort();
  if (header->payload_bytes > vmstore::limits::kPayloadBytesMax) std::abort();
  const auto again = vmstore::wire::encode_frame_header(*header);
  const bool same = std::equal(again.begin(), again.end(), bytes.begin());
  if (!same && header->status != vmstore::Errc::unknown) std::abort();
}

template <class Message>
void check_message(std::string_view control) {
  vmstore::ignore(vmstore::wire::parse<Message>(control), "only that it survives");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto input = std::as_bytes(std::span(data, size));
  check_header(input);
  if (size >= kSummedBytes) {
    vmstore::ByteWriter summed;
    summed.put_bytes(input.first(kSummedBytes)).put(vmstore::xxh3(input.first(kSummedBytes)));
    check_header(summed.bytes());
  }
  const std::string_view control = vmstore::as_text(input);
  check_message<vmstore::pb::HelloRequest>(control);
  check_message<vmstore::pb::KeyAppendRequest>(control);
  check_message<vmstore::pb::KeyReadRequest>(control);
  check_message<vmstore::pb::MetaTxnRequest>(control);
  check_message<vmstore::pb::DiskCallRequest>(control);
  check_message<vmstore::pb::DiskCallReply>(control);
  return 0;
}
