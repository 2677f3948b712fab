// SPDX-License-Identifier: Apache-2.0
// Key numbers: each is handed out once, whoever asks, whatever is lost.
#include "storaged/key_numbers.h"

#include <gtest/gtest.h>

#include <set>

#include "base/limits.h"
#include "meta/records.h"
#include "meta/schema.h"
#include "tests/unit/storaged_service/service_fixture.h"

namespace vmstore::storaged::test {
namespace {

class KeyNumbersTest : public ::testing::Test {
 protected:
  void SetUp() override {
    machine_.start_well();
    client_ = std::make_unique<Client>(machine_, "client");
    client_->greet();
  }

  Result<std::uint64_t> draw(std::uint64_t count) {
    pb::KeyDrawRequest request;
    request.set_count(count);
    const auto reply = client_->call<pb::KeyDrawReply>(wire::Opcode::key_draw, request);
    if (!reply) return reply.error();
    return reply->first();
  }
  Errc error_of_draw(std::uint64_t count) {
    const auto drawn = draw(count);
    return drawn ? Errc::ok : drawn.error().code;
  }
  /// Draws `count` numbers, all of them new and above those before.
  void draw_well(std::uint64_t count) {
    const auto first = draw(count);
    ASSERT_TRUE(first) << to_string(first.error());
    EXPECT_GE(*first, handed_out_);
    handed_out_ = *first + count;
  }
  void restart() {
    if (machine_.runs()) machine_.stop();
    machine_.start_well();
    client_ = std::make_unique<Client>(machine_, "client");
    client_->greet();
  }
  std::uint64_t counter() {
    const auto value = machine_.get_meta(std::string(meta::kKeyCounterKey));
    EXPECT_TRUE(value);
    return value ? meta::decode<meta::pb::KeyCounter>(*value)->next() : 0;
  }
  void set_counter(std::uint64_t next) {
    meta::pb::KeyCounter counter;
    counter.set_next(next);
    machine_.put_meta(std::string(meta::kKeyCounterKey), meta::encode(counter));
  }

  Machine machine_;
  std::unique_ptr<Client> client_;
  std::uint64_t handed_out_ = KeyId::kFirst;  // all handed out so far are below
};

TEST_F(KeyNumbersTest, G2_no_number_is_handed_out_twice) {
  for (const std::uint64_t count : {1U, 16U, 1000U, 16U, 5000U, 1U, 16U}) draw_well(count);
  EXPECT_LE(handed_out_, counter()) << "handed out, but not durably drawn";
}

TEST_F(KeyNumbersTest, G2_numbers_of_an_earlier_start_are_never_handed_out_again) {
  draw_well(16);
  restart();
  draw_well(16);
  machine_.kill();
  restart();
  draw_well(16);
}

TEST_F(KeyNumbersTest, HundredsOfDrawsAreOneChangeOfTheCatalogue) {
  draw_well(1);
  const std::uint64_t before = machine_.catalogue->revision();
  for (int i = 0; i < 60; ++i) draw_well(16);
  EXPECT_LE(machine_.catalogue->revision(), before + 1);
}

TEST_F(KeyNumbersTest, G2_two_nodes_that_draw_at_once_get_different_ones) {
  auto& process = machine_.process();
  meta::MemStore other_meta(process, machine_.catalogue);
  KeyNumbers one(process, machine_.node_meta());
  KeyNumbers other(process, other_meta);
  std::set<std::uint64_t> drawn;
  KeyNumbers::Asker asker(process, [] { return false; });
  KeyNumbers::Asker other_asker(process, [] { return false; });
  const auto draw_many = [](KeyNumbers& numbers,
                            KeyNumbers::Asker& from,
                            std::set<std::uint64_t>& into) -> Task<void> {
    for (int i = 0; i < 20; ++i) {
      const auto first = co_await numbers.draw(from, 200);
      EXPECT_TRUE(first);
      if (!first) co_return;
      EXPECT_TRUE(into.insert(*first).second) << *first;
    }
  };
  const auto both = [&]() -> Task<void> {
    process.spawn(draw_many(other, other_asker, drawn));
    return draw_many(one, asker, drawn);
  };
  machine_.run(both());
  machine_.world.run_for(std::chrono::seconds(5));
  EXPECT_EQ(drawn.size(), 40U);
}

TEST_F(KeyNumbersTest, G2_a_range_whose_answer_was_lost_is_not_handed_out) {
  machine_.node_meta().plan(meta::MemFault::none);  // the get
  machine_.node_meta().plan(meta::MemFault::lost_answer);
  EXPECT_NE(error_of_draw(16), Errc::ok);
  const std::uint64_t lost_below = counter();
  EXPECT_GT(lost_below, KeyId::kFirst) << "nothing was drawn: this test shows nothing";
  draw_well(16);
  EXPECT_GE(handed_out_ - 16, lost_below);
}

TEST_F(KeyNumbersTest, NumbersAreUsedUpToTheLastOne) {
  set_counter(KeyId::kEnd - 20);
  draw_well(16);
  draw_well(4);
  EXPECT_EQ(handed_out_, KeyId::kEnd);
  EXPECT_EQ(error_of_draw(1), Errc::no_space);
  EXPECT_EQ(counter(), KeyId::kEnd);
}

TEST_F(KeyNumbersTest, OneRequestIsBounded) {
  EXPECT_EQ(error_of_draw(0), Errc::invalid_argument);
  EXPECT_EQ(error_of_draw(limits::kKeyDrawMax + 1), Errc::invalid_argument);
  for (const std::uint64_t number : kHostileNumbers) {
    if (number <= limits::kKeyDrawMax) continue;
    EXPECT_EQ(error_of_draw(number), Errc::invalid_argument) << number;
  }
  draw_well(limits::kKeyDrawMax);
}

// ---- those who ask take turns ----

class KeyTurns : public KeyNumbersTest {
 protected:
  void SetUp() override {
    KeyNumbersTest::SetUp();
    meta::MemChances slow;
    slow.delay_most = std::chrono::milliseconds(20);
    machine_.node_meta().set_chances(slow, random_);
  }
  static Task<void> draw_once(Client& client, std::size_t& answered) {
    pb::KeyDrawRequest request;
    request.set_count(limits::kKeyDrawMax);
    std::string control = wire::serialize(request);
    static_cast<void>(co_await client.peer().call(wire::Opcode::key_draw, std::move(control)));
    ++answered;
  }
  /// Sends `count` draws, each of them one change of the catalogue; returns when the first is
  /// answered.
  void send_draws(Client& client, int count) {
    for (int i = 0; i < count; ++i) client.process().spawn(draw_once(client, answered_));
    ASSERT_TRUE(machine_.world.run_until([&] { return answered_ > 0; }, std::chrono::seconds(10)));
  }

