// SPDX-License-Identifier: Apache-2.0
// AlignedBuffer: memory for O_DIRECT files.
#pragma once

#include <cstdlib>
#include <memory>

#include "base/assert.h"
#include "base/bytes.h"

namespace vmstore::storaged {

/// Uninitialised bytes, 4 KiB aligned. OWNS: the memory.
class AlignedBuffer {
 public:
  static constexpr std::size_t kAlignment = 4096;
  AlignedBuffer() = default;
  /// REQUIRES: a multiple of kAlignment, above zero.
  explicit AlignedBuffer(std::size_t bytes)
      : memory_(static_cast<std::byte*>(std::aligned_alloc(kAlignment, bytes))), bytes_(bytes) {
    VMS_ASSERT(bytes > 0 && bytes % kAlignment == 0);
    VMS_ASSERT(memory_ != nullptr);
  }
  [[nodiscard]] std::size_t size() const noexcept { return bytes_; }
  [[nodiscard]] MutableBytes bytes() noexcept { return {memory_.get(), bytes_}; }

 private:
  struct Free {
    void operator()(std::byte* memory) const noexcept { std::free(memory); }
  };
  std::unique_ptr<std::byte, Free> memory_;
  std::size_t bytes_ = 0;
};

}  // namespace vmstore::storaged
