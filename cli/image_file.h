// SPDX-License-Identifier: Apache-2.0
// What a disk image in a file is, asked of qemu-img; VMStore parses no image format itself.
//
// Invariants: an image that QEMU would read as zeros where its file was cut off is refused, because
// QEMU itself says nothing; an image that names other files of this machine (a backing file, an
// external data file, extents) is refused unless that was allowed.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "cli/failure.h"

namespace vmstore::cli {

struct ImageFacts {
  std::string format;  // "raw", "qcow2", …
  std::uint64_t size_bytes = 0;
};

struct ImageOptions {
  std::string format;         // empty: found by qemu-img
  bool follow_links = false;  // other files the image names
  bool check = true;
};

/// `path` is absolute.
[[nodiscard]] Answer<ImageFacts> inspect_image(const std::string& path,
                                               const ImageOptions& options);

// The parts of it that read qemu-img's answers.

struct ImageInfo {
  ImageFacts facts;
  std::string link;  // another file that the image names; empty if none
};
[[nodiscard]] Answer<ImageInfo> parse_image_info(std::string_view text, const std::string& path);
/// One line of `qemu-img map --output=json`: fails when data lies behind the end of the file.
[[nodiscard]] Answer<void> check_map_line(std::string_view line, std::uint64_t file_bytes);

}  // namespace vmstore::cli
