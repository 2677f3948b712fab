// SPDX-License-Identifier: Apache-2.0
#include "cli/snippets.h"

#include <array>
#include <cctype>
#include <cstdio>

#include "base/bytes.h"
#include "base/checksum.h"

namespace vmstore::cli {
namespace {

/// Seconds that a guest waits for a server that is gone before it sees an error: a day.
constexpr const char* kReconnectDelay = "86400";
constexpr std::size_t kNodeNameCharsMax = 31;  // of QEMU

/// A QEMU node name: a letter, then letters, digits, '-', '.' and '_', 31 at most.
std::string node_name(const std::string& reference) {
  std::string name = "vms-";
  bool changed = false;
  for (const char c : reference) {
    const bool is_plain =
        std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '.' || c == '_';
    name += is_plain ? c : '-';
    changed |= !is_plain;
  }
  if (!changed && name.size() <= kNodeNameCharsMax) return name;
  std::array<char, 16> tail{};
  std::snprintf(tail.data(),
                tail.size(),
                "-%08llx",
                static_cast<unsigned long long>(xxh3(as_byte_span(reference)) & 0xffffffffU));
  return name.substr(0, kNodeNameCharsMax - 9) + tail.data();
}

/// For a value inside QEMU's comma-separated options, and a shell.
std::string qemu_value(const std::string& text) {
  std::string value;
  for (const char c : text) value += c == ',' ? ",," : std::string(1, c);
  return value;
}

std::string xml_value(const std::string& text) {
  std::string value;
  for (const char c : text) {
    switch (c) {
      case '&':
        value += "&amp;";
        break;
      case '<':
        value += "&lt;";
        break;
      case '\'':
        value += "&apos;";
        break;
      default:
        value += c;
    }
  }
  return value;
}

}  // namespace

std::string qemu_snippet(const SnippetOptions& options) {
  const std::string node = node_name(options.reference);
  return "-blockdev driver=nbd,node-name=" + node +
         ",server.type=unix,server.path=" + qemu_value(options.socket) +
         ",export=" + options.reference + ",reconnect-delay=" + kReconnectDelay +
         ",discard=unmap,cache.direct=on,read-only=" + (options.read_only ? "on" : "off") +
         " \\\n-device virtio-blk-pci,drive=" + node + ",werror=enospc,rerror=report\n";
}

std::string libvirt_snippet(const SnippetOptions& options) {
  return "<disk type='network' device='disk'>\n"
         "  <driver name='qemu' type='raw' cache='none' error_policy='enospace' "
         "rerror_policy='report' discard='unmap'/>\n"
         "  <source protocol='nbd' name='" +
         options.reference +
         "'>\n"
         "    <host transport='unix' socket='" +
         xml_value(options.socket) +
         "'/>\n"
         "    <reconnect delay='" +
         kReconnectDelay +
         "'/>\n"
         "  </source>\n"
         "  <target dev='vda' bus='virtio'/>\n" +
         (options.read_only ? "  <readonly/>\n" : "") + "</disk>\n";
}

}  // namespace vmstore::cli
