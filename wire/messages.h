// SPDX-License-Identifier: Apache-2.0
// Control messages as text of frames, and their ids, lengths and positions as strong types.
// Messages themselves: include "wire/vmstore.pb.h" where one is used; this header stays light.
//
// Invariants: nothing is parsed that is longer than limits::kControlBytesMax; a number that does
// not fit its strong type is `bad_frame`, never cut.
#pragma once

#include <string>
#include <string_view>

#include "base/assert.h"
#include "base/ids.h"
#include "base/limits.h"
#include "base/result.h"

namespace vmstore::pb {
class Id;
class Length;
class Position;
}  // namespace vmstore::pb

namespace vmstore::wire {

/// The message in `control`; `bad_frame` when it is not one or too long. Unknown fields are kept
/// out: a newer peer may send them.
template <class Message>
[[nodiscard]] Result<Message> parse(std::string_view control) {
  if (control.size() > limits::kControlBytesMax) return Errc::bad_frame;
  Message message;
  if (!message.ParseFromArray(control.data(), static_cast<int>(control.size()))) {
    return Errc::bad_frame;
  }
  return message;
}

/// The bytes of a message. Its size is checked when its frame is sealed.
template <class Message>
[[nodiscard]] std::string serialize(const Message& message) {
  std::string control;
  const bool done = message.SerializeToString(&control);
  VMS_ASSERT(done);  // fails only over 2 GiB
  return control;
}

namespace detail {
void put_id(pb::Id& out, std::uint64_t high, std::uint64_t low);
void get_id(const pb::Id& in, std::uint64_t& high, std::uint64_t& low);
}  // namespace detail

template <class Tag>
void put_id(pb::Id& out, Id128<Tag> id) {
  detail::put_id(out, id.high, id.low);
}
template <class Id>
[[nodiscard]] Id get_id(const pb::Id& in) {
  Id id;
  detail::get_id(in, id.high, id.low);
  return id;
}

void put_length(pb::Length& out, const KeyLength& length);
[[nodiscard]] Result<KeyLength> get_length(const pb::Length& in);
void put_position(pb::Position& out, const LogPosition& position);
[[nodiscard]] Result<LogPosition> get_position(const pb::Position& in);

/// A key that can name a block file: 16 .. 2^33-1.
[[nodiscard]] Result<KeyId> get_key(std::uint64_t number);
/// A number of blocks in a key, or a block's place: 0 .. 2^28.
[[nodiscard]] Result<BlockIndex> get_blocks(std::uint64_t number);

}  // namespace vmstore::wire
