// SPDX-License-Identifier: Apache-2.0
// What to paste into QEMU's command line or libvirt's XML for an attached disk.
//
// Invariants: a lost server is waited for (reconnect-delay), a full store pauses the guest instead
// of failing its writes (werror=enospc), discards reach the store, a snapshot is read-only.
#pragma once

#include <string>

namespace vmstore::cli {

struct SnippetOptions {
  std::string reference;  // NAME or NAME@SNAP
  std::string socket;
  bool read_only = false;
};

[[nodiscard]] std::string qemu_snippet(const SnippetOptions& options);
[[nodiscard]] std::string libvirt_snippet(const SnippetOptions& options);

}  // namespace vmstore::cli
