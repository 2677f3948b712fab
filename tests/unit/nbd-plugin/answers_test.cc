// SPDX-License-Identifier: Apache-2.0
#include "nbd-plugin/answers.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <limits>
#include <ostream>
#include <set>

#include "base/limits.h"
#include "tests/support/fake_disks.h"

namespace vmstore::disk {
bool operator==(const DiskExtent& a, const DiskExtent& b) {
  return a.offset == b.offset && a.bytes == b.bytes && a.zero == b.zero;
}
std::ostream& operator<<(std::ostream& out, const DiskExtent& extent) {
  return out << extent.offset << "+" << extent.bytes << (extent.zero ? " zero" : " data");
}
}  // namespace vmstore::disk

namespace vmstore::nbd_plugin {
namespace {

using disk::DiskExtent;
using Extents = std::vector<DiskExtent>;

constexpr std::uint32_t kMaximalRequest = std::numeric_limits<std::uint32_t>::max();

TEST(NbdErrno, IsAlwaysOneThatNbdkitPassesOn) {
  const std::set<int> known{EPERM, EIO, ENOMEM, ENOSPC, EINVAL};
  for (const Errc code : all_errcs()) {
    if (code == Errc::ok) continue;
    EXPECT_TRUE(known.contains(nbd_errno(code))) << errc_name(code);
  }
}

TEST(NbdErrno, OnlyAWrongRequestIsCalledOne) {
  EXPECT_EQ(nbd_errno(Errc::invalid_argument), EINVAL);
  EXPECT_EQ(nbd_errno(Errc::no_space), ENOSPC);
  EXPECT_EQ(nbd_errno(Errc::read_only), EPERM);
  EXPECT_EQ(nbd_errno(Errc::disconnected), EIO);
  EXPECT_EQ(nbd_errno(Errc::timed_out), EIO);
  EXPECT_EQ(nbd_errno(Errc::busy), EIO);
  EXPECT_EQ(nbd_errno(Errc::unsupported), EIO);
}

TEST(ClipExtents, WhatLiesOutsideTheRequestIsCutOff) {
  const Extents found{{0, 4096, true}, {4096, 8192, false}, {12288, 1 << 20, true}};
  const Extents expected{{6000, 6288, false}, {12288, 712, true}};
  EXPECT_EQ(clip_extents(found, 6000, 7000).value(), expected);
}

TEST(ClipExtents, NothingFollowsAGap) {
  const Extents found{{0, 4096, false}, {8192, 4096, true}};
  const Extents expected{{0, 4096, false}};
  EXPECT_EQ(clip_extents(found, 0, 12288).value(), expected);
}

TEST(ClipExtents, NoAnswerForTheFirstByteIsAnError) {
  EXPECT_EQ(clip_extents({}, 0, 4096).error(), Errc::unknown);
  EXPECT_EQ(clip_extents({{4096, 4096, true}}, 0, 8192).error(), Errc::unknown);
  EXPECT_EQ(clip_extents({{0, 4096, true}}, 4096, 8192).error(), Errc::unknown);
}

TEST(ClipExtents, OverlapsCountOnce) {
  const Extents found{{0, 8192, false}, {4096, 8192, true}};
  const Extents expected{{0, 8192, false}, {8192, 4096, true}};
  EXPECT_EQ(clip_extents(found, 0, 1 << 20).value(), expected);
}

TEST(ClipExtents, MaximalRequestOnTenTebibytesStaysInside) {
  const Extents whole_disk{{0, 10 * limits::kTiB, true}};
  for (const std::uint64_t offset : {std::uint64_t{0}, 4 * limits::kGiB, 9 * limits::kTiB + 512}) {
    const Extents expected{{offset, kMaximalRequest, true}};
    EXPECT_EQ(clip_extents(whole_disk, offset, kMaximalRequest).value(), expected);
  }
}

TEST(ClipExtents, MaximalRequestOnASparseDiskAddsUp) {
  auto store = std::make_shared<test::FakeStore>();
  store->add("big", 10 * limits::kTiB);
  const auto client = test::FakeStore::client(store);
  disk::DiskOpenOptions options;
  options.reference = "big";
  const auto disk = client->open(options).value();
  const std::vector<std::byte> block(4096, std::byte{1});
  for (std::uint64_t at = 0; at < 6 * limits::kGiB; at += limits::kGiB) {
    ASSERT_TRUE(disk->write(at, block, false));
  }
  const auto found = disk->extents(512, kMaximalRequest, 8192).value();
  const auto clipped = clip_extents(found, 512, kMaximalRequest).value();
  std::uint64_t at = 512;
  for (const DiskExtent& extent : clipped) {
    EXPECT_EQ(extent.offset, at);
    at += extent.bytes;
  }
  EXPECT_EQ(at, std::uint64_t{512} + kMaximalRequest);
  EXPECT_EQ(clipped.size(), 9U);  // five blocks and what lies between them
}

}  // namespace
}  // namespace vmstore::nbd_plugin
