// SPDX-License-Identifier: Apache-2.0
#include "base/units.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

namespace vmstore {
namespace {

constexpr std::uint64_t kMaxSize = (std::uint64_t{1} << 63) - 1;

TEST(Size, IsReadInBinaryUnits) {
  EXPECT_EQ(*parse_size("0"), 0U);
  EXPECT_EQ(*parse_size("512"), 512U);
  EXPECT_EQ(*parse_size("512B"), 512U);
  EXPECT_EQ(*parse_size("64KiB"), 65536U);
  EXPECT_EQ(*parse_size("64k"), 65536U);
  EXPECT_EQ(*parse_size("1M"), std::uint64_t{1} << 20);
  EXPECT_EQ(*parse_size("20G"), std::uint64_t{20} << 30);
  EXPECT_EQ(*parse_size("1.5T"), std::uint64_t{3} << 39);
  EXPECT_EQ(*parse_size("2Pi"), std::uint64_t{2} << 50);
  EXPECT_EQ(*parse_size("0.5K"), 512U);
  EXPECT_EQ(*parse_size("1.0"), 1U);
  EXPECT_EQ(*parse_size("1.000000E"), std::uint64_t{1} << 60);
}

TEST(Size, ThatOverflowsIsRefused) {
  EXPECT_EQ(*parse_size("9223372036854775807"), kMaxSize);
  EXPECT_EQ(*parse_size("7E"), std::uint64_t{7} << 60);
  EXPECT_EQ(*parse_size("7.984375E"), (std::uint64_t{7} << 60) + (std::uint64_t{63} << 54));
  for (const char* const text : {"9223372036854775808",
                                 "8E",
                                 "8192P",
                                 "18446744073709551615",
                                 "18446744073709551616",
                                 "99999999999999999999999999G",
                                 "17179869184G"}) {
    EXPECT_EQ(parse_size(text).error(), Errc::invalid_argument) << text;
  }
}

TEST(Size, WithAFractionOfAByteIsRefused) {
  for (const char* const text : {"0.3K", "1.5", "1.1T", "0.0001K", "0.5B", "0.000001M"}) {
    EXPECT_EQ(parse_size(text).error(), Errc::invalid_argument) << text;
  }
}

TEST(Size, OfAnyOtherShapeIsRefused) {
  for (const char* const text :
       {"",   " 5",  "5 ",   "5 G", "-1",  "+1",   "G",   ".5G",  "5.G",        "5..1G", "1.5.5G",
        "5X", "5KB", "5Kib", "5iB", "5GG", "0x10", "1e3", "1,5G", "5.1234567M", "5G\n"}) {
    EXPECT_EQ(parse_size(text).error(), Errc::invalid_argument) << '"' << text << '"';
  }
  EXPECT_FALSE(parse_size(std::string_view("5G\0", 3)));
}

TEST(Size, BareNumbersAreRecognised) {
  EXPECT_TRUE(is_bare_number("20"));
  for (const char* const text : {"", "20G", "-20", "2.0", " 20"}) {
    EXPECT_FALSE(is_bare_number(text)) << text;
  }
}

TEST(Size, IsPrintedWithThreeSignificantDigits) {
  EXPECT_EQ(format_size(0), "0 B");
  EXPECT_EQ(format_size(1023), "1023 B");
  EXPECT_EQ(format_size(1024), "1.00 KiB");
  EXPECT_EQ(format_size(1536), "1.50 KiB");
  EXPECT_EQ(format_size(10239), "10.0 KiB");
  EXPECT_EQ(format_size(102399), "100 KiB");
  EXPECT_EQ(format_size(1048575), "1.00 MiB");
  EXPECT_EQ(format_size(std::uint64_t{3} << 39), "1.50 TiB");
  EXPECT_EQ(format_size(kMaxSize), "8.00 EiB");
  EXPECT_EQ(format_size(~std::uint64_t{0}), "16.0 EiB");
}

// What no part of a name may ever hold: each would mean something to a path, a shell, a database or
// a URL. Names are never used as paths, and this is the second lock on that door.
std::vector<std::string> hostile_names() {
  std::vector<std::string> names{
      "",       ".",    "..",   ".hidden",     "-rf",      "_x",        "a..b",     "a/../b",
      "../a",   "a/..", "a//b", "/a",          "a/",       "a/b/c",     "a\nb",     "a\n",
      "%2e%2e", "a%2e", "a b",  "Abc",         "a;rm -rf", "$(id)",     "`id`",     "a|b",
      "a'b",    "a\"b", "a--;", "' or '1'='1", "a*",       "a?",        "a\\b",     "a:b",
      "~a",     "a#b",  "a&b",  "a<b",         "\xff\xfe", "a\xc3\xa9", "\xc0\xaf", "a\x7f"};
  names.emplace_back("a\0b", 3);
  names.emplace_back("a\0", 2);
  names.emplace_back(4097, 'a');
  names.emplace_back(64, 'a');
  names.push_back(std::string(64, 'a') + "/b");
  names.push_back("a/" + std::string(64, 'b'));
  return names;
}

TEST(DiskName, FollowsItsGrammar) {
  for (const std::string& name : {std::string("a"),
                                  std::string("0"),
                                  std::string("vm-1.root_2"),
                                  std::string("group/vm1"),
                                  std::string("a.b"),
                                  std::string("a-"),
                                  std::string(63, 'z'),
                                  std::string(63, 'z') + "/" + std::string(63, '9')}) {
    EXPECT_TRUE(is_valid_disk_name(name)) << name;
    EXPECT_TRUE(parse_disk_reference(name)) << name;
  }
}

TEST(DiskName, HostileOnesAreRefused) {
  for (const std::string& name : hostile_names()) {
    EXPECT_FALSE(is_valid_disk_name(name)) << name;
    EXPECT_EQ(parse_disk_reference(name).error(), Errc::invalid_argument) << name;
    EXPECT_EQ(parse_disk_reference(name + "@snap").error(), Errc::invalid_argument) << name;
    EXPECT_EQ(parse_disk_reference("disk@" + name).error(), Errc::invalid_argument) << name;
  }
}

TEST(DiskName, APartHoldsNoSlash) {
  EXPECT_TRUE(is_valid_name_part("snap-1"));
  EXPECT_FALSE(is_valid_name_part("a/b"));
}

TEST(DiskReference, SplitsAtTheFirstAt) {
  EXPECT_EQ(parse_disk_reference("g/vm")->disk, "g/vm");
  EXPECT_EQ(parse_disk_reference("g/vm")->snapshot, "");
  EXPECT_EQ(parse_disk_reference("g/vm@s.1")->disk, "g/vm");
  EXPECT_EQ(parse_disk_reference("g/vm@s.1")->snapshot, "s.1");
  for (const char* const text : {"vm@", "@s", "@", "vm@s@t", "vm@g/s", "vm@@s"}) {
    EXPECT_EQ(parse_disk_reference(text).error(), Errc::invalid_argument) << text;
  }
}

TEST(Endpoints, AreSplitAtCommasAndMadeAbsoluteEach) {
  EXPECT_EQ(split_endpoints("/a,10.0.0.1:1,,unix:b"),
            (std::vector<std::string>{"/a", "10.0.0.1:1", "unix:b"}));
  EXPECT_TRUE(split_endpoints(",").empty());
  EXPECT_EQ(absolute_endpoint("a.sock,10.0.0.1:1,unix:b,tcp://[::1]:2", "/f"),
            "/f/a.sock,10.0.0.1:1,/f/b,tcp://[::1]:2");
}

}  // namespace
}  // namespace vmstore
