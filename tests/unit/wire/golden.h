// SPDX-License-Identifier: Apache-2.0
// Reads golden files: bytes in hex, '#' begins a comment.
#pragma once

#include <gtest/gtest.h>

#include <charconv>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "base/bytes.h"

namespace vmstore::wire::test {

/// The bytes of tests/format/<name>; fails the test and returns nothing when it cannot be read.
inline std::vector<std::byte> golden(const std::string& name) {
  std::ifstream file(std::string(VMSTORE_GOLDEN_FOLDER) + "/" + name);
  EXPECT_TRUE(file) << name;
  std::vector<std::byte> bytes;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line.substr(0, line.find('#')));
    for (std::string word; words >> word;) {
      unsigned value = 0;
      const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value, 16);
      EXPECT_TRUE(error == std::errc() && end == word.data() + 2 && word.size() == 2)
          << name << ": " << word;
      bytes.push_back(static_cast<std::byte>(value));
    }
  }
  EXPECT_FALSE(bytes.empty()) << name;
  return bytes;
}

}  // namespace vmstore::wire::test
