// SPDX-License-Identifier: Apache-2.0
// The crash model: what a power cut may leave, what it may not, and that it leaves all of it.
// What MemoryFiles does without faults: tests/conformance/files_test.cc.
#include "tests/support/memory_files.h"

#include <gtest/gtest.h>

#include <array>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/random.h"

namespace vmstore::sim {
namespace {

constexpr std::size_t kSector = 512;
constexpr std::uint64_t kSeeds = 200;

std::unique_ptr<File> make(Files& files, std::string_view path, bool direct_sync = false) {
  OpenOptions options;
  options.create = true;
  options.direct_sync = direct_sync;
  return std::move(*files.open(path, options));
}

std::string content(Files& files, std::string_view path) {
  const auto bytes = read_file(files, path, 1 << 24);
  return bytes ? std::string(as_text(*bytes)) : "error " + to_string(bytes.error());
}

/// A synced file of `bytes` times `c` with a synced name.
void make_durable(Files& files, std::string_view path, std::size_t bytes, char c) {
  const auto file = make(files, path);
  ASSERT_TRUE(file->write(0, as_byte_span(std::string(bytes, c))));
  ASSERT_TRUE(file->sync());
  ASSERT_TRUE(files.sync_folder(""));
}

TEST(MemoryFiles, ACrashKeepsWhatWasSynced) {
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    Random random(seed);
    MemoryFiles files;
    make_durable(files, "a", 10000, 'x');
    files.crash(random);
    EXPECT_EQ(content(files, "a"), std::string(10000, 'x'));
  }
}

TEST(MemoryFiles, ACrashKeepsDropsOrTearsEachUnsyncedSector) {
  std::set<std::string> outcomes;
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    Random random(seed);
    MemoryFiles files;
    make_durable(files, "a", 4 * kSector, 'o');
    ASSERT_TRUE(make(files, "a")->write(0, as_byte_span(std::string(4 * kSector, 'n'))));
    files.crash(random);
    const std::string text = content(files, "a");
    ASSERT_EQ(text.size(), 4 * kSector);
    std::string shape;
    for (std::size_t i = 0; i < 4; ++i) {
      const std::string sector = text.substr(i * kSector, kSector);
      ASSERT_EQ(sector, std::string(kSector, sector[0])) << "a sector is never torn";
      shape.push_back(sector[0]);
    }
    outcomes.insert(shape);
  }
  EXPECT_EQ(outcomes.size(), 16U) << "each of the 2^4 outcomes is reached";
}

TEST(MemoryFiles, ACrashMayGiveAnyVersionOfARewrittenSector) {
  std::map<char, int> seen;
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    Random random(seed);
    MemoryFiles files;
    make_durable(files, "a", kSector, '0');
    const auto file = make(files, "a");
    for (const char c : {'1', '2', '3'}) {
      ASSERT_TRUE(file->write(0, as_byte_span(std::string(kSector, c))));
    }
    files.crash(random);
    ++seen[content(files, "a")[0]];
  }
  EXPECT_EQ(seen.size(), 4U);
}

TEST(MemoryFiles, ASyncInBetweenLeavesNothingOlder) {
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    Random random(seed);
    MemoryFiles files;
    make_durable(files, "a", kSector, '0');
    const auto file = make(files, "a");
    for (int i = 0; i < 30; ++i) {  // more than is remembered one by one
      ASSERT_TRUE(file->write(0, as_byte_span(std::string(kSector, '1'))));
    }
    ASSERT_TRUE(file->sync());
    ASSERT_TRUE(file->write(0, as_byte_span(std::string(kSector, '2'))));
    files.crash(random);
    EXPECT_NE(content(files, "a")[0], '0');
  }
}

