// SPDX-License-Identifier: Apache-2.0
#include "meta/catalogue_log.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/random.h"
#include "tests/support/code_of.h"
#include "tests/support/memory_files.h"
#include "tests/unit/wire/golden.h"

namespace vmstore::meta {
namespace {

using log_format::kGroupHeadBytes;
using log_format::kHeaderBytes;
using Bytes = std::vector<std::byte>;

const std::string kPath = "catalogue.log";

Event put(const std::string& key, const std::string& value, std::uint64_t revision) {
  return {{key, value, revision}, false};
}
Event removal(const std::string& key, std::uint64_t revision) {
  return {{key, "", revision}, true};
}

Bytes bytes_of(sim::MemoryFiles& files, const std::string& path) {
  return read_file(files, path, log_format::kFileBytesMax).value();
}

/// A log as of revision 3, with `groups` appended: group i is revision 4 + i.
struct Sample {
  explicit Sample(const std::vector<Changes>& groups) {
    Image image;
    image.revision = 3;
    image.entries["/a"] = {"/a", "1", 2};
    image.entries["/b"] = {"/b", "1", 3};
    log = CatalogueLog::create(files, kPath, image).value();
    ends.push_back(log->bytes());
    images.push_back(image);
    for (const Changes& group : groups) {
      image.revision = group.back().entry.mod_revision;
      for (const Event& change : group) {
        image.entries.erase(change.entry.key);
        if (!change.removed) image.entries[change.entry.key] = change.entry;
      }
      EXPECT_TRUE(log->append(group, image.revision).has_value());
      ends.push_back(log->bytes());
      images.push_back(image);
    }
  }
  [[nodiscard]] Bytes bytes() { return bytes_of(files, kPath); }
  sim::MemoryFiles files;
  std::unique_ptr<CatalogueLog> log;
  std::vector<std::uint64_t> ends;  // of the base, then of each group
  std::vector<Image> images;        // as of each
};

std::vector<Changes> three_groups() {
  return {{put("/a", "2", 4)}, {removal("/b", 5), put("/c", "3", 5)}, {put("/d", "4", 6)}};
}

void expect_equal(const Image& a, const Image& b) {
  EXPECT_EQ(a.revision, b.revision);
  ASSERT_EQ(a.entries.size(), b.entries.size());
  for (const auto& [key, entry] : a.entries) {
    ASSERT_TRUE(b.entries.contains(key)) << key;
    EXPECT_EQ(b.entries.at(key).value, entry.value) << key;
    EXPECT_EQ(b.entries.at(key).mod_revision, entry.mod_revision) << key;
  }
}

TEST(CatalogueLog, LoadGivesTheNewestEntryOfEachKeyAndTheHighestRevision) {
  Sample sample(three_groups());
  const auto image = CatalogueLog::load(sample.files, kPath);
  ASSERT_TRUE(image.has_value());
  expect_equal(*image, sample.images.back());
  EXPECT_EQ(image->revision, 6U);
  EXPECT_EQ(image->entries.at("/a").value, "2");
  EXPECT_FALSE(image->entries.contains("/b"));
}

TEST(CatalogueLog, MissingFileIsNotAnEmptyLog) {
  sim::MemoryFiles files;
  EXPECT_EQ(code_of(CatalogueLog::load(files, kPath)), Errc::not_found);
  EXPECT_EQ(code_of(CatalogueLog::open(files, kPath)), Errc::not_found);
  OpenOptions options;
  options.create = true;
  ASSERT_TRUE(files.open(kPath, options).has_value());
  EXPECT_EQ(code_of(CatalogueLog::load(files, kPath)), Errc::unknown);
}

TEST(CatalogueLog, FileCutAtAnyByteIsAnEarlierCatalogueOrUnknown) {
  Sample sample(three_groups());
  const Bytes whole = sample.bytes();
  for (std::size_t length = 0; length <= whole.size(); ++length) {
    const auto scan = log_format::scan(ByteSpan(whole).first(length));
    if (length < sample.ends[0]) {
      EXPECT_EQ(code_of(scan), Errc::unknown) << length;
      continue;
    }
    ASSERT_TRUE(scan.has_value()) << length;
    const auto next = std::upper_bound(sample.ends.begin(), sample.ends.end(), length);
    const auto at = static_cast<std::size_t>(next - sample.ends.begin()) - 1;
    expect_equal(scan->image, sample.images[at]);
    EXPECT_EQ(scan->torn_bytes, length - sample.ends[at]);
  }
}

TEST(CatalogueLog, FlippedBitIsNeverAShorterCatalogue) {
  Sample sample(three_groups());
  const Bytes whole = sample.bytes();
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      Bytes damaged = whole;
      damaged[at] ^= static_cast<std::byte>(1U << bit);
      const auto scan = log_format::scan(damaged);
      ASSERT_FALSE(scan.has_value()) << at << "." << bit;
      const bool in_head = at < 12;  // magic and format
      EXPECT_TRUE(in_head || code_of(scan) == Errc::unknown) << at << "." << bit;
    }
  }
}

