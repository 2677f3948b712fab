// SPDX-License-Identifier: Apache-2.0
#include "cli/snippets.h"

#include <gtest/gtest.h>

namespace vmstore::cli {
namespace {

TEST(QemuSnippet, WaitsForLostServersAndPausesOnAFullStore) {
  EXPECT_EQ(qemu_snippet({"web", "/run/vmstore/nbd/web.sock", false}),
            "-blockdev driver=nbd,node-name=vms-web,server.type=unix,"
            "server.path=/run/vmstore/nbd/web.sock,export=web,reconnect-delay=86400,"
            "discard=unmap,cache.direct=on,read-only=off \\\n"
            "-device virtio-blk-pci,drive=vms-web,werror=enospc,rerror=report\n");
}

TEST(QemuSnippet, SnapshotIsReadOnly) {
  EXPECT_NE(qemu_snippet({"web@s", "/s", true}).find("read-only=on"), std::string::npos);
}

TEST(QemuSnippet, NodeNamesAreShortPlainAndDifferent) {
  const auto node_of = [](const std::string& reference) {
    const std::string text = qemu_snippet({reference, "/s", false});
    const auto from = text.find("node-name=") + 10;
    return text.substr(from, text.find(',', from) - from);
  };
  const std::string long_name(60, 'n');
  EXPECT_LE(node_of(long_name).size(), 31U);
  EXPECT_NE(node_of("a/b"), node_of("a-b"));
  EXPECT_NE(node_of(long_name + "1"), node_of(long_name + "2"));
}

TEST(LibvirtSnippet, SaysTheSame) {
  const std::string text = libvirt_snippet({"g/web@s", "/tmp/a&b.sock", true});
  EXPECT_NE(text.find("<source protocol='nbd' name='g/web@s'>"), std::string::npos);
  EXPECT_NE(text.find("socket='/tmp/a&amp;b.sock'"), std::string::npos);
  EXPECT_NE(text.find("<reconnect delay='86400'/>"), std::string::npos);
  EXPECT_NE(text.find("error_policy='enospace'"), std::string::npos);
  EXPECT_NE(text.find("<readonly/>"), std::string::npos);
  EXPECT_EQ(libvirt_snippet({"web", "/s", false}).find("readonly"), std::string::npos);
}

}  // namespace
}  // namespace vmstore::cli