TEST(MemoryFiles, ManyUnsyncedRewritesStillEndInOneOfThem) {
  std::set<char> seen;
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    Random random(seed);
    MemoryFiles files;
    make_durable(files, "a", 4096, '0');
    const auto file = make(files, "a");
    for (char c = 'a'; c <= 'z'; ++c) {
      ASSERT_TRUE(file->write(kSector * random.below(4), as_byte_span(std::string(2048, c))));
    }
    files.crash(random);
    const std::string text = content(files, "a");
    for (std::size_t i = 0; i < text.size(); i += kSector) {
      ASSERT_EQ(text.substr(i, kSector), std::string(kSector, text[i]));
      seen.insert(text[i]);
    }
  }
  EXPECT_TRUE(seen.contains('0'));
  EXPECT_TRUE(seen.contains('z'));
}

TEST(MemoryFiles, AnAppendThatWasNotSyncedMayBeShortAndMayHaveHoles) {
  std::set<std::size_t> sizes;
  bool hole = false;
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    Random random(seed);
    MemoryFiles files;
    make_durable(files, "a", 1000, 'o');
    ASSERT_TRUE(make(files, "a")->write(1000, as_byte_span(std::string(9000, 'n'))));
    files.crash(random);
    const std::string text = content(files, "a");
    ASSERT_GE(text.size(), 1000U);
    ASSERT_LE(text.size(), 10000U);
    ASSERT_EQ(text.substr(0, 1000), std::string(1000, 'o'));
    hole = hole || text.find('\0') != std::string::npos;
    sizes.insert(text.size());
  }
  EXPECT_TRUE(hole);
  EXPECT_TRUE(sizes.contains(1000));
  EXPECT_TRUE(sizes.contains(10000));
  EXPECT_GT(sizes.size(), 4U);
}

TEST(MemoryFiles, ATruncationIsKeptOrDroppedAsAWhole) {
  int kept = 0;
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    Random random(seed);
    MemoryFiles files;
    make_durable(files, "a", 20000, 'x');
    ASSERT_TRUE(make(files, "a")->truncate(5000));
    files.crash(random);
    const std::string text = content(files, "a");
    ASSERT_TRUE(text == std::string(5000, 'x') || text == std::string(20000, 'x'));
    kept += text.size() == 5000 ? 1 : 0;
  }
  EXPECT_GT(kept, 20);
  EXPECT_LT(kept, 180);
}

TEST(MemoryFiles, APunchedPageIsKeptOrDroppedAsAWhole) {
  bool split = false;
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    Random random(seed);
    MemoryFiles files;
    make_durable(files, "a", 8192, 'x');
    ASSERT_TRUE(make(files, "a")->punch(0, 8192));
    files.crash(random);
    const std::string text = content(files, "a");
    for (std::size_t i = 0; i < 8192; i += 4096) {
      ASSERT_EQ(text.substr(i, 4096), std::string(4096, text[i]));
    }
    split = split || text[0] != text[4096];
  }
  EXPECT_TRUE(split);
}

TEST(MemoryFiles, AllocatedSpaceIsDurableOnlyOnceSynced) {
  int lost = 0;
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    Random random(seed);
    MemoryFiles files;
    make_durable(files, "a", 100, 'x');
    ASSERT_TRUE(make(files, "a")->allocate(0, 1 << 20));
    ASSERT_TRUE(make(files, "a")->sync());
    ASSERT_TRUE(make(files, "a")->allocate(1 << 20, 1 << 20));
    files.crash(random);
    const std::uint64_t bytes = *make(files, "a")->allocated_bytes();
    ASSERT_TRUE(bytes == 1 << 20 || bytes == 2 << 20) << bytes;
    ASSERT_EQ(files.used_bytes(), bytes);
    lost += bytes == 1 << 20 ? 1 : 0;
  }
  EXPECT_GT(lost, 20);
  EXPECT_LT(lost, 180);
}

TEST(MemoryFiles, DirectSyncedWritesAreDurableAndMakeNothingElseSo) {
  alignas(4096) static std::array<std::byte, 4096> page;
  page.fill(std::byte{'d'});
  bool other_lost = false;
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    Random random(seed);
    MemoryFiles files;
    make_durable(files, "a", 12288, 'o');
    ASSERT_TRUE(make(files, "a")->write(0, as_byte_span(std::string(12288, 'n'))));
    ASSERT_TRUE(make(files, "a", true)->write(4096, page));
    files.crash(random);
    const std::string text = content(files, "a");
    ASSERT_EQ(text.substr(4096, 4096), std::string(4096, 'd'));
    other_lost = other_lost || text[0] == 'o';
  }
  EXPECT_TRUE(other_lost);
}

