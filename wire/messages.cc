// SPDX-License-Identifier: Apache-2.0
#include "wire/messages.h"

#include "wire/vmstore.pb.h"

namespace vmstore::wire {

namespace detail {

void put_id(pb::Id& out, std::uint64_t high, std::uint64_t low) {
  out.set_high(high);
  out.set_low(low);
}

void get_id(const pb::Id& in, std::uint64_t& high, std::uint64_t& low) {
  high = in.high();
  low = in.low();
}

}  // namespace detail

void put_length(pb::Length& out, const KeyLength& length) {
  out.set_last_sequence(length.last_sequence.value);
  out.set_log_bytes(length.log_bytes);
  out.set_blocks(length.blocks.value);
}

Result<KeyLength> get_length(const pb::Length& in) {
  KeyLength length;
  length.last_sequence = Sequence(in.last_sequence());
  length.log_bytes = in.log_bytes();
  VMS_TRY(length.blocks, get_blocks(in.blocks()));
  return length;
}

void put_position(pb::Position& out, const LogPosition& position) {
  out.set_key(position.key.value());
  out.set_log_offset(position.log_offset);
  out.set_sequence(position.sequence.value);
}

Result<LogPosition> get_position(const pb::Position& in) {
  LogPosition position;
  const auto key = KeyId::make(in.key());
  if (!key || !(key->is_none() || key->is_usable())) return Errc::bad_frame;
  position.key = *key;
  position.log_offset = in.log_offset();
  position.sequence = Sequence(in.sequence());
  return position;
}

Result<KeyId> get_key(std::uint64_t number) {
  const auto key = KeyId::make(number);
  if (!key || !key->is_usable()) return Errc::bad_frame;
  return *key;
}

Result<BlockIndex> get_blocks(std::uint64_t number) {
  if (number > BlockIndex::kEnd) return Errc::bad_frame;
  return BlockIndex{number};
}

}  // namespace vmstore::wire
