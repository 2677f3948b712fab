// SPDX-License-Identifier: Apache-2.0
#include "cli/image_file.h"

#include <gtest/gtest.h>

namespace vmstore::cli {
namespace {

TEST(ImageInfo, TellsFormatAndSize) {
  const auto info = parse_image_info(R"({"virtual-size":1048576,"format":"qcow2"})", "/a.qcow2");
  ASSERT_TRUE(info);
  EXPECT_EQ(info->facts.format, "qcow2");
  EXPECT_EQ(info->facts.size_bytes, 1048576U);
  EXPECT_EQ(info->link, "");
}

TEST(ImageInfo, NamesEveryOtherFileAnImageReads) {
  EXPECT_EQ(parse_image_info(R"({"virtual-size":512,"format":"qcow2",
                                 "backing-filename":"/etc/shadow"})",
                             "/a")
                ->link,
            "/etc/shadow");
  EXPECT_EQ(parse_image_info(R"({"virtual-size":512,"format":"qcow2",
                                 "format-specific":{"data":{"data-file":"/dev/sda"}}})",
                             "/a")
                ->link,
            "/dev/sda");
  EXPECT_EQ(parse_image_info(R"({"virtual-size":512,"format":"vmdk","format-specific":{"data":
                                 {"extents":[{"filename":"/a"},{"filename":"/b"}]}}})",
                             "/a")
                ->link,
            "/b");
}

TEST(ImageInfo, GarbageIsAFailure) {
  for (const char* text :
       {"", "[]", "{}", R"({"virtual-size":"1G","format":"raw"})", R"({"virtual-size":512})"}) {
    EXPECT_FALSE(parse_image_info(text, "/a")) << text;
  }
}

TEST(ImageMap, DataBehindTheEndOfTheFileMeansItWasCutOff) {
  const char* line =
      R"([{ "start": 0, "length": 65536, "depth": 0, "data": true, "offset": 327680},)";
  EXPECT_TRUE(check_map_line(line, 393216));
  EXPECT_FALSE(check_map_line(line, 393216 - 512));
  EXPECT_FALSE(check_map_line(line, 393216 - 1));
}

TEST(ImageMap, HolesAndOtherLinesMeanNothing) {
  EXPECT_TRUE(check_map_line(R"({"start":0,"length":9,"data":false,"offset":99999})", 1));
  EXPECT_TRUE(check_map_line(R"({"start":0,"length":9,"data":true,"compressed":true})", 1));
  EXPECT_TRUE(check_map_line("]", 1));
  EXPECT_TRUE(check_map_line("", 1));
  const char* endless = R"({"data":true,"length":18446744073709551615,"offset":512})";
  EXPECT_FALSE(check_map_line(endless, 4096));
}

}  // namespace
}  // namespace vmstore::cli