TEST(CatalogueLog, LastGroupWithAnyPieceMissingIsTheTornEnd) {
  const std::string large(3000, 'v');
  Sample sample({{put("/a", "2", 4)}, {put("/x", large, 5), put("/y", "1", 5)}});
  const Bytes whole = sample.bytes();
  const std::uint64_t from = sample.ends[1];
  const std::uint64_t first = from / 512;
  const std::uint64_t pieces = (whole.size() + 511) / 512 - first;
  ASSERT_LT(pieces, 10U);
  for (std::uint64_t mask = 1; mask < std::uint64_t{1} << pieces; ++mask) {
    Bytes torn = whole;
    for (std::uint64_t piece = 0; piece < pieces; ++piece) {
      if ((mask >> piece & 1U) == 0) continue;
      const std::uint64_t begin = std::max(from, (first + piece) * 512);
      const std::uint64_t end = std::min<std::uint64_t>(whole.size(), (first + piece + 1) * 512);
      std::fill(torn.begin() + static_cast<std::ptrdiff_t>(begin),
                torn.begin() + static_cast<std::ptrdiff_t>(end),
                std::byte{0});
    }
    const auto scan = log_format::scan(torn);
    ASSERT_TRUE(scan.has_value()) << mask;
    expect_equal(scan->image, sample.images[1]);
    EXPECT_EQ(scan->bytes, from);
  }
}

TEST(CatalogueLog, MissingPieceBeforeALaterGroupIsDamage) {
  Sample sample({{put("/x", std::string(3000, 'v'), 4)}, {put("/y", "1", 5)}});
  const Bytes whole = sample.bytes();
  for (std::uint64_t at = sample.ends[0]; at < sample.ends[1]; at += 512) {
    Bytes damaged = whole;
    const std::uint64_t end = std::min(sample.ends[1], at / 512 * 512 + 512);
    std::fill(damaged.begin() + static_cast<std::ptrdiff_t>(at),
              damaged.begin() + static_cast<std::ptrdiff_t>(end),
              std::byte{0});
    EXPECT_EQ(code_of(log_format::scan(damaged)), Errc::unknown) << at;
  }
}

TEST(CatalogueLog, GroupOutOfPlaceIsDamage) {
  Sample sample(three_groups());
  Bytes bytes = sample.bytes();
  const auto again = log_format::encode_group(4, 7, {put("/e", "1", 7)});
  bytes.insert(bytes.end(), again.begin(), again.end());  // 5 is due
  EXPECT_EQ(code_of(log_format::scan(bytes)), Errc::unknown);
  bytes = sample.bytes();
  const auto past = log_format::encode_group(5, 5, {put("/e", "1", 5)});  // revision goes back
  bytes.insert(bytes.end(), past.begin(), past.end());
  EXPECT_EQ(code_of(log_format::scan(bytes)), Errc::unknown);
}

TEST(CatalogueLog, WhatIsNoLogOrANewerOneIsSaid) {
  Sample sample(three_groups());
  Bytes bytes = sample.bytes();
  bytes[8] = std::byte{2};
  EXPECT_EQ(code_of(log_format::scan(bytes)), Errc::newer_format);
  bytes[0] = std::byte{'X'};
  EXPECT_EQ(code_of(log_format::scan(bytes)), Errc::foreign_store);
  EXPECT_EQ(code_of(log_format::scan(Bytes(4096))), Errc::foreign_store);
}

