// SPDX-License-Identifier: Apache-2.0
// Values of the catalogue: encoding, decoding, and the conversions between their messages and the
// ids of base/.
//
// Invariants: decode() returns only records whose every number fits the type it is converted to, so
// from_pb() cannot fail on them; an empty or foreign value is `corrupt`, never a record of zeros;
// equal records encode to equal bytes, so that values can be compared in a txn.
#pragma once

#include <string>
#include <string_view>

#include "base/ids.h"
#include "base/result.h"
#include "meta/records.pb.h"

namespace vmstore::meta {

namespace records_detail {
[[nodiscard]] Result<void> parse(std::string_view bytes, google::protobuf::MessageLite& message);
[[nodiscard]] std::string serialize(const google::protobuf::MessageLite& message);
[[nodiscard]] Result<Id128<void>> parse_id(std::string_view bytes);
[[nodiscard]] std::string serialize_id(Id128<void> id);
}  // namespace records_detail

/// `corrupt` if a number does not fit its type, or something every such record has is missing;
/// `newer_format` for the record of a store that a newer version made.
[[nodiscard]] Result<void> check_record(const pb::DiskRecord& record);
[[nodiscard]] Result<void> check_record(const pb::SnapshotRecord& record);
[[nodiscard]] Result<void> check_record(const pb::StoreRecord& record);
[[nodiscard]] Result<void> check_record(const pb::NodeRecord& record);
[[nodiscard]] Result<void> check_record(const pb::KeyCounter& record);
[[nodiscard]] Result<void> check_record(const pb::GcRecord& record);

/// The record in a value of the catalogue. `corrupt` if the bytes are not one; see check_record.
template <class Record>
[[nodiscard]] Result<Record> decode(std::string_view value) {
  Record record;
  VMS_CHECK(records_detail::parse(value, record));
  VMS_CHECK(check_record(record));
  return record;
}

/// The value for a record. REQUIRES: decode() would accept it.
template <class Record>
[[nodiscard]] std::string encode(const Record& record) {
  VMS_ASSERT(check_record(record).has_value());
  return records_detail::serialize(record);
}

/// The 16 bytes of an id standing alone, as under /name/: high half, low half, little-endian.
template <class Tag>
[[nodiscard]] std::string encode_id(Id128<Tag> id) {
  return records_detail::serialize_id({id.high, id.low});
}
template <class Id>
[[nodiscard]] Result<Id> decode_id(std::string_view value) {
  VMS_TRY(const auto id, records_detail::parse_id(value));
  return Id{id.high, id.low};
}

template <class Tag>
[[nodiscard]] pb::Id to_pb(Id128<Tag> id) {
  pb::Id message;
  message.set_high(id.high);
  message.set_low(id.low);
  return message;
}
[[nodiscard]] pb::Position to_pb(const LogPosition& position);
[[nodiscard]] pb::Length to_pb(const KeyLength& length);

template <class Id>
[[nodiscard]] Id from_pb(const pb::Id& message) noexcept {
  return Id{message.high(), message.low()};
}
/// REQUIRES: part of a record that decode() accepted.
[[nodiscard]] LogPosition from_pb(const pb::Position& message) noexcept;
/// REQUIRES: part of a record that decode() accepted.
[[nodiscard]] KeyLength from_pb(const pb::Length& message) noexcept;

}  // namespace vmstore::meta
