// SPDX-License-Identifier: Apache-2.0
// XXH3-64 (https://xxhash.com, seed 0) for integrity, SHA-256 (OpenSSL) for identity.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "base/bytes.h"

namespace vmstore {

/// XXH3-64 of the bytes. THREADS: any.
[[nodiscard]] std::uint64_t xxh3(ByteSpan bytes) noexcept;

/// XXH3-64 of the pieces as if they lay one behind the other. THREADS: any.
[[nodiscard]] std::uint64_t xxh3(std::span<const ByteSpan> pieces) noexcept;

/// The sum kept for a stored block: its XXH3-64, with 0 mapped to 1, because a sum of 0 means
/// "no block here".
[[nodiscard]] std::uint64_t block_sum(ByteSpan block) noexcept;

using Sha256 = std::array<std::byte, 32>;
/// SHA-256 of the bytes. THREADS: any.
[[nodiscard]] Sha256 sha256(ByteSpan bytes);

/// SHA-256 of bytes that come in pieces. THREADS: one at a time.
class Sha256Stream {
 public:
  Sha256Stream();
  ~Sha256Stream();
  Sha256Stream(const Sha256Stream&) = delete;
  Sha256Stream& operator=(const Sha256Stream&) = delete;
  void update(ByteSpan bytes);
  /// Of everything so far. REQUIRES: called once, last.
  [[nodiscard]] Sha256 finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// True if every byte is zero. THREADS: any.
[[nodiscard]] bool is_all_zero(ByteSpan bytes) noexcept;

}  // namespace vmstore
