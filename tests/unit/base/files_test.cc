// SPDX-License-Identifier: Apache-2.0
// read_file, replace_file and the path grammar. What every Files must do: tests/conformance.
#include "base/files.h"

#include <gtest/gtest.h>

#include <string>

#include "base/random.h"
#include "tests/support/memory_files.h"

namespace vmstore {
namespace {

TEST(Path, FollowsItsGrammar) {
  for (const std::string& path : {std::string("a"),
                                  std::string("keys/0a/000000010.data"),
                                  std::string("a.new"),
                                  std::string(".probe"),
                                  std::string("a..b"),
                                  std::string(255, 'x')}) {
    EXPECT_TRUE(is_valid_path(path)) << path;
  }
  for (const std::string& path : {std::string(),
                                  std::string("/a"),
                                  std::string("a/"),
                                  std::string("a//b"),
                                  std::string("."),
                                  std::string(".."),
                                  std::string("a/../b"),
                                  std::string("a/./b"),
                                  std::string("A"),
                                  std::string("a b"),
                                  std::string("a\0b", 3),
                                  std::string("a\n"),
                                  std::string("\xc3\xa9"),
                                  std::string(256, 'x'),
                                  std::string(4097, 'x')}) {
    EXPECT_FALSE(is_valid_path(path)) << path;
  }
}

TEST(ReadFile, GivesTheWholeFile) {
  sim::MemoryFiles files;
  ASSERT_TRUE(replace_file(files, "a", as_byte_span("content")));
  EXPECT_EQ(as_text(*read_file(files, "a", 7)), "content");
  EXPECT_EQ(read_file(files, "a", 6).error(), Errc::corrupt);
  EXPECT_EQ(read_file(files, "b", 6).error(), Errc::not_found);
}

TEST(ReadFile, PassesADeviceErrorOnAndNeverSaysNotFound) {
  sim::MemoryFiles files;
  ASSERT_TRUE(replace_file(files, "a", as_byte_span("content")));
  files.fail({sim::FileOperation::read, "a"});
  EXPECT_EQ(read_file(files, "a", 100).error(), Errc::io_error);
}

TEST(ReplaceFile, LeavesTheOldOrTheNewContentWhereverThePowerGoes) {
  int with_old = 0;
  int with_new = 0;
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    Random random(seed);
    sim::MemoryFiles files(sim::MemoryFiles::kUnlimited, seed);
    const std::string old_content(3000, 'o');
    const std::string new_content(2000, 'n');
    ASSERT_TRUE(replace_file(files, "a", as_byte_span(old_content)));
    files.freeze_at_change(1 + random.below(8), [] {});
    const bool replaced = replace_file(files, "a", as_byte_span(new_content)).has_value();
    const bool acknowledged = replaced && !files.is_frozen();
    files.crash(random);
    const auto content = read_file(files, "a", 10000);
    ASSERT_TRUE(content) << "seed " << seed;
    const bool is_new = as_text(*content) == new_content;
    ASSERT_TRUE(is_new || as_text(*content) == old_content) << "seed " << seed;
    ASSERT_TRUE(is_new || !acknowledged) << "seed " << seed;
    ++(is_new ? with_new : with_old);
  }
  EXPECT_GT(with_old, 10);
  EXPECT_GT(with_new, 10);
}

TEST(ReplaceFile, ReportsEveryFailureAndKeepsTheOldContent) {
  for (const auto operation : {sim::FileOperation::open,
                               sim::FileOperation::truncate,
                               sim::FileOperation::write,
                               sim::FileOperation::sync,
                               sim::FileOperation::rename}) {
    sim::MemoryFiles files;
    ASSERT_TRUE(replace_file(files, "a", as_byte_span("old")));
    files.fail({operation, "a.new"});
    EXPECT_EQ(replace_file(files, "a", as_byte_span("new")).error(), Errc::io_error);
    EXPECT_EQ(as_text(*read_file(files, "a", 10)), "old");
  }
  sim::MemoryFiles files;
  files.fail({sim::FileOperation::sync_folder, ""});
  EXPECT_EQ(replace_file(files, "a", as_byte_span("new")).error(), Errc::io_error);
}

}  // namespace
}  // namespace vmstore
