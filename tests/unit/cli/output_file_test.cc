// SPDX-License-Identifier: Apache-2.0
// OutputFile: what it replaces, and what it never does.
#include "cli/output_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace vmstore::cli {
namespace {

class OutputFileTest : public testing::Test {
 protected:
  OutputFileTest() {
    char pattern[] = "/tmp/vmstore-test-XXXXXX";
    folder_ = mkdtemp(pattern);
  }
  ~OutputFileTest() override { std::filesystem::remove_all(folder_); }
  std::string path(const std::string& name) const { return folder_ + "/" + name; }
  std::size_t entries() const {
    const std::filesystem::directory_iterator all(folder_);
    return static_cast<std::size_t>(std::distance(begin(all), end(all)));
  }
  std::string folder_;
};

TEST_F(OutputFileTest, ARegularFileIsReplacedAsAWhole) {
  std::ofstream(path("out")) << "old";
  auto file = OutputFile::create(path("out"), true);
  ASSERT_TRUE(file);
  ASSERT_TRUE(file->append("new"));
  ASSERT_TRUE(file->commit());
  std::string text;
  std::ifstream(path("out")) >> text;
  EXPECT_EQ(text, "new");
}

// A device node, for one; a pipe can be made by everybody.
TEST_F(OutputFileTest, WhatIsNotARegularFileIsNeverReplaced) {
  ASSERT_EQ(mkfifo(path("pipe").c_str(), 0600), 0);
  std::filesystem::create_symlink("pipe", path("link"));
  std::filesystem::create_directory(path("folder"));
  for (const char* const name : {"pipe", "link", "folder"}) {
    const auto file = OutputFile::create(path(name), true);
    ASSERT_FALSE(file) << name;
    EXPECT_EQ(file.error().exit_code, ExitCode::usage) << name;
  }
  EXPECT_EQ(entries(), 3U) << "something was left behind";
  EXPECT_TRUE(std::filesystem::is_fifo(path("pipe")));
}

}  // namespace
}  // namespace vmstore::cli