// ---- names ----

TEST(MemoryFiles, ANewNameMayBeLostUntilItsFolderIsSynced) {
  int lost = 0;
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    Random random(seed);
    MemoryFiles files;
    const auto file = make(files, "a");
    ASSERT_TRUE(file->write(0, as_byte_span("x")));
    ASSERT_TRUE(file->sync());
    files.crash(random);
    const auto names = files.list("");
    lost += names->empty() ? 1 : 0;
    if (!names->empty()) {
      ASSERT_EQ(content(files, "a"), "x");
    }
  }
  EXPECT_GT(lost, 20);
  EXPECT_LT(lost, 180);
}

TEST(MemoryFiles, ARenameIsKeptOrDroppedAsAWhole) {
  std::set<std::vector<std::string>> outcomes;
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    Random random(seed);
    MemoryFiles files;
    ASSERT_TRUE(files.make_folder("f"));
    make_durable(files, "a", 1, 'a');
    ASSERT_TRUE(files.rename("a", "f/b"));
    files.crash(random);
    std::vector<std::string> names = *files.list("");
    for (const auto& below : *files.list("f")) names.push_back("f/" + below);
    outcomes.insert(names);
  }
  EXPECT_EQ(outcomes, (std::set<std::vector<std::string>>{{"a", "f"}, {"f", "f/b"}}));
}

TEST(MemoryFiles, ARemovedNameMayComeBackWithItsContentAndItsSpace) {
  int back = 0;
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    Random random(seed);
    MemoryFiles files;
    make_durable(files, "a", 4096, 'a');
    ASSERT_TRUE(files.remove("a"));
    ASSERT_EQ(files.used_bytes(), 0U);
    files.crash(random);
    if (files.list("")->empty()) continue;
    ++back;
    ASSERT_EQ(content(files, "a"), std::string(4096, 'a'));
    ASSERT_EQ(files.used_bytes(), 4096U);
  }
  EXPECT_GT(back, 20);
  EXPECT_LT(back, 180);
}

TEST(MemoryFiles, ASyncedFolderKeepsItsNamesButNotThoseOfOthers) {
  bool other_lost = false;
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    Random random(seed);
    MemoryFiles files;
    ASSERT_TRUE(files.make_folder("f"));
    ASSERT_TRUE(files.make_folder("g"));
    ASSERT_TRUE(files.sync_folder(""));
    static_cast<void>(make(files, "f/a"));
    static_cast<void>(make(files, "g/b"));
    ASSERT_TRUE(files.rename("f/a", "f/c"));
    ASSERT_TRUE(files.sync_folder("f"));
    files.crash(random);
    ASSERT_EQ(*files.list("f"), std::vector<std::string>{"c"});
    other_lost = other_lost || files.list("g")->empty();
  }
  EXPECT_TRUE(other_lost);
}

// ---- space ----

TEST(MemoryFiles, WritesFailWhenTheDeviceIsFull) {
  MemoryFiles files(64 * 1024);
  const auto a = make(files, "a");
  ASSERT_TRUE(a->allocate(0, 48 * 1024));
  EXPECT_EQ(files.space()->free_bytes, 16U * 1024);
  const auto b = make(files, "b");
  EXPECT_EQ(b->allocate(0, 20 * 1024).error(), Errc::no_space);
  EXPECT_EQ(files.space()->free_bytes, 16U * 1024) << "allocation is all or nothing";
  EXPECT_EQ(b->write(0, as_byte_span(std::string(20 * 1024, 'b'))).error(), Errc::no_space);
  EXPECT_EQ(*b->size(), 16U * 1024) << "a failed write leaves what fitted";
  EXPECT_TRUE(a->write(0, as_byte_span(std::string(48 * 1024, 'a')))) << "allocated beforehand";
  EXPECT_TRUE(b->write(0, as_byte_span("again"))) << "rewriting takes nothing";
  ASSERT_TRUE(a->punch(0, 8192));
  EXPECT_EQ(files.space()->free_bytes, 8192U);
  ASSERT_TRUE(files.remove("b"));
  EXPECT_EQ(files.space()->free_bytes, 8192U) << "still open";
}

