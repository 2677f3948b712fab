// SPDX-License-Identifier: Apache-2.0
// The bytes of the journal, and finding its end: what is torn, what is damage.
#include "storaged/journal.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <set>

#include "base/random.h"
#include "tests/support/memory_files.h"
#include "tests/unit/storaged/samples.h"
#include "tests/unit/wire/golden.h"

namespace vmstore::storaged {
namespace {

using wire::test::golden;

constexpr std::uint64_t kRingBytes = limits::kMiB;

const std::vector<KeyId> kPrevious{*KeyId::make(16), *KeyId::make(17)};

TEST(JournalGroup, IsTheGoldenFile) {
  auto bytes = encode_sample(40, sample_group_one(), {});
  const auto second = encode_sample(41, sample_group_two(), kPrevious);
  bytes.insert(bytes.end(), second.begin(), second.end());
  EXPECT_TRUE(std::ranges::equal(bytes, golden("journal-v1.two-groups.hex")));

  const auto stored = golden("journal-v1.two-groups.hex");
  const auto one = decode_group(stored);
  ASSERT_TRUE(one);
  EXPECT_TRUE(one->complete());
  ASSERT_EQ(one->entries.size(), 3U);
  EXPECT_EQ(one->entries[1].record.sequence, Sequence(5));
  EXPECT_EQ(one->entries[1].blocks.size(), kBlockBytes);
  EXPECT_EQ(length_after(one->entries[2]).blocks, BlockIndex{52});
  const auto two = decode_group(ByteSpan(stored).subspan(one->bytes));
  ASSERT_TRUE(two);
  EXPECT_TRUE(two->complete());
  EXPECT_EQ(two->previous_keys, kPrevious);
  ASSERT_EQ(two->entries.size(), 4U);
  EXPECT_EQ(decode_punch(two->entries[2].body)->size(), 2U);
}

TEST(JournalGroup, DecodesWhatWasEncoded) {
  for (const auto& sample : {sample_group_one(), sample_group_two()}) {
    const auto group = decode_group(encode_sample(7, sample, kPrevious));
    ASSERT_TRUE(group);
    EXPECT_EQ(group->number, 7U);
    ASSERT_EQ(group->entries.size(), sample.entries.size());
    for (std::size_t i = 0; i < sample.entries.size(); ++i) {
      EXPECT_EQ(group->entries[i].fields, sample.entries[i].fields);
      EXPECT_TRUE(std::ranges::equal(group->entries[i].body, sample.entries[i].body));
      EXPECT_TRUE(group->entries[i].body_ok);
    }
  }
}

TEST(JournalGroup, ACutGroupIsNeverComplete) {
  const auto bytes = encode_sample(7, sample_group_one(), kPrevious);
  for (std::size_t size = 0; size < bytes.size(); size += 512) {
    auto torn = bytes;
    std::fill(torn.begin() + static_cast<std::ptrdiff_t>(size), torn.end(), std::byte{0});
    const auto group = decode_group(torn);
    // What lies behind the last body is padding.
    if (group) {
      EXPECT_EQ(group->complete(), size >= 5 * 1024) << size;
    }
    EXPECT_FALSE(decode_group(ByteSpan(bytes).first(size))) << size;
  }
}

TEST(JournalGroup, NoFlippedBitChangesWhatIsRead) {
  const auto bytes = encode_sample(7, sample_group_two(), kPrevious);
  const auto good = decode_group(bytes);
  ASSERT_TRUE(good);
  for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    auto damaged = bytes;
    damaged[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
    const auto group = decode_group(damaged);
    if (!group) continue;
    for (std::size_t i = 0; i < group->entries.size(); ++i) {
      EXPECT_EQ(group->entries[i].fields, good->entries[i].fields) << bit;
      if (!group->entries[i].body_ok) continue;
      EXPECT_TRUE(std::ranges::equal(group->entries[i].body, good->entries[i].body)) << bit;
    }
  }
}

TEST(JournalGroup, ABlockThatDoesNotMatchSpoilsOnlyItsEntry) {
  auto bytes = encode_sample(7, sample_group_one(), kPrevious);
  bytes[4500] ^= std::byte{1};  // inside the append's block
  const auto group = decode_group(bytes);
  ASSERT_TRUE(group);
  EXPECT_TRUE(group->entries[0].body_ok);
  EXPECT_FALSE(group->entries[1].body_ok);
  EXPECT_TRUE(group->entries[2].body_ok);
}

TEST(JournalGroup, GuestDataNeverLooksLikeAGroup) {
  // The blocks of an append are themselves a whole group of a high number.
  auto forged = encode_sample(1'000'000, sample_group_two(), {});
  ASSERT_EQ(forged.size(), kBlockBytes);
  SampleEntries sample;
  sample.storage.reserve(4);
  for (std::size_t shift = 0; shift < kUnitPrefixBytes * 2; shift += 8) {
    std::rotate(forged.begin(), forged.begin() + 8, forged.end());
    SampleEntries attempt;
    attempt.storage.reserve(4);
    attempt.storage.push_back(forged);
    const ByteSpan content = attempt.storage.back();
    EntryFields fields;
    fields.kind = EntryKind::append;
    fields.key = *KeyId::make(16);
    const auto record = sample_record(fields.key, Sequence(1), BlockIndex{0}, 1, content);
    attempt.add(fields, wire::encode_record(record));
    const std::vector<ByteSpan> pieces{content};
    attempt.entries.back().blocks = pieces;
    const auto bytes = encode_sample(7, attempt, {});
    for (std::size_t unit = kJournalUnitBytes; unit < bytes.size(); unit += kJournalUnitBytes) {
      const auto peek = peek_group(ByteSpan(bytes).subspan(unit, kJournalUnitBytes));
      EXPECT_EQ(peek.error(), Errc::not_found);
    }
  }
}

TEST(RingHead, IsTheGoldenFile) {
  const auto unit = encode_ring_head(sample_ring_head());
  EXPECT_TRUE(std::ranges::equal(ByteSpan(unit).first(512), golden("journal-head-v1.hex")));
  const auto decoded = decode_ring_head(unit);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(*decoded, sample_ring_head());
}

TEST(RingHead, ANewerFormatIsRefused) {
  auto unit = golden("journal-head-v2.newer.hex");
  unit.resize(kJournalUnitBytes);
  EXPECT_EQ(decode_ring_head(unit).error(), Errc::newer_format);
}

TEST(RingHead, NoFlippedBitIsAccepted) {
  const auto unit = encode_ring_head(sample_ring_head());
  for (std::size_t bit = 0; bit < unit.size() * 8; ++bit) {
    auto damaged = unit;
    damaged[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
    EXPECT_FALSE(decode_ring_head(damaged)) << bit;
  }
}

/// A ring file of its own, written group by group.
class JournalRing : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(Journal::create(files_, kRingBytes, Incarnation{1, 2}));
    reopen();
    const auto content = journal_->scan();
    ASSERT_TRUE(content);
    ASSERT_TRUE(journal_->begin(*content, Incarnation{1, 2}));
  }

