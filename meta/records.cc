// SPDX-License-Identifier: Apache-2.0
#include "meta/records.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include "base/bytes.h"
#include "base/limits.h"
#include "meta/schema.h"

namespace vmstore::meta {
namespace {

constexpr int kViewPartsMax = 4;
constexpr int kReplicasMax = 16;

Result<void> require(bool condition) {
  if (!condition) return Errc::corrupt;
  return success();
}

bool is_none(const pb::Id& id) {
  return id.high() == 0 && id.low() == 0;
}
bool fits(const pb::Position& position) {
  return position.key() < KeyId::kEnd;
}
bool fits(const pb::Length& length) {
  return length.blocks() <= BlockIndex::kEnd;
}
bool fits(const pb::Cut& cut) {
  return cut.key() < KeyId::kEnd && cut.block() <= BlockIndex::kEnd;
}
bool fits_disk_size(std::uint64_t bytes) {
  return bytes <= limits::kDiskBytesMax && bytes % kSectorBytes == 0;
}

bool fits(const pb::KeyPlace& place) {
  return place.key() < KeyId::kEnd && place.nodes_size() <= kReplicasMax &&
         place.nodes_size() == place.incarnations_size();
}

bool fits(const pb::View& view) {
  if (view.parts_size() > kViewPartsMax || !fits_disk_size(view.size_bytes())) return false;
  for (const pb::LogPart& part : view.parts()) {
    if (is_none(part.disk()) || !fits(part.from()) || !fits(part.to())) return false;
  }
  return true;
}

}  // namespace

namespace records_detail {

Result<void> parse(std::string_view bytes, google::protobuf::MessageLite& message) {
  if (bytes.size() > limits::kMetaValueBytesMax) return Errc::corrupt;
  return require(message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
}

std::string serialize(const google::protobuf::MessageLite& message) {
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream buffer(&bytes);
    google::protobuf::io::CodedOutputStream stream(&buffer);
    stream.SetSerializationDeterministic(true);  // else the order of a map's entries varies
    const bool complete = message.SerializeToCodedStream(&stream);
    VMS_ASSERT(complete);
  }
  return bytes;
}

Result<Id128<void>> parse_id(std::string_view bytes) {
  ByteReader reader(as_byte_span(bytes));
  Id128<void> id;
  id.high = reader.get<std::uint64_t>();
  id.low = reader.get<std::uint64_t>();
  VMS_CHECK(require(reader.ok() && reader.remaining() == 0 && !id.is_none()));
  return id;
}

std::string serialize_id(Id128<void> id) {
  ByteWriter writer;
  writer.put(id.high).put(id.low);
  return std::string(as_text(writer.bytes()));
}

}  // namespace records_detail

Result<void> check_record(const pb::DiskRecord& record) {
  VMS_CHECK(require(!is_none(record.id())));
  VMS_CHECK(require(fits_disk_size(record.size_bytes())));
  VMS_CHECK(require(pb::DiskRecord::State_IsValid(record.state())));
  VMS_CHECK(require(fits(record.base())));
  VMS_CHECK(require(fits(record.log_from())));
  VMS_CHECK(require(fits(record.log_end())));
  VMS_CHECK(require(fits(record.open_key())));
  VMS_CHECK(require(fits(record.last_sealed())));
  VMS_CHECK(require(fits(record.last_sealed_length())));
  VMS_CHECK(require(fits(record.cut())));
  return require(record.key_range_first() < KeyId::kEnd &&
                 record.key_range_first() + record.key_range_next() <= KeyId::kEnd);
}

Result<void> check_record(const pb::SnapshotRecord& record) {
  VMS_CHECK(require(!is_none(record.disk())));
  return require(fits(record.view()));
}

Result<void> check_record(const pb::StoreRecord& record) {
  VMS_CHECK(require(!is_none(record.id()) && record.format() != 0));
  if (record.format() > kStoreFormat) return Errc::newer_format;
  return success();
}

Result<void> check_record(const pb::NodeRecord& record) {
  return require(!is_none(record.id()));
}

Result<void> check_record(const pb::KeyCounter& record) {
  return require(record.next() >= KeyId::kFirst && record.next() <= KeyId::kEnd);
}

Result<void> check_record(const pb::GcRecord& /*record*/) {
  return success();
}

pb::Position to_pb(const LogPosition& position) {
  pb::Position message;
  message.set_key(position.key.value());
  message.set_log_offset(position.log_offset);
  message.set_sequence(position.sequence.value);
  return message;
}

pb::Length to_pb(const KeyLength& length) {
  pb::Length message;
  message.set_last_sequence(length.last_sequence.value);
  message.set_log_bytes(length.log_bytes);
  message.set_blocks(length.blocks.value);
  return message;
}

LogPosition from_pb(const pb::Position& message) noexcept {
  const auto key = KeyId::make(message.key());
  VMS_ASSERT(key.has_value());
  return {*key, message.log_offset(), Sequence(message.sequence())};
}

KeyLength from_pb(const pb::Length& message) noexcept {
  VMS_ASSERT(fits(message));
  return {Sequence(message.last_sequence()), message.log_bytes(), {message.blocks()}};
}

}  // namespace vmstore::meta