TEST(MemoryFiles, EverythingRemovedLeavesNothingUsed) {
  Random random(5);
  MemoryFiles files;
  {
    const auto a = make(files, "a");
    ASSERT_TRUE(a->write(100000, as_byte_span(std::string(30000, 'x'))));
    ASSERT_TRUE(a->allocate(50000, 100000));
    ASSERT_TRUE(a->punch(101000, 20000));
    ASSERT_TRUE(a->truncate(140000));
    EXPECT_EQ(files.used_bytes(), *a->allocated_bytes());
    ASSERT_TRUE(files.remove("a"));
    EXPECT_GT(files.used_bytes(), 0U);
  }
  EXPECT_EQ(files.used_bytes(), 0U);
}

TEST(MemoryFiles, SparseFilesCostOnlyWhatTheyHold) {
  MemoryFiles files;
  const auto file = make(files, "a");
  ASSERT_TRUE(file->truncate(std::uint64_t{1} << 42));
  ASSERT_TRUE(file->write((std::uint64_t{1} << 41) + 5, as_byte_span("x")));
  EXPECT_EQ(files.used_bytes(), 4096U);
}

// ---- faults ----

TEST(MemoryFiles, TheNthMatchingCallFailsOnce) {
  MemoryFiles files;
  const auto a = make(files, "a");
  const auto b = make(files, "b");
  files.fail({FileOperation::write, "a", 2});
  EXPECT_TRUE(a->write(0, as_byte_span("1")));
  EXPECT_TRUE(b->write(0, as_byte_span("1")));
  EXPECT_EQ(a->write(0, as_byte_span("2")).error(), Errc::io_error);
  EXPECT_TRUE(a->write(0, as_byte_span("3")));
  files.fail({FileOperation::read, "", 1, Error(Errc::io_error, 5), true});
  std::array<std::byte, 4> into{};
  for (int i = 0; i < 3; ++i) EXPECT_EQ(b->read(0, into).error(), Errc::io_error);
  files.clear_faults();
  EXPECT_TRUE(b->read(0, into));
}

TEST(MemoryFiles, AFailedSyncDropsDirtyDataAndTheNextOneSucceedsAllTheSame) {
  int dropped = 0;
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    Random random(seed);
    MemoryFiles files(MemoryFiles::kUnlimited, seed);
    make_durable(files, "a", 512, 'o');
    const auto file = make(files, "a");
    ASSERT_TRUE(file->write(0, as_byte_span(std::string(512, 'n'))));
    files.fail({FileOperation::sync, "a"});
    EXPECT_EQ(file->sync().error(), Errc::io_error);
    EXPECT_TRUE(file->sync()) << "the trap: the second answer is a lie";
    files.crash(random);
    dropped += content(files, "a")[0] == 'o' ? 1 : 0;
  }
  EXPECT_GT(dropped, 20);
}

TEST(MemoryFiles, FlippedBitsStay) {
  MemoryFiles files;
  make_durable(files, "a", 5000, 'x');
  EXPECT_TRUE(files.flip_bit("a", 4999, 0));
  EXPECT_EQ(content(files, "a")[4999], 'x' ^ 1);
  EXPECT_FALSE(files.flip_bit("a", 5000, 0));
  EXPECT_FALSE(files.flip_bit("b", 0, 0));
}

// ---- death ----