  void reopen() {
    journal_.reset();
    auto opened = Journal::open(files_);
    ASSERT_TRUE(opened);
    journal_ = std::move(*opened);
  }

  /// Writes a group with one append of `blocks` blocks to `key`.
  GroupPlace write(std::uint64_t key, std::size_t blocks = 1) {
    SampleEntries sample;
    KeyLength& length = lengths_[key];
    add_append(sample, *KeyId::make(key), length, blocks);
    length.last_sequence = length.last_sequence.next();
    length.log_bytes += sample.entries[0].body.size();
    length.blocks.value += blocks;
    const auto offset = journal_->space().place(journal_->next_group_bytes(sample.entries));
    VMS_ASSERT(offset.has_value());
    const GroupPlace place = journal_->prepare(sample.entries, *offset);
    VMS_ASSERT(journal_->write_prepared(place).has_value());
    return place;
  }

  void release(std::uint64_t number) {
    const RingHead head = journal_->next_head(number, false);
    ASSERT_TRUE(journal_->write_head(head));
    journal_->head_written(head);
  }

  void spoil(std::uint64_t offset) { ASSERT_TRUE(files_.flip_bit(Journal::kPath, offset, 3)); }

  Result<JournalContent> scan() {
    reopen();
    return journal_->scan();
  }

