// SPDX-License-Identifier: Apache-2.0
// The bytes of a log's head, names, and what the three files promise.
#include "storaged/key_files.h"

#include <gtest/gtest.h>

#include "tests/support/memory_files.h"
#include "tests/unit/storaged/samples.h"
#include "tests/unit/wire/golden.h"

namespace vmstore::storaged {
namespace {

using wire::test::golden;

std::vector<std::byte> head_block(const std::vector<LogHead>& heads) {
  std::vector<std::byte> block(limits::kLogHeadBytes);
  for (const LogHead& head : heads) {
    const auto slot = encode_log_head(head);
    const auto place = static_cast<std::ptrdiff_t>((head.generation % 2) * kHeadSlotStride);
    std::copy(slot.begin(), slot.end(), block.begin() + place);
  }
  return block;
}

LogHead head_of_generation(std::uint64_t generation) {
  LogHead head = sample_head();
  head.generation = generation;
  head.token = Epoch(generation);
  return head;
}

TEST(LogHead, IsTheGoldenFile) {
  const auto slot = encode_log_head(sample_head());
  EXPECT_TRUE(std::ranges::equal(slot, golden("log-head-v1.hex")));
  const auto decoded = decode_log_head(golden("log-head-v1.hex"), sample_head().key);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(*decoded, sample_head());
}

TEST(LogHead, NewerAndReservedFormatsAreRefused) {
  const KeyId key = sample_head().key;
  EXPECT_EQ(decode_log_head(golden("log-head-v2.newer.hex"), key).error(), Errc::newer_format);
  EXPECT_EQ(decode_log_head(golden("log-head-v1.reserved-domain.hex"), key).error(),
            Errc::unsupported);
  EXPECT_EQ(decode_log_head(golden("log-head-v1.reserved-flag.hex"), key).error(),
            Errc::unsupported);
}

TEST(LogHead, NoFlippedBitIsAccepted) {
  const auto slot = encode_log_head(sample_head());
  for (std::size_t bit = 0; bit < slot.size() * 8; ++bit) {
    auto damaged = slot;
    damaged[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
    const auto decoded = decode_log_head(damaged, sample_head().key);
    ASSERT_FALSE(decoded) << bit;
    EXPECT_EQ(decoded.error(), Errc::corrupt) << bit;
  }
}

TEST(LogHead, OfAnotherKeyIsCorrupt) {
  const auto slot = encode_log_head(sample_head());
  EXPECT_EQ(decode_log_head(slot, *KeyId::make(99)).error(), Errc::corrupt);
}

TEST(LogHead, TheHighestGenerationCounts) {
  for (const std::uint64_t newest : {2U, 3U, 8U}) {
    const auto block = head_block({head_of_generation(newest - 1), head_of_generation(newest)});
    const auto chosen = choose_log_head(block, sample_head().key);
    ASSERT_TRUE(chosen);
    EXPECT_EQ(chosen->head.generation, newest);
    EXPECT_FALSE(chosen->other_slot_bad);
  }
  const auto first = choose_log_head(head_block({head_of_generation(1)}), sample_head().key);
  ASSERT_TRUE(first);
  EXPECT_FALSE(first->other_slot_bad);
}

TEST(LogHead, ALostSlotIsNoticed) {
  const KeyId key = sample_head().key;
  auto block = head_block({head_of_generation(4), head_of_generation(5)});
  block[kHeadSlotStride + 100] ^= std::byte{1};  // the newer one
  const auto torn = choose_log_head(block, key);
  ASSERT_TRUE(torn);
  EXPECT_EQ(torn->head.generation, 4U);
  EXPECT_TRUE(torn->other_slot_bad);

  const auto zeroed = choose_log_head(head_block({head_of_generation(4)}), key);
  ASSERT_TRUE(zeroed);
  EXPECT_TRUE(zeroed->other_slot_bad);

  block[100] ^= std::byte{1};
  EXPECT_EQ(choose_log_head(block, key).error(), Errc::corrupt);
  EXPECT_EQ(choose_log_head(std::vector<std::byte>(limits::kLogHeadBytes), key).error(),
            Errc::not_found);
}

TEST(KeyFileName, OnlyOurOwnAreParsed) {
  const auto parsed = parse_key_file_name("0000000ab.sums");
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->key.value(), 0xabU);
  EXPECT_EQ(parsed->suffix, "sums");
  for (const char* name : {"",
                           "0000000ab",
                           "0000000ab.",
                           "0000000ab.txt",
                           "0000000AB.data",
                           "00000000ab.data",
                           "200000000.data",
                           "0000000a.data.",
                           "x"}) {
    EXPECT_FALSE(parse_key_file_name(name)) << name;
  }
}

TEST(KeyFiles, AMissingFileIsUnknownNotAbsent) {
  sim::MemoryFiles files;
  const KeyId key = sample_head().key;
  ASSERT_TRUE(files.make_folder(kKeysFolder));
  ASSERT_TRUE(files.make_folder(key_folder(key)));
  EXPECT_EQ(KeyFiles::open(files, key).error(), Errc::unknown);
  ASSERT_TRUE(KeyFiles::create(files, key));
  EXPECT_TRUE(KeyFiles::open(files, key));
  ASSERT_TRUE(files.remove(key_path(key, KeyFileKind::sums)));
  EXPECT_EQ(KeyFiles::open(files, key).error(), Errc::unknown);
}

/// The second caller must not be told that all is well because the first one had the error.
TEST(KeyFiles, ASyncAfterAFailedOneFailsToo) {
  sim::MemoryFiles files;
  const KeyId key = sample_head().key;
  ASSERT_TRUE(files.make_folder(kKeysFolder));
  ASSERT_TRUE(files.make_folder(key_folder(key)));
  const auto opened = KeyFiles::create(files, key);
  ASSERT_TRUE(opened);
  for (const KeyFileKind kind : {KeyFileKind::data, KeyFileKind::log, KeyFileKind::sums}) {
    ASSERT_TRUE((*opened)->sync(kind));
    sim::FileFault fault;
    fault.operation = sim::FileOperation::sync;
    files.fail(fault);  // once, as a device tells it
    EXPECT_FALSE((*opened)->sync(kind));
    EXPECT_FALSE((*opened)->sync(kind));
  }
  const auto again = KeyFiles::open(files, key);
  ASSERT_TRUE(again);
  EXPECT_TRUE((*again)->sync(KeyFileKind::data));
}

TEST(KeyFiles, SumsAreZeroBeforeTheSpaceIsGivenBack) {
  sim::MemoryFiles files;
  const KeyId key = sample_head().key;
  ASSERT_TRUE(files.make_folder(kKeysFolder));
  ASSERT_TRUE(files.make_folder(key_folder(key)));
  const auto opened = KeyFiles::create(files, key);
  ASSERT_TRUE(opened);
  const std::vector<std::uint64_t> sums{1, 2, 3, 4};
  ASSERT_TRUE((*opened)->write_sums(BlockIndex{0}, sums));
  sim::FileFault fault;
  fault.operation = sim::FileOperation::punch;
  files.fail(fault);
  EXPECT_FALSE((*opened)->punch(BlockRun{BlockIndex{1}, 2}));
  std::vector<std::uint64_t> left(4);
  ASSERT_TRUE((*opened)->read_sums(BlockIndex{0}, left));
  EXPECT_EQ(left, (std::vector<std::uint64_t>{1, 0, 0, 4}));
}

}  // namespace
}  // namespace vmstore::storaged