TEST(MemoryFiles, AfterTheFreezeChangesAreAnsweredAndIgnored) {
  MemoryFiles files;
  make_durable(files, "a", 100, 'x');
  const auto file = make(files, "a");
  files.freeze();
  EXPECT_TRUE(file->write(0, as_byte_span("lost")));
  EXPECT_TRUE(file->truncate(0));
  EXPECT_TRUE(file->punch(0, 100));
  EXPECT_TRUE(file->allocate(0, 1 << 20));
  EXPECT_TRUE(file->sync());
  EXPECT_TRUE(files.remove("a"));
  EXPECT_TRUE(files.rename("a", "c"));
  EXPECT_TRUE(files.make_folder("f"));
  EXPECT_TRUE(make(files, "b")->write(0, as_byte_span("lost")));
  files.restart();
  EXPECT_EQ(*files.list(""), std::vector<std::string>{"a"});
  EXPECT_EQ(content(files, "a"), std::string(100, 'x'));
  EXPECT_EQ(files.used_bytes(), 4096U);
}

TEST(MemoryFiles, AKilledProcessLosesNothingButItsOpenFiles) {
  MemoryFiles files;
  const auto file = make(files, "a");
  ASSERT_TRUE(file->lock());
  ASSERT_TRUE(file->write(0, as_byte_span("unsynced")));
  files.restart();
  EXPECT_EQ(content(files, "a"), "unsynced");
  EXPECT_FALSE(file->write(0, as_byte_span("from the grave")));
  EXPECT_TRUE(make(files, "a")->lock());
}

TEST(MemoryFiles, TheChangeInWhichItFreezesMayBeTorn) {
  std::set<std::size_t> sizes;
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    Random random(seed);
    MemoryFiles files(MemoryFiles::kUnlimited, seed);
    make_durable(files, "a", 0, 'x');
    bool told = false;
    const auto file = make(files, "a");
    files.freeze_at_change(2, [&] { told = true; });
    ASSERT_TRUE(file->write(0, as_byte_span(std::string(512, '1'))));
    EXPECT_FALSE(told);
    ASSERT_TRUE(file->sync());
    EXPECT_TRUE(told);
    EXPECT_TRUE(files.is_frozen());
    ASSERT_TRUE(file->write(512, as_byte_span(std::string(512, '2'))));
    files.crash(random);
    const std::string text = content(files, "a");
    ASSERT_EQ(text.find('2'), std::string::npos);
    sizes.insert(text.size());
  }
  EXPECT_EQ(sizes.size(), 2U) << "the sync that was cut got through, or did not";
}

TEST(MemoryFiles, TheSameCallsGiveTheSameHistory) {
  const auto run = [](const char* text) {
    MemoryFiles files;
    const auto file = make(files, "a");
    ignore(file->write(0, as_byte_span(text)), "cannot fail");
    ignore(file->sync(), "cannot fail");
    return files.history_hash();
  };
  EXPECT_EQ(run("abc"), run("abc"));
  EXPECT_NE(run("abc"), run("abcd"));
}

// ---- RangeSet ----

TEST(RangeSet, AgreesWithASetOfNumbers) {
  Random random(9);
  RangeSet ranges;
  std::set<std::uint64_t> oracle;
  for (int step = 0; step < 3000; ++step) {
    const std::uint64_t begin = random.below(200);
    const std::uint64_t end = begin + random.below(30);
    const bool add = random.one_in(2);
    for (std::uint64_t i = begin; i < end; ++i) {
      if (add) {
        oracle.insert(i);
      } else {
        oracle.erase(i);
      }
    }
    add ? ranges.add(begin, end) : ranges.remove(begin, end);
    ASSERT_EQ(ranges.count(), oracle.size());
    const std::uint64_t from = random.below(200);
    const std::uint64_t to = from + random.below(60);
    const auto inside = std::distance(oracle.lower_bound(from), oracle.lower_bound(to));
    ASSERT_EQ(ranges.count_in(from, to), static_cast<std::uint64_t>(inside));
    ASSERT_EQ(ranges.contains(from), oracle.contains(from));
  }
}

}  // namespace
}  // namespace vmstore::sim
