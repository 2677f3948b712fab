// SPDX-License-Identifier: Apache-2.0
// Who may ask for what: the whole table, that the node keeps to it before it does anything, and how
// far a client may change the catalogue.
#include "storaged/rights.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>

#include "meta/records.h"
#include "meta/schema.h"
#include "tests/unit/storaged_service/service_fixture.h"

namespace vmstore::storaged::test {
namespace {

using net::Role;

/// By opcode: node, admin, client, read-only. Written down a second time, from the design.
const std::map<unsigned, std::string> kWanted{
    {2, "nacr"},   // ping
    {10, "nac-"},  // key_create
    {11, "nac-"},  // key_append
    {12, "nac-"},  // key_fence
    {13, "nac-"},  // key_seal
    {14, "nacr"},  // key_read
    {15, "nacr"},  // key_read_log
    {16, "nac-"},  // key_reserve
    {17, "nac-"},  // key_free
    {18, "nac-"},  // key_committed
    {19, "nacr"},  // key_files
    {20, "nacr"},  // key_info
    {21, "na--"},  // key_repair
    {22, "nac-"},  // key_draw
    {30, "nacr"},  // meta_get
    {31, "-ac-"},  // meta_txn
    {32, "nacr"},  // meta_range
    {33, "nacr"},  // meta_watch
    {35, "nacr"},  // meta_unwatch
    {40, "-ac-"},  // disk_hold
    {41, "-ac-"},  // disk_release
    {42, "-ac-"},  // disk_renew
    {43, "nacr"},  // disk_holder
    {44, "nacr"},  // disk_call
    {50, "na-r"},  // node_status
    {51, "-a--"},  // gc_run
    {52, "-a--"},  // meta_backup
};

bool is_wanted(unsigned opcode, Role role) {
  const auto row = kWanted.find(opcode);
  return row != kWanted.end() && row->second[static_cast<std::size_t>(role)] != '-';
}

TEST(Rights, EveryOpcodeAndEveryRoleIsAsTheTableSays) {
  for (unsigned opcode = 0; opcode <= 0xffff; ++opcode) {
    for (const Role role : net::kRoles) {
      EXPECT_EQ(may_ask(role, static_cast<wire::Opcode>(opcode)), is_wanted(opcode, role))
          << opcode << " " << net::role_name(role);
    }
  }
}

/// Nothing that could be a message: only a request that is let through is looked at.
TEST(Rights, TheNodeRefusesBeforeItLooksAtARequest) {
  const std::string garbage("\x0a\xff\xff\xff\xff\x7f", 6);
  Machine machine;
  machine.start_well();
  for (const Role role : net::kRoles) {
    machine.next_client.role = role;
    Client client(machine, std::string(net::role_name(role)));
    client.greet();
    for (unsigned opcode = 2; opcode <= 60; ++opcode) {
      const auto answer = client.raw(static_cast<wire::Opcode>(opcode), garbage);
      const Errc got = answer ? Errc::ok : answer.error().code;
      const bool known = kWanted.contains(opcode);
      const Errc wanted = !known                     ? Errc::unsupported
                          : !is_wanted(opcode, role) ? Errc::permission
                          : opcode == 2              ? Errc::ok
                                                     : Errc::bad_frame;
      EXPECT_EQ(got, wanted) << opcode << " " << net::role_name(role);
    }
  }
}

TEST(Rights, WhoOnlyReadsCanNeitherFenceNorSteerAHolder) {
  Machine machine;
  machine.start_well();
  machine.next_client.role = Role::read_only;
  Client reader(machine, "reader");
  reader.greet();
  pb::KeyReadRequest read;
  auto* const range = read.add_ranges();
  range->set_address(Address::make(key_number(0), BlockIndex{0})->raw());
  range->set_blocks(1);
  EXPECT_EQ(reader.error_of(wire::Opcode::key_read, read), Errc::not_found);
  read.set_token(1);
  EXPECT_EQ(reader.error_of(wire::Opcode::key_read, read), Errc::permission);
  pb::KeyReadLogRequest log;
  log.set_key(key_number(0).value());
  log.set_bytes_max(4096);
  EXPECT_EQ(reader.error_of(wire::Opcode::key_read_log, log), Errc::not_found);
  log.set_token(1);
  EXPECT_EQ(reader.error_of(wire::Opcode::key_read_log, log), Errc::permission);

  const auto call = [&](const auto& choose) {
    pb::DiskCallRequest request;
    wire::put_id(*request.mutable_disk(), kDisk);
    choose(request);
    return reader.error_of(wire::Opcode::disk_call, request);
  };
  EXPECT_EQ(call([](auto& r) { r.mutable_read()->set_bytes(512); }), Errc::not_owner);
  EXPECT_EQ(call([](auto& r) { r.mutable_info(); }), Errc::not_owner);
  EXPECT_EQ(call([](auto& r) { r.mutable_extents(); }), Errc::not_owner);
  EXPECT_EQ(call([](auto& r) { r.mutable_snapshot()->set_name("s"); }), Errc::permission);
  EXPECT_EQ(call([](auto& r) { r.mutable_hand_over(); }), Errc::permission);
  EXPECT_EQ(call([](auto& r) { r.mutable_resize(); }), Errc::permission);
  EXPECT_EQ(call([](auto& r) { r.mutable_flush(); }), Errc::permission);
  EXPECT_EQ(call([](auto&) {}), Errc::permission);
}

// ---- a client and the catalogue ----

class ClientRights : public testing::Test {
 protected:
  void SetUp() override {
    machine_.start_well();
    machine_.put_meta(meta::disk_key(kDisk), meta::encode(record_));
    machine_.put_meta(meta::name_key("vm"), meta::encode_id(kDisk));
    machine_.next_client.role = Role::client;
    client_ = std::make_unique<Client>(machine_, "client");
    client_->greet();
  }
  static void put(pb::MetaTxnRequest& request, const std::string& key, const std::string& value) {
    auto* const op = request.add_then_ops();
    op->set_key(key);
    op->set_put(value);
  }
  static void remove(pb::MetaTxnRequest& request, const std::string& key) {
    auto* const op = request.add_then_ops();
    op->set_key(key);
    op->set_remove(true);
  }
  Errc outcome(const pb::MetaTxnRequest& request) {
    const auto reply = client_->call<pb::MetaTxnReply>(wire::Opcode::meta_txn, request);
    if (!reply) return reply.error().code;
    return reply->held() ? Errc::ok : Errc::conflict;
  }
  Errc put_outcome(const std::string& key, const std::string& value) {
    pb::MetaTxnRequest request;
    put(request, key, value);
    return outcome(request);
  }
  Errc record_outcome(const meta::pb::DiskRecord& record) {
    return put_outcome(meta::disk_key(kDisk), meta::encode(record));
  }
  Errc remove_outcome(const std::string& key) {
    pb::MetaTxnRequest request;
    remove(request, key);
    return outcome(request);
  }
  static std::string snapshot(const std::string& name) {
    meta::pb::SnapshotRecord record;
    *record.mutable_id() = meta::to_pb(SnapshotId{8, 8});
    *record.mutable_disk() = meta::to_pb(kDisk);
    record.set_name(name);
    return meta::encode(record);
  }
  static KeyId draw(Client& client) {
    pb::KeyDrawRequest request;
    request.set_count(1);
    const auto reply = client.call<pb::KeyDrawReply>(wire::Opcode::key_draw, request);
    EXPECT_TRUE(reply);
    return *KeyId::make(reply->first());
  }
  static Errc create(Client& client, KeyId key, DiskId disk, Epoch token) {
    wire::RecordHeader header;
    header.kind = wire::RecordKind::key_header;
    header.disk = disk;
    header.key = key;
    header.epoch = token;
    header.sequence = Sequence(1);
    pb::KeyCreateRequest request;
    request.set_key(key.value());
    request.set_token(token.value);
    wire::put_id(*request.mutable_disk(), disk);
    request.set_copies(1);
    request.set_header_record(std::string(as_text(wire::encode_record(header))));
    return client.error_of(wire::Opcode::key_create, request);
  }
  Machine machine_;
  std::unique_ptr<Client> client_;
  meta::pb::DiskRecord record_ = disk_record(kDisk, "vm", 4);
};

TEST_F(ClientRights, AClientServesADiskThatIsThere) {
  meta::pb::DiskRecord next = record_;
  next.set_epoch(5);
  next.set_state(meta::pb::DiskRecord::recovering);
  next.set_size_bytes(next.size_bytes() * 2);
  *next.mutable_token_nonce() = meta::to_pb(DiskId{1, 1});
  EXPECT_EQ(record_outcome(next), Errc::ok);
}

TEST_F(ClientRights, AClientKeepsWhatMakesTheDisk) {
  const auto changed = [&](const auto& change) {
    meta::pb::DiskRecord next = record_;
    change(next);
    return record_outcome(next);
  };
  EXPECT_EQ(changed([](auto& r) { r.set_name("other"); }), Errc::permission);
  EXPECT_EQ(changed([](auto& r) { r.set_copies(2); }), Errc::permission);
  EXPECT_EQ(changed([](auto& r) { r.set_min_copies(2); }), Errc::permission);
  EXPECT_EQ(changed([](auto& r) { r.set_domain("d"); }), Errc::permission);
  EXPECT_EQ(changed([](auto& r) { r.set_created_ns(1); }), Errc::permission);
  EXPECT_EQ(changed([](auto& r) { r.set_base_name("b@c"); }), Errc::permission);
  EXPECT_EQ(changed([](auto& r) { r.set_trashed_name("t"); }), Errc::permission);
  EXPECT_EQ(changed([](auto& r) { (*r.mutable_settings())["a"] = "b"; }), Errc::permission);
  EXPECT_EQ(changed([](auto& r) { r.set_epoch(3); }), Errc::permission);  // a fence goes one way
  EXPECT_EQ(changed([](auto&) {}), Errc::ok);
}

TEST_F(ClientRights, AClientMakesNamesAndRemovesNoDisk) {
  constexpr DiskId kNew{9, 9};
  EXPECT_EQ(put_outcome(meta::disk_key(kNew), meta::encode(disk_record(kNew, "new", 0))),
            Errc::permission);
  EXPECT_EQ(put_outcome(meta::name_key("alias"), meta::encode_id(kDisk)), Errc::permission);
  EXPECT_EQ(remove_outcome(meta::name_key("vm")), Errc::permission);
  EXPECT_EQ(remove_outcome(meta::disk_key(kDisk)), Errc::permission);
  EXPECT_EQ(put_outcome(meta::trash_key(kDisk), meta::encode(record_)), Errc::permission);
  EXPECT_EQ(remove_outcome(meta::trash_key(kDisk)), Errc::permission);
  EXPECT_EQ(remove_outcome(meta::trash_snap_prefix(kDisk) + "s"), Errc::permission);
  EXPECT_TRUE(machine_.get_meta(meta::disk_key(kDisk)));
}

TEST_F(ClientRights, AClientTakesAndRemovesSnapshotsOfDisksThatAreThere) {
  EXPECT_EQ(put_outcome(meta::snap_key(kDisk, "s"), snapshot("s")), Errc::ok);
  EXPECT_EQ(remove_outcome(meta::snap_key(kDisk, "s")), Errc::ok);
  machine_.remove_meta(meta::disk_key(kDisk));
  EXPECT_EQ(put_outcome(meta::snap_key(kDisk, "s"), snapshot("s")), Errc::permission);
}

TEST_F(ClientRights, AClientForSomeDisksChangesThoseOnly) {
  constexpr DiskId kOther{5, 5};
  const meta::pb::DiskRecord other = disk_record(kOther, "db/1", 3);
  machine_.put_meta(meta::disk_key(kOther), meta::encode(other));
  machine_.next_client.disks = {"vm", "web/*"};
  client_ = std::make_unique<Client>(machine_, "limited");
  client_->greet();
  EXPECT_EQ(record_outcome(record_), Errc::ok);
  EXPECT_EQ(put_outcome(meta::snap_key(kDisk, "s"), snapshot("s")), Errc::ok);
  EXPECT_EQ(put_outcome(meta::disk_key(kOther), meta::encode(other)), Errc::permission);
  EXPECT_EQ(remove_outcome(meta::snap_key(kOther, "s")), Errc::permission);
  pb::DiskHoldRequest hold;
  wire::put_id(*hold.mutable_disk(), kDisk);
  hold.set_epoch(4);
  EXPECT_EQ(client_->error_of(wire::Opcode::disk_hold, hold), Errc::ok);
  wire::put_id(*hold.mutable_disk(), kOther);
  hold.set_epoch(3);
  EXPECT_EQ(client_->error_of(wire::Opcode::disk_hold, hold), Errc::permission);
  pb::DiskCallRequest call;
  wire::put_id(*call.mutable_disk(), kOther);
  call.mutable_hand_over()->set_force(true);
  EXPECT_EQ(client_->error_of(wire::Opcode::disk_call, call), Errc::permission);
}

// Keys belong to disks, whatever a request says of itself.
TEST_F(ClientRights, AClientForSomeDisksTouchesNoOtherKey) {
  constexpr DiskId kOther{5, 5};
  machine_.put_meta(meta::disk_key(kOther), meta::encode(disk_record(kOther, "db/1", 3)));
  Client owner(machine_, "owner");
  owner.greet();
  const KeyId theirs = draw(owner);
  ASSERT_EQ(create(owner, theirs, kOther, Epoch(3)), Errc::ok);
  machine_.next_client.disks = {"vm"};
  Client limited(machine_, "limited");
  limited.greet();
  const KeyId own = draw(limited);
  EXPECT_EQ(create(limited, own, kOther, Epoch(3)), Errc::permission);
  EXPECT_EQ(create(limited, own, kDisk, Epoch(4)), Errc::ok);
  const auto all = [&](KeyId key) {
    std::vector<Errc> errors;
    const auto add = [&](wire::Opcode opcode, auto message) {
      message.set_key(key.value());
      message.set_token(9);
      errors.push_back(limited.error_of(opcode, message));
    };
    add(wire::Opcode::key_append, pb::KeyAppendRequest());
    add(wire::Opcode::key_fence, pb::KeyFenceRequest());
    add(wire::Opcode::key_seal, pb::KeySealRequest());
    add(wire::Opcode::key_reserve, pb::KeyReserveRequest());
    add(wire::Opcode::key_free, pb::KeyFreeRequest());
    add(wire::Opcode::key_committed, pb::KeyCommittedRequest());
    return errors;
  };
  for (const Errc error : all(theirs)) EXPECT_EQ(error, Errc::permission) << errc_name(error);
  for (const Errc error : all(own)) EXPECT_NE(error, Errc::permission);
  for (const Errc error : all(key_number(777))) EXPECT_EQ(error, Errc::not_found);
}

// One forbidden part spoils the whole, also in the list for when a compare fails.
TEST_F(ClientRights, NothingIsSmuggledInBesideWhatIsAllowed) {
  pb::MetaTxnRequest request;
  put(request, meta::disk_key(kDisk), meta::encode(record_));
  remove(request, meta::name_key("vm"));
  EXPECT_EQ(outcome(request), Errc::permission);
  pb::MetaTxnRequest otherwise;
  put(otherwise, meta::disk_key(kDisk), meta::encode(record_));
  auto* const op = otherwise.add_else_ops();
  op->set_key(meta::name_key("vm"));
  op->set_remove(true);
  EXPECT_EQ(outcome(otherwise), Errc::permission);
  EXPECT_TRUE(machine_.get_meta(meta::name_key("vm")));
}

}  // namespace
}  // namespace vmstore::storaged::test