  sim::MemoryFiles files_;
  std::unique_ptr<Journal> journal_;
  std::map<std::uint64_t, KeyLength> lengths_;
};

TEST_F(JournalRing, EverythingWrittenIsFound) {
  std::vector<GroupPlace> written;
  for (std::uint64_t i = 0; i < 10; ++i) written.push_back(write(16 + i % 3, i % 4));
  const auto content = scan();
  ASSERT_TRUE(content);
  ASSERT_EQ(content->groups.size(), written.size());
  for (std::size_t i = 0; i < written.size(); ++i) {
    EXPECT_EQ(content->groups[i].offset, written[i].offset);
  }
  EXPECT_TRUE(content->damaged_keys.empty());
  EXPECT_GT(content->next_number, written.back().number);
}

TEST_F(JournalRing, ItGoesRoundManyTimes) {
  std::deque<GroupPlace> kept;
  for (std::uint64_t i = 0; i < 500; ++i) {
    kept.push_back(write(16 + i % 3, i % 16));
    if (kept.size() < 5) continue;
    release(kept.front().number);
    kept.pop_front();
    if (i % 50 != 49) continue;
    Journal* const running = journal_.get();
    const JournalContent content = *running->scan();
    ASSERT_EQ(content.groups.size(), kept.size()) << i;
    EXPECT_EQ(content.groups.front().offset, kept.front().offset);
    EXPECT_EQ(content.groups.back().offset, kept.back().offset);
    EXPECT_TRUE(content.damaged_keys.empty());
  }
}

TEST_F(JournalRing, ABadLastGroupIsTheTornEnd) {
  write(16);
  const GroupPlace last = write(17);
  for (const std::uint64_t at : {20U, 100U, 4200U}) {  // fixed part, directory, body
    spoil(last.offset + at);
    const auto content = scan();
    ASSERT_TRUE(content);
    EXPECT_EQ(content->groups.size(), 1U);
    EXPECT_TRUE(content->damaged_keys.empty());
    EXPECT_EQ(content->end_offset, last.offset);
    spoil(last.offset + at);
  }
}

TEST_F(JournalRing, R11_bad_group_in_the_middle) {
  write(16);
  const GroupPlace middle = write(17);
  write(18);
  write(19);
  for (const std::uint64_t at : {20U, 100U, 4200U}) {
    spoil(middle.offset + at);
    const auto content = scan();
    ASSERT_TRUE(content);
    EXPECT_EQ(content->damaged_keys, (std::set<KeyId>{*KeyId::make(17)})) << at;
    EXPECT_EQ(content->groups.size(), at == 4200U ? 4U : 3U);
    spoil(middle.offset + at);
  }
}

TEST_F(JournalRing, TwoLostGroupsInARowCannotBeNamed) {
  const GroupPlace one = write(16);
  const GroupPlace two = write(17);
  write(18);
  spoil(one.offset + 20);
  spoil(two.offset + 20);
  const auto content = scan();
  ASSERT_FALSE(content);
  EXPECT_EQ(content.error(), Errc::corrupt);
}

TEST_F(JournalRing, ABadGroupBeforeATornOneIsDamageToo) {
  const GroupPlace bad = write(16);
  const GroupPlace torn = write(17);
  spoil(bad.offset + 20);
  spoil(torn.offset + 4200);
  const auto content = scan();
  ASSERT_TRUE(content);
  EXPECT_EQ(content->damaged_keys, (std::set<KeyId>{*KeyId::make(16)}));
  EXPECT_TRUE(content->groups.empty());
}

TEST_F(JournalRing, F5_read_error_is_not_the_end) {
  write(16);
  reopen();
  sim::FileFault fault;
  fault.operation = sim::FileOperation::read;
  fault.path_part = std::string(Journal::kPath);
  files_.fail(fault);
  const auto content = journal_->scan();
  ASSERT_FALSE(content);
  EXPECT_EQ(content.error(), Errc::io_error);
}

TEST_F(JournalRing, AHeadThatIsTooOldIsNoticed) {
  // The newest head is lost, and the space behind the older one's tail was used again.
  const GroupPlace first = write(16, 15);
  const GroupPlace second = write(16, 15);
  release(first.number);
  write(16, 15);
  const RingHead newest = journal_->next_head(second.number, false);
  release(second.number);
  while (journal_->space().place(first.bytes)) write(16, 15);
  spoil(newest.generation % 2 * kJournalUnitBytes + 48);
  const auto content = scan();
  EXPECT_TRUE(!content || content->damaged_keys.contains(*KeyId::make(16)));
}

TEST_F(JournalRing, AShortFileIsRefused) {
  write(16);
  journal_.reset();
  {
    const auto file = files_.open(Journal::kPath, OpenOptions());
    ASSERT_TRUE(file);
    ASSERT_TRUE((*file)->truncate(kRingBytes / 2));
  }
  EXPECT_EQ(Journal::open(files_).error(), Errc::corrupt);
}

TEST_F(JournalRing, OneProcessHasIt) {
  EXPECT_EQ(Journal::open(files_).error(), Errc::busy);
}

TEST(RingSpace, NeverHandsOutWhatIsInUse) {
  constexpr std::uint64_t kUnits = 40;
  Random random(5);
  RingSpace space(100, 100 + kUnits, 117);
  std::deque<GroupPlace> taken;
  std::uint64_t number = 0;
  for (int step = 0; step < 20000; ++step) {
    const std::uint64_t bytes = 1 + random.below(kUnits / 4);
    const auto offset = space.place(bytes);
    if (offset) {
      EXPECT_GE(*offset, 100U);
      EXPECT_LE(*offset + bytes, 100 + kUnits);
      for (const GroupPlace& other : taken) {
        EXPECT_TRUE(*offset + bytes <= other.offset || other.offset + other.bytes <= *offset);
      }
      taken.push_back({*offset, ++number, bytes});
      space.take(taken.back());
    } else {
      ASSERT_FALSE(taken.empty());
    }
    if (!offset || random.one_in(3)) {
      while (!taken.empty() && random.below(3) > 0) taken.pop_front();
      if (taken.empty()) {
        space.release(number);
        EXPECT_EQ(space.used(), 0U);
      } else {
        space.release(taken.front().number - 1);
        EXPECT_EQ(space.tail_after(taken.front().number - 1), taken.front().offset);
      }
    }
  }
}

}  // namespace
}  // namespace vmstore::storaged
