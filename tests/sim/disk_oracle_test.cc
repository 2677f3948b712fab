// SPDX-License-Identifier: Apache-2.0
// The judge is judged: each kind of loss that the model test looks for must be seen.
#include "tests/sim/disk_oracle.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace vmstore::sim {
namespace {

constexpr std::uint64_t kBlocks = 4;

std::vector<std::byte> filled(std::size_t count, char c) {
  return std::vector<std::byte>(count, static_cast<std::byte>(c));
}

/// A disk as it was found.
class Found final : public BlockSource {
 public:
  /// One character a block; ' ' = zeros.
  explicit Found(const std::string& blocks) {
    for (const char c : blocks) blocks_.push_back(make_block(filled(kBlockBytes, c)));
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      if (blocks[i] == ' ') blocks_[i] = nullptr;
    }
  }
  void set(std::uint64_t lbn, std::size_t from, std::size_t to, char c) {
    Block block = blocks_[lbn] ? *blocks_[lbn] : Block{};
    std::fill(block.begin() + static_cast<std::ptrdiff_t>(from),
              block.begin() + static_cast<std::ptrdiff_t>(to),
              static_cast<std::byte>(c));
    blocks_[lbn] = make_block(block);
  }
  [[nodiscard]] BlockPtr block(std::uint64_t lbn) const override { return blocks_[lbn]; }

 private:
  std::vector<BlockPtr> blocks_;
};

const std::vector<std::uint64_t> kAll{0, 1, 2, 3};

class DiskOracleTest : public ::testing::Test {
 protected:
  /// Blocks [lbn, lbn+count) become `c`, acknowledged, in a group of their own.
  void write(std::uint64_t lbn, std::uint64_t count, char c) {
    oracle_.begin_group();
    oracle_.acknowledge(oracle_.write(lbn * kBlockBytes, filled(count * kBlockBytes, c)));
  }
  [[nodiscard]] bool after_kill(const Found& found) const {
    DiskOracle copy = oracle_;
    return !copy.settle_after_kill(found, kAll);
  }
  [[nodiscard]] bool after_power_cut(const Found& found) const {
    DiskOracle copy = oracle_;
    return !copy.settle_after_power_cut(found, kAll);
  }
  DiskOracle oracle_{Content(kBlocks * kBlockBytes)};
};

TEST_F(DiskOracleTest, AKillLosesNothingThatWasAcknowledged) {
  write(0, 2, 'a');
  write(1, 2, 'b');
  EXPECT_TRUE(after_kill(Found("abb ")));
  EXPECT_FALSE(after_kill(Found("aa  "))) << "the second write is lost";
  EXPECT_FALSE(after_kill(Found("aab "))) << "half of it is lost";
  EXPECT_FALSE(after_kill(Found("abbx"))) << "a block nobody wrote";
}

TEST_F(DiskOracleTest, AKillMayKeepOrLoseWhatWasNotAcknowledged) {
  write(0, 1, 'a');
  oracle_.begin_group();
  oracle_.write(0, filled(2 * kBlockBytes, 'b'));
  for (const char* const found : {"a   ", "ab  ", "b   ", "bb  "}) {
    EXPECT_TRUE(after_kill(Found(found))) << found;
  }
  EXPECT_FALSE(after_kill(Found("    ")));
  Found torn("ab  ");
  torn.set(0, 0, 512, 'b');
  EXPECT_FALSE(after_kill(torn)) << "a block is never a mix of old and new";
}

TEST_F(DiskOracleTest, APowerCutLeavesAPrefix) {
  write(0, 1, 'a');
  write(1, 1, 'b');
  write(0, 1, 'c');
  for (const char* const found : {"    ", "a   ", "ab  ", "cb  "}) {
    EXPECT_TRUE(after_power_cut(Found(found))) << found;
  }
  for (const char* const found : {" b  ", "c   ", "b   ", "abx "}) {
    EXPECT_FALSE(after_power_cut(Found(found))) << found;
  }
}

