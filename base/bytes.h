// SPDX-License-Identifier: Apache-2.0
// Cursor codec for disk and wire formats: little-endian, field by field, bounds checked.
// A struct is never copied to or from a file as it lies in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/result.h"

namespace vmstore {

using ByteSpan = std::span<const std::byte>;
using MutableBytes = std::span<std::byte>;

[[nodiscard]] inline ByteSpan as_byte_span(std::string_view text) noexcept {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}
[[nodiscard]] inline std::string_view as_text(ByteSpan bytes) noexcept {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Appends fields to a byte vector.
class ByteWriter {
 public:
  template <class T>
  requires std::is_unsigned_v<T> ByteWriter& put(T value) {
    for (std::size_t i = 0; i < sizeof(T); ++i) {
      bytes_.push_back(static_cast<std::byte>((std::uint64_t{value} >> (8 * i)) & 0xffU));
    }
    return *this;
  }
  ByteWriter& put_bytes(ByteSpan bytes) {
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    return *this;
  }
  ByteWriter& put_zeros(std::size_t count) {
    bytes_.resize(bytes_.size() + count);
    return *this;
  }
  /// Overwrites a field written before, for lengths and checksums. REQUIRES: it is there.
  template <class T>
  requires std::is_unsigned_v<T>
  void patch(std::size_t position, T value) {
    for (std::size_t i = 0; i < sizeof(T); ++i) {
      bytes_.at(position + i) = static_cast<std::byte>((std::uint64_t{value} >> (8 * i)) & 0xffU);
    }
  }
  [[nodiscard]] std::size_t size() const noexcept { return bytes_.size(); }
  [[nodiscard]] ByteSpan bytes() const noexcept { return bytes_; }
  [[nodiscard]] std::vector<std::byte> take() noexcept { return std::move(bytes_); }
  void reserve(std::size_t count) { bytes_.reserve(count); }

 private:
  std::vector<std::byte> bytes_;
};

/// Reads fields from a span. After the first short read every value is zero and ok() is false, so a
/// decoder reads all its fields and asks once.
class ByteReader {
 public:
  explicit ByteReader(ByteSpan bytes) noexcept : rest_(bytes) {}
  template <class T>
  requires std::is_unsigned_v<T>
  [[nodiscard]] T get() noexcept {
    if (rest_.size() < sizeof(T)) {
      fail();
      return 0;
    }
    T value = 0;
    for (std::size_t i = 0; i < sizeof(T); ++i) {
      value = static_cast<T>(value |
                             (static_cast<T>(std::to_integer<std::uint8_t>(rest_[i])) << (8 * i)));
    }
    rest_ = rest_.subspan(sizeof(T));
    return value;
  }
  [[nodiscard]] ByteSpan get_bytes(std::size_t count) noexcept {
    if (rest_.size() < count) {
      fail();
      return {};
    }
    const ByteSpan taken = rest_.first(count);
    rest_ = rest_.subspan(count);
    return taken;
  }
  void skip(std::size_t count) noexcept { static_cast<void>(get_bytes(count)); }
  [[nodiscard]] bool ok() const noexcept { return ok_; }
  [[nodiscard]] std::size_t remaining() const noexcept { return rest_.size(); }
  [[nodiscard]] ByteSpan rest() const noexcept { return rest_; }

 private:
  void fail() noexcept {
    ok_ = false;
    rest_ = {};
  }
  ByteSpan rest_;
  bool ok_ = true;
};

}  // namespace vmstore
