// SPDX-License-Identifier: Apache-2.0
#include "storaged/catalogue_place.h"

#include <gtest/gtest.h>

#include "tests/support/code_of.h"
#include "tests/support/memory_files.h"

namespace vmstore::storaged {
namespace {

using Kind = CataloguePlace::Kind;

TEST(CataloguePlace, IsReadAsItWasWritten) {
  sim::MemoryFiles files;
  EXPECT_EQ(read_place(files).value(), CataloguePlace()) << "no file: it never moved";
  for (const CataloguePlace& place : {CataloguePlace{Kind::moving, (std::uint64_t{3} << 32) + 9},
                                      CataloguePlace{Kind::etcd, 0},
                                      CataloguePlace{Kind::embedded, 0}}) {
    ASSERT_TRUE(write_place(files, place));
    EXPECT_EQ(read_place(files).value(), place);
  }
}

TEST(CataloguePlace, WhatCannotBeReadIsNotEmbedded) {
  sim::MemoryFiles files;
  const auto read = [&](const std::string& text) {
    EXPECT_TRUE(replace_file(files, kPlaceFile, as_byte_span(text)));
    return code_of(read_place(files));
  };
  const std::string good = "vmstore catalogue place 1\nmoving 77\n";
  EXPECT_EQ(read(good), Errc::ok);
  for (std::size_t bytes = 0; bytes < good.size(); ++bytes) {
    EXPECT_EQ(read(good.substr(0, bytes)), Errc::corrupt) << bytes;
  }
  EXPECT_EQ(read("vmstore catalogue place 1\nmoving x\n"), Errc::corrupt);
  EXPECT_EQ(read("vmstore catalogue place 1\netcd\netcd\n"), Errc::corrupt);
  EXPECT_EQ(read("vmstore catalogue place 2\nelsewhere\n"), Errc::newer_format);
}

TEST(CataloguePlace, OnlyTheCatalogueWhereItIsMayBeServed) {
  const CataloguePlace embedded;
  const CataloguePlace moving{Kind::moving, 7};
  const CataloguePlace etcd{Kind::etcd, 0};
  EXPECT_TRUE(check_place(embedded, false, false));
  EXPECT_TRUE(check_place(etcd, true, false));
  EXPECT_TRUE(check_place(embedded, true, true)) << "a new store";
  EXPECT_EQ(code_of(check_place(embedded, true, false)), Errc::conflict);
  EXPECT_EQ(code_of(check_place(etcd, false, false)), Errc::conflict);
  EXPECT_EQ(code_of(check_place(etcd, false, true)), Errc::conflict);
  for (const bool wants_etcd : {false, true}) {
    EXPECT_EQ(code_of(check_place(moving, wants_etcd, false)), Errc::conflict);
  }
}

}  // namespace
}  // namespace vmstore::storaged