TEST_F(DiskOracleTest, APowerCutLosesNothingThatWasFlushed) {
  write(0, 1, 'a');
  write(1, 1, 'b');
  oracle_.begin_group();
  oracle_.flushed_before_group();
  write(2, 1, 'c');
  EXPECT_TRUE(after_power_cut(Found("ab  ")));
  EXPECT_FALSE(after_power_cut(Found("a   ")));
  oracle_.all_flushed();
  EXPECT_FALSE(after_power_cut(Found("ab  ")));
  EXPECT_TRUE(after_power_cut(Found("abc ")));
}

TEST_F(DiskOracleTest, AFlushBesideAGroupCoversTheGroupsBefore) {
  write(0, 1, 'a');
  oracle_.begin_group();
  oracle_.acknowledge(oracle_.write(kBlockBytes, filled(kBlockBytes, 'b')));
  oracle_.flushed_before_group();
  EXPECT_TRUE(after_power_cut(Found("a   ")));
  EXPECT_TRUE(after_power_cut(Found("ab  ")));
  EXPECT_FALSE(after_power_cut(Found(" b  ")));
}

TEST_F(DiskOracleTest, RequestsOfOneGroupMayBeThereInAnyPart) {
  oracle_.begin_group();
  oracle_.acknowledge(oracle_.write(0, filled(512, 'x')));
  oracle_.acknowledge(oracle_.write(512, filled(512, 'y')));
  Found first("    ");
  first.set(0, 0, 512, 'x');
  Found second("    ");
  second.set(0, 512, 1024, 'y');
  Found both = first;
  both.set(0, 512, 1024, 'y');
  EXPECT_TRUE(after_power_cut(first));
  EXPECT_TRUE(after_power_cut(second));
  EXPECT_TRUE(after_power_cut(both));
  EXPECT_TRUE(after_kill(both));
  EXPECT_FALSE(after_kill(first));
  Found torn("    ");
  torn.set(0, 0, 256, 'x');
  EXPECT_FALSE(after_power_cut(torn));
}

TEST_F(DiskOracleTest, AfterAKillWhatWasFoundIsStillNotDurable) {
  write(0, 1, 'a');
  write(1, 1, 'b');
  ASSERT_FALSE(oracle_.settle_after_kill(Found("ab  "), kAll));
  EXPECT_TRUE(after_power_cut(Found("a   ")));
  EXPECT_FALSE(after_power_cut(Found(" b  ")));
  EXPECT_FALSE(after_kill(Found("a   ")));
}

TEST_F(DiskOracleTest, AfterAPowerCutWhatWasFoundStays) {
  write(0, 1, 'a');
  write(1, 1, 'b');
  ASSERT_FALSE(oracle_.settle_after_power_cut(Found("a   "), kAll));
  EXPECT_FALSE(after_power_cut(Found("ab  ")));
  EXPECT_FALSE(after_power_cut(Found("    ")));
}

TEST_F(DiskOracleTest, ZeroesAreWritesOfZeros) {
  write(0, 4, 'a');
  oracle_.all_flushed();
  oracle_.begin_group();
  oracle_.acknowledge(oracle_.zero(512, 3 * kBlockBytes));
  Found found("a  a");
  found.set(0, 512, kBlockBytes, '\0');
  found.set(3, 0, 512, '\0');
  EXPECT_TRUE(after_kill(found));
  EXPECT_TRUE(after_power_cut(Found("aaaa")));
  EXPECT_FALSE(after_kill(Found("aaaa")));
}

TEST(Content, ShrinkingThenGrowingReadsAsZeros) {
  Content content(2 * kBlockBytes);
  content.set_block(0, make_block(filled(kBlockBytes, 'a')));
  content.set_block(1, make_block(filled(kBlockBytes, 'b')));
  content.resize(512);
  content.resize(2 * kBlockBytes);
  EXPECT_EQ(content.block(1), nullptr);
  ASSERT_NE(content.block(0), nullptr);
  EXPECT_EQ((*content.block(0))[511], std::byte{'a'});
  EXPECT_EQ((*content.block(0))[512], std::byte{0});
}

}  // namespace
}  // namespace vmstore::sim
