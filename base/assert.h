// SPDX-License-Identifier: Apache-2.0
// VMS_ASSERT: always on, for bugs of our own only. What a peer, a file, a user or a guest sends is
// answered with an Errc instead (I11).
#pragma once

namespace vmstore {
[[noreturn]] void assert_failed(const char* expression, const char* file, int line) noexcept;
}

#define VMS_ASSERT(condition) \
  ((condition) ? static_cast<void>(0) : ::vmstore::assert_failed(#condition, __FILE__, __LINE__))