TEST(CatalogueLog, LargeCatalogueHasABaseOfSeveralGroups) {
  Image image;
  image.revision = 100;
  for (int i = 0; i < 40; ++i) {
    const std::string key = "/k" + std::to_string(i);
    image.entries[key] = {key, std::string(60'000, static_cast<char>('a' + i % 26)), 100};
  }
  sim::MemoryFiles files;
  ASSERT_TRUE(CatalogueLog::create(files, kPath, image).has_value());
  const auto loaded = CatalogueLog::load(files, kPath);
  ASSERT_TRUE(loaded.has_value());
  expect_equal(*loaded, image);
  const Bytes bytes = bytes_of(files, kPath);
  const auto header = log_format::decode_header(bytes);
  EXPECT_EQ(header->base_groups, 3U);
  EXPECT_EQ(header->base_bytes, bytes.size());
  // Without its last base group it is damaged, not a torn end.
  EXPECT_EQ(code_of(log_format::scan(ByteSpan(bytes).first(bytes.size() - 1))), Errc::unknown);
}

TEST(CatalogueLog, ChangesThatDoNotFollowAreRefused) {
  Sample sample(three_groups());
  EXPECT_EQ(code_of(sample.log->append({put("/a", "x", 6)}, 6)), Errc::invalid_argument);
  EXPECT_EQ(code_of(sample.log->append({put("/a", "x", 8)}, 7)), Errc::invalid_argument);
  EXPECT_EQ(code_of(sample.log->append({}, 5)), Errc::invalid_argument);
  Changes heavy;
  for (int i = 0; i < 20; ++i) heavy.push_back(put(std::to_string(i), std::string(60'000, 'v'), 7));
  EXPECT_FALSE(CatalogueLog::fits(heavy));
  EXPECT_EQ(code_of(sample.log->append(heavy, 7)), Errc::invalid_argument);
  EXPECT_TRUE(sample.log->append({}, 9).has_value());
  EXPECT_EQ(CatalogueLog::load(sample.files, kPath)->revision, 9U);
}

TEST(CatalogueLog, FileIsUsedNoMoreAfterAWriteOrSyncThatFailed) {
  for (const auto operation : {sim::FileOperation::write, sim::FileOperation::sync}) {
    Sample sample(three_groups());
    sample.files.fail({operation, kPath, 1, Error(Errc::no_space, 28), false});
    EXPECT_EQ(code_of(sample.log->append({put("/e", "1", 7)}, 7)), Errc::no_space);
    EXPECT_TRUE(sample.log->is_failed());
    EXPECT_EQ(code_of(sample.log->append({put("/e", "1", 7)}, 7)), Errc::unavailable);
    EXPECT_EQ(code_of(sample.log->compact()), Errc::unavailable);
  }
}

TEST(CatalogueLog, CompactionKeepsTheContentAndHalvesTheFile) {
  Sample sample({});
  std::uint64_t revision = 3;
  while (!sample.log->may_hold_garbage()) {
    ++revision;
    ASSERT_TRUE(sample.log->append({put("/a", std::string(4000, 'v'), revision)}, revision));
  }
  const auto before = CatalogueLog::load(sample.files, kPath);
  const std::uint64_t bytes_before = sample.log->bytes();
  ASSERT_TRUE(sample.log->compact().has_value());
  EXPECT_LT(sample.log->bytes(), bytes_before / 2);
  EXPECT_FALSE(sample.log->may_hold_garbage());
  expect_equal(*CatalogueLog::load(sample.files, kPath), *before);
  ASSERT_TRUE(sample.log->append({put("/z", "1", revision + 1)}, revision + 1).has_value());
  EXPECT_EQ(CatalogueLog::load(sample.files, kPath)->entries.at("/z").value, "1");
}

TEST(CatalogueLog, CompactionThatHasNoSpaceLeavesTheOldFileInUse) {
  Sample sample({});
  std::uint64_t revision = 3;
  while (!sample.log->may_hold_garbage()) {
    ++revision;
    ASSERT_TRUE(sample.log->append({put("/a", std::string(4000, 'v'), revision)}, revision));
  }
  const std::uint64_t used = sample.files.used_bytes();
  sample.files.fail(
      {sim::FileOperation::write, kPath + ".new", 1, Error(Errc::no_space, 28), true});
  EXPECT_EQ(code_of(sample.log->compact()), Errc::no_space);
  OpenOptions options;
  options.write = false;
  EXPECT_EQ(code_of(sample.files.open(kPath + ".new", options)), Errc::not_found);
  EXPECT_EQ(sample.files.used_bytes(), used) << "what it began takes the last of the space";
  EXPECT_FALSE(sample.log->is_failed());
  EXPECT_FALSE(sample.log->may_hold_garbage());
  sample.files.clear_faults();  // the log, too, was opened under that name
  ++revision;
  EXPECT_TRUE(sample.log->append({put("/z", "1", revision)}, revision).has_value());
  EXPECT_EQ(CatalogueLog::load(sample.files, kPath)->revision, revision);
}

TEST(CatalogueLog, CompactionWhoseRenameIsInDoubtEndsTheUseOfTheFile) {
  for (const auto operation : {sim::FileOperation::rename, sim::FileOperation::sync_folder}) {
    Sample sample({});
    std::uint64_t revision = 3;
    while (!sample.log->may_hold_garbage()) {
      ++revision;
      ASSERT_TRUE(sample.log->append({put("/a", std::string(4000, 'v'), revision)}, revision));
    }
    sample.files.fail({operation, "", 1, Error(Errc::io_error, 5), false});
    EXPECT_EQ(code_of(sample.log->compact()), Errc::io_error);
    EXPECT_TRUE(sample.log->is_failed());
  }
}

// Goal: after any power cut the log is some state between the last append that returned and the one
// under way, and that again and again. Method: each round appends until it is killed at a random
// change, then cuts the power and opens.
TEST(CatalogueLog, PowerCutsLoseNoAppendThatReturned) {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    Random random(seed);
    sim::MemoryFiles files(sim::MemoryFiles::kUnlimited, seed);
    Image image;
    image.revision = 1;
    ASSERT_TRUE(CatalogueLog::create(files, kPath, image).has_value());
    std::uint64_t answered = 1;
    for (int round = 0; round < 8; ++round) {
      auto opened = CatalogueLog::open(files, kPath);
      ASSERT_TRUE(opened.has_value()) << "seed " << seed << " round " << round;
      CatalogueLog& log = *opened->log;
      ASSERT_GE(log.revision(), answered) << "seed " << seed;
      answered = log.revision();
      for (std::uint64_t at = 2; at <= answered; ++at) {
        ASSERT_TRUE(opened->image.entries.contains("/" + std::to_string(at))) << seed;
      }
      files.freeze_at_change(1 + random.below(10), [] {});
      for (std::uint64_t next = answered + 1; !files.is_frozen(); ++next) {
        const std::string value(random.below(2000), 'v');
        const auto done = log.append({put("/" + std::to_string(next), value, next)}, next);
        ASSERT_TRUE(done.has_value()) << "seed " << seed << ": " << done.error();
        if (!files.is_frozen()) answered = next;
        if (random.one_in(4)) ignore(log.compact(), "killed or not, the next start tells");
      }
      files.crash(random);
    }
  }
}

TEST(CatalogueLog, GoldenFileIsWhatIsWrittenAndRead) {
  const Bytes golden = wire::test::golden("catalogue-v1.hex");
  Sample sample(three_groups());
  EXPECT_EQ(sample.bytes(), golden);
  const auto scan = log_format::scan(golden);
  ASSERT_TRUE(scan.has_value());
  expect_equal(scan->image, sample.images.back());
  EXPECT_EQ(code_of(log_format::scan(wire::test::golden("catalogue-v2.newer.hex"))),
            Errc::newer_format);
}

}  // namespace
}  // namespace vmstore::meta
