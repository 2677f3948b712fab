// SPDX-License-Identifier: Apache-2.0
// key_*: every verb once as it is meant, and with every number that a hostile or broken client
// could send in every field. After each the node must still serve (I11).
#include <gtest/gtest.h>

#include <algorithm>

#include "base/checksum.h"
#include "base/limits.h"
#include "meta/records.h"
#include "meta/schema.h"
#include "snapshot/page.h"
#include "tests/unit/storaged_service/service_fixture.h"
#include "wire/record.h"

namespace vmstore::storaged::test {
namespace {

/// A key of one owner: makes its requests and keeps count.
class Owner {
 public:
  Owner(Client& client, KeyId key, std::uint64_t token = 1)
      : client_(client), key_(key), token_(token) {}

  pb::KeyCreateRequest create_request() const {
    wire::RecordHeader header;
    header.kind = wire::RecordKind::key_header;
    header.disk = kDisk;
    header.key = key_;
    header.epoch = Epoch(token_);
    header.sequence = Sequence(1);
    pb::KeyCreateRequest request;
    request.set_key(key_.value());
    wire::put_id(*request.mutable_disk(), kDisk);
    request.set_token(token_);
    request.set_header_record(text(wire::encode_record(header)));
    request.set_copies(1);
    return request;
  }

  wire::RecordHeader record(const wire::Payload& blocks) const {
    wire::RecordHeader header;
    header.disk = kDisk;
    header.key = key_;
    header.epoch = Epoch(token_);
    header.sequence = length_.last_sequence.next();
    header.data_offset = length_.blocks;
    const std::uint64_t count = blocks.size() / kBlockBytes;
    if (count > 0) header.runs.push_back({wire::RunKind::stored, Lbn(0), count, Address()});
    for (std::uint64_t i = 0; i < count; ++i) {
      header.block_sums.push_back(block_sum(blocks.bytes().subspan(i * kBlockBytes, kBlockBytes)));
    }
    return header;
  }

  pb::KeyAppendRequest append_request(const wire::RecordHeader& header) const {
    pb::KeyAppendRequest request;
    request.set_key(key_.value());
    request.set_token(header.epoch.value);
    request.set_sequence(header.sequence.value);
    request.set_log_offset(length_.log_bytes);
    request.set_data_offset(header.data_offset.value);
    request.set_record(text(wire::encode_record(header)));
    return request;
  }

  void create() {
    const auto reply = client_.call<pb::KeyCreateReply>(wire::Opcode::key_create, create_request());
    ASSERT_TRUE(reply) << to_string(reply.error());
    length_ = *wire::get_length(reply->length());
  }

  /// Appends what it is given; counts it if it was taken.
  Errc try_append(const wire::RecordHeader& header, const wire::Payload& payload) {
    const auto reply =
        client_.call<pb::KeyAppendReply>(wire::Opcode::key_append, append_request(header), payload);
    if (reply) length_ = *wire::get_length(reply->length());
    return reply ? Errc::ok : reply.error().code;
  }

  void append(std::size_t blocks, std::uint64_t seed) {
    const wire::Payload payload = make_blocks(blocks, seed);
    const auto reply = client_.call<pb::KeyAppendReply>(
        wire::Opcode::key_append, append_request(record(payload)), payload);
    ASSERT_TRUE(reply) << to_string(reply.error());
    length_ = *wire::get_length(reply->length());
  }

  [[nodiscard]] const KeyLength& length() const noexcept { return length_; }
  [[nodiscard]] KeyId key() const noexcept { return key_; }