  Random random_{1};
  std::size_t answered_ = 0;
};

TEST_F(KeyTurns, OneThatDrawsWithoutEndHoldsUpNobody) {
  Client greedy(machine_, "greedy");
  greedy.greet();
  send_draws(greedy, 300);
  for (int i = 0; i < 5; ++i) {
    const std::size_t before = answered_;
    draw_well(limits::kKeyRangeSize);
    EXPECT_LE(answered_, before + 2) << "each has one draw in the queue";
  }
  machine_.world.run_until([&] { return answered_ == 300; }, std::chrono::minutes(1));
  EXPECT_EQ(answered_, 300U) << "they wait, they are not refused";
}

TEST_F(KeyTurns, WhatAGoneSessionAskedForIsNotDrawn) {
  Client gone(machine_, "gone");
  gone.greet();
  send_draws(gone, 300);
  gone.kill();
  machine_.world.run_for(std::chrono::milliseconds(200));
  const std::uint64_t before = counter();
  machine_.world.run_for(std::chrono::seconds(20));
  EXPECT_EQ(counter(), before);
  EXPECT_EQ(machine_.node().session_count(), 1U);
  draw_well(limits::kKeyRangeSize);
}

/// Two numbers to the 33 are there: in the ranges that writers draw they last.
TEST_F(KeyNumbersTest, AClientDrawsOneRangeAtOnce) {
  machine_.next_client.role = net::Role::client;
  client_ = std::make_unique<Client>(machine_, "client with a certificate");
  client_->greet();
  draw_well(limits::kKeyRangeSize);
  EXPECT_EQ(error_of_draw(limits::kKeyRangeSize + 1), Errc::permission);
  EXPECT_EQ(error_of_draw(limits::kKeyDrawMax), Errc::permission);
}

/// A damaged or hostile counter hands out no number of the reserved ones.
TEST_F(KeyNumbersTest, CounterThatCannotBeIsDamage) {
  machine_.put_meta(std::string(meta::kKeyCounterKey), "");
  EXPECT_EQ(error_of_draw(1), Errc::corrupt);
}

}  // namespace
}  // namespace vmstore::storaged::test