 private:
  static std::string text(const std::vector<std::byte>& bytes) {
    return std::string(as_text(bytes));
  }
  Client& client_;
  KeyId key_;
  std::uint64_t token_;
  KeyLength length_;
};

class ServiceKey : public ::testing::Test {
 protected:
  void SetUp() override {
    machine_.start_well();
    set_epoch(5);
    client_ = std::make_unique<Client>(machine_, "client");
    client_->greet();
  }
  void set_epoch(std::uint64_t epoch) {
    machine_.put_meta(meta::disk_key(kDisk), meta::encode(disk_record(kDisk, "d", epoch)));
  }
  void expect_alive() {
    EXPECT_EQ(client_->error_of(wire::Opcode::ping, pb::NodeStatusRequest()), Errc::ok);
  }
  pb::KeyReadRequest read_request(Address address, std::uint32_t blocks) {
    pb::KeyReadRequest request;
    auto* const range = request.add_ranges();
    range->set_address(address.raw());
    range->set_blocks(blocks);
    return request;
  }
  Machine machine_;
  std::unique_ptr<Client> client_;
};

TEST_F(ServiceKey, WhatWasAppendedIsRead) {
  Owner owner(*client_, key_number(1));
  owner.create();
  owner.append(3, 1);
  owner.append(2, 2);
  const Address first = *Address::make(owner.key(), BlockIndex{3});
  const auto frame = client_->raw(wire::Opcode::key_read, wire::serialize(read_request(first, 2)));
  ASSERT_TRUE(frame) << to_string(frame.error());
  const wire::Payload expected = make_blocks(2, 2);
  EXPECT_TRUE(std::ranges::equal(frame->payload.bytes(), expected.bytes()));
  EXPECT_TRUE(frame->header.payload_has_own_sums);
  const auto reply = wire::parse<pb::KeyReadReply>(frame->control);
  ASSERT_TRUE(reply);
  ASSERT_EQ(reply->sums_size(), 2);
  EXPECT_EQ(reply->sums(0), block_sum(expected.bytes().first(kBlockBytes)));
}

TEST_F(ServiceKey, LogIsReadBackAsItWasAppended) {
  Owner owner(*client_, key_number(1));
  owner.create();
  owner.append(1, 1);
  pb::KeyReadLogRequest request;
  request.set_key(owner.key().value());
  request.set_bytes_max(limits::kPayloadBytesMax);
  const auto frame = client_->raw(wire::Opcode::key_read_log, wire::serialize(request));
  ASSERT_TRUE(frame) << to_string(frame.error());
  const auto header = wire::decode_record(frame->payload.bytes());
  ASSERT_TRUE(header);
  EXPECT_EQ(header->header.kind, wire::RecordKind::key_header);
  const auto record = wire::decode_record(frame->payload.bytes().subspan(header->bytes));
  ASSERT_TRUE(record);
  EXPECT_EQ(record->header.sequence, Sequence(1));
  const auto reply = wire::parse<pb::KeyReadLogReply>(frame->control);
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->log_bytes(), owner.length().log_bytes);
}

TEST_F(ServiceKey, FenceTellsTheLengthAndStopsTheOlderToken) {
  Owner owner(*client_, key_number(1));
  owner.create();
  owner.append(1, 1);
  pb::KeyFenceRequest fence;
  fence.set_key(owner.key().value());
  fence.set_token(2);
  const auto reply = client_->call<pb::KeyFenceReply>(wire::Opcode::key_fence, fence);
  ASSERT_TRUE(reply) << to_string(reply.error());
  EXPECT_EQ(*wire::get_length(reply->length()), owner.length());
  EXPECT_FALSE(reply->sealed());
  EXPECT_FALSE(reply->last_record().empty());
  const wire::Payload payload = make_blocks(1, 2);
  EXPECT_EQ(client_->error_of(
                wire::Opcode::key_append, owner.append_request(owner.record(payload)), payload),
            Errc::stale_token);
}

/// It would lock out every owner to come.
TEST_F(ServiceKey, TokenAboveTheDisksEpochIsRefused) {
  Owner owner(*client_, key_number(1));
  owner.create();
  owner.append(1, 1);
  const auto ask = [&](wire::Opcode opcode, auto request, std::uint64_t token) {
    request.set_key(owner.key().value());
    request.set_token(token);
    return client_->error_of(opcode, request);
  };
  pb::KeySealRequest seal;
  wire::put_length(*seal.mutable_length(), owner.length());
  pb::KeyReadLogRequest read_log;
  read_log.set_bytes_max(4096);
  pb::KeyRepairRequest repair;
  wire::put_id(*repair.mutable_disk(), kDisk);
  repair.set_accept_loss(true);
  const wire::Payload payload = make_blocks(1, 2);
  for (const std::uint64_t token : {std::uint64_t{6}, std::uint64_t{1} << 62}) {
    EXPECT_EQ(ask(wire::Opcode::key_fence, pb::KeyFenceRequest(), token), Errc::invalid_argument);
    EXPECT_EQ(ask(wire::Opcode::key_seal, seal, token), Errc::invalid_argument);
    EXPECT_EQ(ask(wire::Opcode::key_read_log, read_log, token), Errc::invalid_argument);
    EXPECT_EQ(ask(wire::Opcode::key_repair, repair, token), Errc::invalid_argument);
    pb::KeyReadRequest read = read_request(*Address::make(owner.key(), BlockIndex{0}), 1);
    read.set_token(token);
    EXPECT_EQ(client_->error_of(wire::Opcode::key_read, read), Errc::invalid_argument);
    wire::RecordHeader header = owner.record(payload);
    header.epoch = Epoch(token);
    EXPECT_EQ(client_->error_of(wire::Opcode::key_append, owner.append_request(header), payload),
              Errc::invalid_argument);
    const Owner new_key(*client_, key_number(2), token);
    EXPECT_EQ(client_->error_of(wire::Opcode::key_create, new_key.create_request()),
              Errc::invalid_argument);
  }
  owner.append(1, 3);  // nobody was fenced
  // In the trash it has the same epochs; of a disk that is gone nobody is the owner.
  machine_.put_meta(meta::trash_key(kDisk), meta::encode(disk_record(kDisk, "d", 5)));
  machine_.remove_meta(meta::disk_key(kDisk));
  EXPECT_EQ(ask(wire::Opcode::key_fence, pb::KeyFenceRequest(), 5), Errc::ok);
  machine_.remove_meta(meta::trash_key(kDisk));
  EXPECT_EQ(ask(wire::Opcode::key_fence, pb::KeyFenceRequest(), 6), Errc::stale_token);
}

TEST_F(ServiceKey, EpochThatCannotBeReadIsNoReasonToFence) {
  Owner owner(*client_, key_number(1));
  owner.create();
  pb::KeyFenceRequest fence;
  fence.set_key(owner.key().value());
  fence.set_token(5);
  machine_.node_meta().plan(meta::MemFault::refused);
  EXPECT_EQ(client_->error_of(wire::Opcode::key_fence, fence), Errc::unavailable);
  set_epoch(6);
  fence.set_token(6);
  machine_.node_meta().plan(meta::MemFault::stale_read);
  EXPECT_EQ(client_->error_of(wire::Opcode::key_fence, fence), Errc::ok);
}

TEST_F(ServiceKey, ReadOfTheLogWithATokenFencesToo) {
  Owner owner(*client_, key_number(1));
  owner.create();
  pb::KeyReadLogRequest request;
  request.set_key(owner.key().value());
  request.set_bytes_max(4096);
  request.set_token(5);
  EXPECT_EQ(client_->error_of(wire::Opcode::key_read_log, request), Errc::ok);
  const wire::Payload payload = make_blocks(1, 2);
  EXPECT_EQ(client_->error_of(
                wire::Opcode::key_append, owner.append_request(owner.record(payload)), payload),
            Errc::stale_token);
  request.set_token(4);
  EXPECT_EQ(client_->error_of(wire::Opcode::key_read_log, request), Errc::stale_token);
}

TEST_F(ServiceKey, SealReserveFreeAndInfo) {
  Owner owner(*client_, key_number(1));
  owner.create();
  owner.append(4, 1);
  pb::KeyReserveRequest reserve;
  reserve.set_key(owner.key().value());
  reserve.set_token(1);
  reserve.set_data_blocks(256);
  reserve.set_log_bytes(64 * limits::kKiB);
  const auto reserved = client_->call<pb::KeyReserveReply>(wire::Opcode::key_reserve, reserve);
  ASSERT_TRUE(reserved) << to_string(reserved.error());
  EXPECT_GE(reserved->data_blocks(), 256U);

  pb::KeyFreeRequest free;
  free.set_key(owner.key().value());
  free.set_token(1);
  wire::put_id(*free.mutable_disk(), kDisk);
  auto* const run = free.add_runs();
  run->set_block(1);
  run->set_count(2);
  free.set_garbage_blocks(3);
  free.set_slowed_ns(2'500'000'000);
  EXPECT_EQ(client_->error_of(wire::Opcode::key_free, free), Errc::ok);
  const std::string metrics = machine_.run(machine_.node().metrics_text());
  EXPECT_NE(metrics.find("vmstore_owner_garbage_bytes 12288\n"), std::string::npos);
  EXPECT_NE(metrics.find("vmstore_writers_slowed_seconds_total 2.5\n"), std::string::npos);
  const Address freed = *Address::make(owner.key(), BlockIndex{1});
  EXPECT_EQ(client_->error_of(wire::Opcode::key_read, read_request(freed, 1)), Errc::punched);

  pb::KeySealRequest seal;
  seal.set_key(owner.key().value());
  seal.set_token(1);
  wire::put_length(*seal.mutable_length(), owner.length());
  EXPECT_EQ(client_->error_of(wire::Opcode::key_seal, seal), Errc::ok);

  pb::KeyInfoRequest ask;
  ask.set_key(owner.key().value());
  const auto info = client_->call<pb::KeyInfoReply>(wire::Opcode::key_info, ask);
  ASSERT_TRUE(info) << to_string(info.error());
  EXPECT_TRUE(info->sealed());
  EXPECT_EQ(info->data_bytes_allocated(), 2 * kBlockBytes);
  EXPECT_EQ(wire::get_id<DiskId>(info->disk()), kDisk);
}

TEST_F(ServiceKey, FreeOfAnotherDiskIsRefused) {
  Owner owner(*client_, key_number(1));
  owner.create();
  owner.append(1, 1);
  pb::KeyFreeRequest free;
  free.set_key(owner.key().value());
  free.set_token(1);
  wire::put_id(*free.mutable_disk(), DiskId{8, 8});
  auto* const run = free.add_runs();
  run->set_count(1);
  EXPECT_NE(client_->error_of(wire::Opcode::key_free, free), Errc::ok);
  const Address kept = *Address::make(owner.key(), BlockIndex{0});
  EXPECT_EQ(client_->error_of(wire::Opcode::key_read, read_request(kept, 1)), Errc::ok);
}

TEST_F(ServiceKey, RecordMustFitItsRequest) {
  Owner owner(*client_, key_number(1));
  owner.create();
  const wire::Payload payload = make_blocks(1, 1);
  const wire::RecordHeader header = owner.record(payload);
  const auto error_with = [&](const auto& change) {
    pb::KeyAppendRequest request = owner.append_request(header);
    change(request);
    return client_->error_of(wire::Opcode::key_append, request, payload);
  };
  EXPECT_EQ(error_with([](auto& r) { r.set_sequence(2); }), Errc::invalid_argument);
  EXPECT_EQ(error_with([](auto& r) { r.set_data_offset(1); }), Errc::invalid_argument);
  EXPECT_EQ(error_with([](auto& r) { r.set_token(2); }), Errc::invalid_argument);
  EXPECT_EQ(error_with([](auto& r) { r.set_committed(1); }), Errc::invalid_argument);
  EXPECT_EQ(error_with([](auto& r) { r.mutable_record()->append("x"); }), Errc::invalid_argument);
  EXPECT_EQ(error_with([](auto& r) { r.clear_record(); }), Errc::invalid_argument);
  EXPECT_EQ(error_with([](auto& r) { r.mutable_record()->back() ^= 1; }), Errc::corrupt);
  EXPECT_EQ(
      client_->error_of(wire::Opcode::key_append, owner.append_request(header), make_blocks(2, 1)),
      Errc::invalid_argument);
  EXPECT_EQ(client_->error_of(wire::Opcode::key_append, owner.append_request(header)),
            Errc::invalid_argument);
  EXPECT_EQ(error_with([](auto&) {}), Errc::ok);
}

// A takeover completes a copy with records of the owner before it: only under the token that it has
// fenced the key with.
TEST_F(ServiceKey, RecordOfAnOlderEpochIsTakenOnlyBehindTheFence) {
  Owner owner(*client_, key_number(1));
  owner.create();
  const wire::Payload payload = make_blocks(1, 1);
  const wire::RecordHeader header = owner.record(payload);
  pb::KeyAppendRequest request = owner.append_request(header);
  request.set_token(2);
  EXPECT_EQ(client_->error_of(wire::Opcode::key_append, request, payload), Errc::invalid_argument);
  pb::KeyFenceRequest fence;
  fence.set_key(key_number(1).value());
  fence.set_token(2);
  EXPECT_EQ(client_->error_of(wire::Opcode::key_fence, fence), Errc::ok);
  EXPECT_EQ(client_->error_of(wire::Opcode::key_append, request, payload), Errc::ok);
}

/// What garbage collection's proof says cannot be there: see decision 2.
TEST_F(ServiceKey, RecordsThatNameOlderBlocksAreUnsupported) {
  Owner owner(*client_, key_number(1));
  owner.create();
  owner.append(1, 1);
  const wire::Payload payload = make_blocks(1, 2);
  wire::RecordHeader header = owner.record(payload);
  const Address older = *Address::make(key_number(1), BlockIndex{0});
  header.runs.push_back({wire::RunKind::at_address, Lbn(8), 1, older});
  EXPECT_EQ(client_->error_of(wire::Opcode::key_append, owner.append_request(header), payload),
            Errc::unsupported);
  header = owner.record(payload);
  header.generation = Generation(1);
  EXPECT_EQ(client_->error_of(wire::Opcode::key_append, owner.append_request(header), payload),
            Errc::unsupported);
  owner.append(1, 2);
}

TEST_F(ServiceKey, RecordOfAnotherDiskIsRefused) {
  Owner owner(*client_, key_number(1));
  owner.create();
  const wire::Payload payload = make_blocks(1, 1);
  wire::RecordHeader header = owner.record(payload);
  header.disk = DiskId{9, 9};
  EXPECT_EQ(client_->error_of(wire::Opcode::key_append, owner.append_request(header), payload),
            Errc::invalid_argument);
  owner.append(1, 1);
}

TEST_F(ServiceKey, AppendWhoseBlocksDoNotMatchTheirSumsIsRefused) {
  Owner owner(*client_, key_number(1));
  owner.create();
  const wire::RecordHeader header = owner.record(make_blocks(1, 1));
  EXPECT_EQ(
      client_->error_of(wire::Opcode::key_append, owner.append_request(header), make_blocks(1, 2)),
      Errc::corrupt);
  owner.append(1, 1);
}

TEST_F(ServiceKey, AppendNeverCreatesAKey) {
  Owner owner(*client_, key_number(1));
  const wire::Payload payload = make_blocks(1, 1);
  EXPECT_EQ(client_->error_of(
                wire::Opcode::key_append, owner.append_request(owner.record(payload)), payload),
            Errc::not_found);
}

TEST_F(ServiceKey, DomainsAndSharedKeysAreUnsupported) {
  Owner owner(*client_, key_number(1));
  pb::KeyCreateRequest request = owner.create_request();
  request.set_domain("a");
  EXPECT_EQ(client_->error_of(wire::Opcode::key_create, request), Errc::unsupported);
  request.clear_domain();
  request.set_shared(true);
  EXPECT_EQ(client_->error_of(wire::Opcode::key_create, request), Errc::unsupported);
}

TEST_F(ServiceKey, DescriptorsArePassedOnlyWhereThereAreAny) {
  Owner owner(*client_, key_number(1));
  owner.create();
  pb::KeyFilesRequest request;
  request.set_key(owner.key().value());
  EXPECT_EQ(client_->error_of(wire::Opcode::key_files, request), Errc::unsupported);
}

// ---- hostile numbers ----

TEST_F(ServiceKey, EveryKeyNumberIsSurvivedByEveryVerb) {
  for (const std::uint64_t number : kHostileNumbers) {
    const auto refused = [&](wire::Opcode opcode, auto request) {
      request.set_key(number);
      const Errc error = client_->error_of(opcode, request);
      const bool fits = number >= KeyId::kFirst && number < KeyId::kEnd;
      // A number that is no key is refused as such; a key that is not there is just not there.
      if (fits) {
        EXPECT_NE(error, Errc::ok) << number;
      } else {
        EXPECT_EQ(error, Errc::bad_frame) << number;
      }
    };
    pb::KeyFenceRequest fence;
    fence.set_token(1);
    pb::KeySealRequest seal;
    seal.set_token(1);
    pb::KeyReserveRequest reserve;
    reserve.set_token(1);
    pb::KeyFreeRequest free;
    free.set_token(1);
    wire::put_id(*free.mutable_disk(), kDisk);
    free.add_runs()->set_count(1);
    pb::KeyReadLogRequest read_log;
    read_log.set_bytes_max(1);
    refused(wire::Opcode::key_fence, fence);
    refused(wire::Opcode::key_seal, seal);
    refused(wire::Opcode::key_reserve, reserve);
    refused(wire::Opcode::key_free, free);
    refused(wire::Opcode::key_read_log, read_log);
    refused(wire::Opcode::key_info, pb::KeyInfoRequest());
    refused(wire::Opcode::key_files, pb::KeyFilesRequest());
    pb::KeyCreateRequest create = Owner(*client_, key_number(1)).create_request();
    create.set_key(number);
    EXPECT_NE(client_->error_of(wire::Opcode::key_create, create), Errc::ok) << number;
    pb::KeyCommittedRequest committed;
    committed.set_key(number);
    committed.set_token(1);
    committed.set_committed(number);
    static_cast<void>(client_->error_of(wire::Opcode::key_committed, committed));
  }
  expect_alive();
}

TEST_F(ServiceKey, EveryTokenIsSurvivedByEveryVerb) {
  Owner owner(*client_, key_number(1));
  owner.create();
  const auto with = [&](auto request, std::uint64_t token) {
    request.set_key(owner.key().value());
    request.set_token(token);
    return request;
  };
  for (const std::uint64_t token : {std::uint64_t{0}, std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
    EXPECT_EQ(client_->error_of(wire::Opcode::key_fence, with(pb::KeyFenceRequest(), token)),
              Errc::invalid_argument);
    EXPECT_EQ(client_->error_of(wire::Opcode::key_seal, with(pb::KeySealRequest(), token)),
              Errc::invalid_argument);
    EXPECT_EQ(client_->error_of(wire::Opcode::key_reserve, with(pb::KeyReserveRequest(), token)),
              Errc::invalid_argument);
    EXPECT_EQ(client_->error_of(wire::Opcode::key_free, with(pb::KeyFreeRequest(), token)),
              Errc::invalid_argument);
    EXPECT_EQ(
        client_->error_of(wire::Opcode::key_committed, with(pb::KeyCommittedRequest(), token)),
        Errc::invalid_argument);
  }
  // Nobody fenced it meanwhile: its owner goes on.
  owner.append(1, 1);
}

TEST_F(ServiceKey, EveryLengthIsSurvivedBySealAndReserve) {
  Owner owner(*client_, key_number(1));
  owner.create();
  owner.append(1, 1);
  for (const std::uint64_t number : kHostileNumbers) {
    pb::KeySealRequest seal;
    seal.set_key(owner.key().value());
    seal.set_token(1);
    wire::put_length(*seal.mutable_length(), owner.length());
    seal.mutable_length()->set_log_bytes(number);
    EXPECT_NE(client_->error_of(wire::Opcode::key_seal, seal), Errc::ok) << number;
    wire::put_length(*seal.mutable_length(), owner.length());
    if (number != owner.length().blocks.value) {
      seal.mutable_length()->set_blocks(number);
      EXPECT_NE(client_->error_of(wire::Opcode::key_seal, seal), Errc::ok) << number;
    }
    wire::put_length(*seal.mutable_length(), owner.length());
    if (number != owner.length().last_sequence.value) {
      seal.mutable_length()->set_last_sequence(number);
      EXPECT_NE(client_->error_of(wire::Opcode::key_seal, seal), Errc::ok) << number;
    }
    pb::KeyReserveRequest reserve;
    reserve.set_key(owner.key().value());
    reserve.set_token(1);
    reserve.set_data_blocks(number);
    const Errc data = client_->error_of(wire::Opcode::key_reserve, reserve);
    EXPECT_EQ(data == Errc::ok, number <= 1) << number;
    reserve.set_data_blocks(0);
    reserve.set_log_bytes(number);
    const Errc log = client_->error_of(wire::Opcode::key_reserve, reserve);
    if (number <= 1) {
      EXPECT_EQ(log, Errc::ok) << number;
    } else if (number > std::uint64_t{1} << 32) {
      EXPECT_EQ(log, Errc::invalid_argument) << number;
    }
  }
  owner.append(1, 2);
}

TEST_F(ServiceKey, EveryNumberIsSurvivedByAppend) {
  Owner owner(*client_, key_number(1));
  owner.create();
  const wire::Payload payload = make_blocks(1, 1);
  for (const std::uint64_t number : kHostileNumbers) {
    pb::KeyAppendRequest request = owner.append_request(owner.record(payload));
    request.set_log_offset(number);
    EXPECT_NE(client_->error_of(wire::Opcode::key_append, request, payload), Errc::ok) << number;
    request = owner.append_request(owner.record(payload));
    request.set_committed(number);
    if (number != 0) {
      EXPECT_NE(client_->error_of(wire::Opcode::key_append, request, payload), Errc::ok) << number;
    }
    request = owner.append_request(owner.record(payload));
    request.set_key(number);
    EXPECT_NE(client_->error_of(wire::Opcode::key_append, request, payload), Errc::ok) << number;
    if (number > 0) {
      request = owner.append_request(owner.record(payload));
      request.set_data_offset(number);
      EXPECT_NE(client_->error_of(wire::Opcode::key_append, request, payload), Errc::ok) << number;
    }
    if (number != 1) {
      request = owner.append_request(owner.record(payload));
      request.set_sequence(number);
      EXPECT_NE(client_->error_of(wire::Opcode::key_append, request, payload), Errc::ok) << number;
      // The record itself names the number, too.
      wire::RecordHeader header = owner.record(payload);
      header.sequence = Sequence(number);
      if (number != 0) {
        EXPECT_NE(
            client_->error_of(wire::Opcode::key_append, owner.append_request(header), payload),
            Errc::ok)
            << number;
      }
    }
  }
  owner.append(1, 1);
}

TEST_F(ServiceKey, EveryNumberIsSurvivedByReadsAndFrees) {
  Owner owner(*client_, key_number(1));
  owner.create();
  owner.append(2, 1);
  for (const std::uint64_t number : kHostileNumbers) {
    EXPECT_NE(client_->error_of(wire::Opcode::key_read, read_request(Address::from_raw(number), 1)),
              Errc::ok)
        << number;
    const Address first = *Address::make(owner.key(), BlockIndex{0});
    const auto blocks = static_cast<std::uint32_t>(number);
    const Errc read = client_->error_of(wire::Opcode::key_read, read_request(first, blocks));
    EXPECT_EQ(read == Errc::ok, blocks == 1) << blocks;
    pb::KeyReadRequest with_token = read_request(first, 1);
    with_token.set_token(number);
    static_cast<void>(client_->error_of(wire::Opcode::key_read, with_token));
    pb::KeyReadLogRequest read_log;
    read_log.set_key(owner.key().value());
    read_log.set_bytes_max(16);
    read_log.set_log_offset(number);
    static_cast<void>(client_->error_of(wire::Opcode::key_read_log, read_log));
    read_log.set_log_offset(0);
    read_log.set_bytes_max(static_cast<std::uint32_t>(number));
    const Errc log = client_->error_of(wire::Opcode::key_read_log, read_log);
    EXPECT_EQ(log == Errc::ok, read_log.bytes_max() == 1) << number;
    pb::KeyFreeRequest free;
    free.set_key(owner.key().value());
    free.set_token((std::uint64_t{1} << 33) + 1);
    wire::put_id(*free.mutable_disk(), kDisk);
    auto* const run = free.add_runs();
    run->set_block(number);
    run->set_count(1);
    if (number > 1) {
      EXPECT_NE(client_->error_of(wire::Opcode::key_free, free), Errc::ok) << number;
    }
    run->set_block(1);
    run->set_count(number);
    if (number != 1) {
      EXPECT_NE(client_->error_of(wire::Opcode::key_free, free), Errc::ok) << number;
    }
  }
  expect_alive();
}

TEST_F(ServiceKey, ReadIsBounded) {
  Owner owner(*client_, key_number(1));
  owner.create();
  const Address first = *Address::make(owner.key(), BlockIndex{0});
  EXPECT_EQ(
      client_->error_of(wire::Opcode::key_read, read_request(first, limits::kReadBlocksMax + 1)),
      Errc::invalid_argument);
  pb::KeyReadRequest many;
  for (std::uint32_t i = 0; i <= limits::kReadBlocksMax; ++i) {
    auto* const range = many.add_ranges();
    range->set_address(first.raw());
    range->set_blocks(1);
  }
  EXPECT_EQ(client_->error_of(wire::Opcode::key_read, many), Errc::invalid_argument);
  EXPECT_EQ(client_->error_of(wire::Opcode::key_read, pb::KeyReadRequest()),
            Errc::invalid_argument);
  const auto slot = Address::from_raw(first.raw() | 3);
  EXPECT_EQ(client_->error_of(wire::Opcode::key_read, read_request(slot, 1)), Errc::unsupported);
}

TEST_F(ServiceKey, AppendsOfOneConnectionKeepTheirOrder) {
  // Goal: several appends in flight, sent without waiting, are all taken. Method: place them one
  // behind the other and send them at once.
  Owner owner(*client_, key_number(1));
  owner.create();
  constexpr std::size_t kAppends = 16;
  std::vector<pb::KeyAppendRequest> requests;
  std::vector<wire::Payload> payloads;
  KeyLength at = owner.length();
  for (std::size_t i = 0; i < kAppends; ++i) {
    payloads.push_back(make_blocks(1, i));
    wire::RecordHeader header = owner.record(payloads.back());
    header.sequence = at.last_sequence.next();
    header.data_offset = at.blocks;
    pb::KeyAppendRequest request = owner.append_request(header);
    request.set_log_offset(at.log_bytes);
    at.last_sequence = header.sequence;
    at.log_bytes += request.record().size();
    ++at.blocks.value;
    requests.push_back(std::move(request));
  }
  std::vector<std::unique_ptr<sim::Running<Result<wire::Frame>>>> running;
  for (std::size_t i = 0; i < kAppends; ++i) {
    running.push_back(std::make_unique<sim::Running<Result<wire::Frame>>>(
        client_->process(),
        client_->peer().call(wire::Opcode::key_append, wire::serialize(requests[i]), payloads[i])));
  }
  for (auto& each : running) {
    ASSERT_TRUE(each->wait(std::chrono::seconds(10)));
    EXPECT_TRUE(each->outcome()) << to_string(each->outcome().error());
  }
}

// ---- pages and roots: a collection follows them ----

/// Appends index pages to a key of its own, as a client would that checks nothing.
class ServicePages : public ServiceKey {
 protected:
  void SetUp() override {
    ServiceKey::SetUp();
    owner_ = std::make_unique<Owner>(*client_, key_number(1));
    owner_->create();
    owner_->append(4, 1);
  }
  struct LabelledPage {
    wire::PageLabel label;
    snapshot::Page page;
  };
  /// A page with one entry.
  static LabelledPage page(std::uint8_t level, std::size_t entry, Address names) {
    LabelledPage made;
    made.label.level = level;
    made.page.entries[entry] = names;
    return made;
  }
  Address block(std::uint64_t index) const {
    return *Address::make(owner_->key(), BlockIndex{index});
  }
  std::uint64_t end() const { return owner_->length().blocks.value; }
  static wire::Payload encode(const std::vector<LabelledPage>& pages) {
    wire::Payload payload = wire::Payload::allocate(pages.size() * kBlockBytes);
    for (std::size_t i = 0; i < pages.size(); ++i) {
      snapshot::encode_page(pages[i].page,
                            payload.writable().subspan(i * kBlockBytes, kBlockBytes));
    }
    return payload;
  }
  Errc append_pages(const std::vector<LabelledPage>& pages) {
    return append_pages(pages, encode(pages));
  }
  Errc append_pages(const std::vector<LabelledPage>& pages, const wire::Payload& payload) {
    wire::RecordHeader header = owner_->record(payload);
    header.kind = wire::RecordKind::pages;
    header.runs.clear();
    for (const LabelledPage& page : pages) header.pages.push_back(page.label);
    return owner_->try_append(header, payload);
  }
  Errc append_root(Address top) {
    wire::RecordHeader header = owner_->record(wire::Payload());
    header.kind = wire::RecordKind::root;
    header.top_page = top;
    header.replay_from = {owner_->key(), owner_->length().log_bytes, header.sequence};
    header.disk_bytes = limits::kGiB;
    return owner_->try_append(header, wire::Payload());
  }
  std::unique_ptr<Owner> owner_;
};

TEST_F(ServicePages, PagesAndRootsThatHoldTogetherAreTaken) {
  EXPECT_EQ(append_pages({page(0, 3, block(2)), page(1, 0, block(end()))}), Errc::ok);
  // A parent in a record of its own, and one that names an older page.
  EXPECT_EQ(append_pages({page(2, 0, block(end() - 1))}), Errc::ok);
  EXPECT_EQ(append_root(block(end() - 1)), Errc::ok);
  EXPECT_EQ(append_root(Address()), Errc::ok);
  // Where the key was drawn and is not here, it may be lost: not the page's fault.
  machine_.node().names().note_keys_drawn(key_number(9).value());
  EXPECT_EQ(append_pages({page(0, 0, *Address::make(key_number(8), BlockIndex{1}))}), Errc::ok);
}

TEST_F(ServicePages, PagesThatCannotBeReadByACollectionAreRefused) {
  const std::vector<LabelledPage> leaf = {page(0, 0, block(0))};
  EXPECT_EQ(append_pages(leaf, make_blocks(1, 9)), Errc::unsupported);
  const Address no_key = Address::from_raw(8);
  EXPECT_EQ(append_pages({page(0, 0, no_key)}), Errc::corrupt);
  const Address reserved = *Address::make(*KeyId::make(3), BlockIndex{0});
  EXPECT_EQ(append_pages({page(1, 0, reserved)}), Errc::unsupported);
  const Address never_drawn = *Address::make(key_number(1000), BlockIndex{0});
  EXPECT_EQ(append_pages({page(0, 0, never_drawn)}), Errc::invalid_argument);
  EXPECT_EQ(append_pages({page(1, 511, block(end() + 1))}), Errc::invalid_argument);
  EXPECT_EQ(append_pages({page(0, 0, block(end()))}), Errc::invalid_argument);  // itself
  EXPECT_EQ(append_pages(leaf), Errc::ok);  // the refused ones took no place
  expect_alive();
}

TEST_F(ServicePages, LabelsOfARecordFitItsPages) {
  const LabelledPage leaf = page(0, 0, block(0));
  EXPECT_EQ(append_pages({leaf, page(2, 0, block(end()))}), Errc::invalid_argument);
  EXPECT_EQ(append_pages({leaf, page(1, 1, block(end()))}), Errc::invalid_argument);
  EXPECT_EQ(append_pages({leaf, page(0, 1, block(end()))}), Errc::invalid_argument);
  EXPECT_EQ(append_pages({page(1, 0, block(end() + 1)), leaf}), Errc::invalid_argument);
  EXPECT_EQ(append_pages({leaf, page(1, 0, block(end()))}), Errc::ok);
}

TEST_F(ServicePages, PagesOfAnotherOpenKeyEndWhereItEnds) {
  machine_.node().names().note_keys_drawn(key_number(9).value());
  Owner other(*client_, key_number(2));
  other.create();
  other.append(3, 7);
  const Address last = *Address::make(other.key(), BlockIndex{2});
  EXPECT_EQ(append_pages({page(0, 0, last.plus(1))}), Errc::invalid_argument);
  EXPECT_EQ(append_pages({page(0, 0, last)}), Errc::ok);
}

TEST_F(ServicePages, RootWithoutATopIsRefused) {
  EXPECT_EQ(append_root(block(end())), Errc::invalid_argument);
  EXPECT_EQ(append_root(*Address::make(key_number(1000), BlockIndex{0})), Errc::invalid_argument);
  expect_alive();
}

TEST_F(ServiceKey, PredecessorIsAnOlderKeyOfTheSameDisk) {
  Owner first(*client_, key_number(1));
  first.create();
  wire::RecordHeader header;
  header.kind = wire::RecordKind::key_header;
  header.disk = kDisk;
  header.key = key_number(2);
  header.epoch = Epoch(1);
  header.sequence = Sequence(1);
  header.predecessor_length.log_bytes = first.length().log_bytes;
  pb::KeyCreateRequest request = Owner(*client_, key_number(2)).create_request();
  const auto create = [&] {
    request.set_header_record(std::string(as_text(wire::encode_record(header))));
    return client_->error_of(wire::Opcode::key_create, request);
  };
  header.predecessor = key_number(3);
  EXPECT_EQ(create(), Errc::invalid_argument);
  header.predecessor = key_number(1);
  header.disk = DiskId{8, 8};
  wire::put_id(*request.mutable_disk(), header.disk);
  EXPECT_EQ(create(), Errc::invalid_argument);
  header.disk = kDisk;
  wire::put_id(*request.mutable_disk(), header.disk);
  EXPECT_EQ(create(), Errc::ok);
}

}  // namespace
}  // namespace vmstore::storaged::test
