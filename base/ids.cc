// SPDX-License-Identifier: Apache-2.0
#include "base/ids.h"

#include <charconv>

namespace vmstore {
namespace {

std::string hex_digits(std::uint64_t value, std::size_t digits) {
  static constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text(digits, '0');
  for (std::size_t i = digits; i-- > 0; value >>= 4) text[i] = kDigits[value & 0xfU];
  return text;
}

std::optional<std::uint64_t> parse_hex16(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

std::string KeyId::hex() const {
  return hex_digits(value_, 9);
}

template <class Tag>
std::string Id128<Tag>::hex() const {
  return hex_digits(high, 16) + hex_digits(low, 16);
}

template <class Tag>
std::optional<Id128<Tag>> Id128<Tag>::parse(std::string_view text) {
  if (text.size() != 32) return std::nullopt;
  const auto high = parse_hex16(text.substr(0, 16));
  const auto low = parse_hex16(text.substr(16));
  if (!high || !low) return std::nullopt;
  return Id128{*high, *low};
}

template struct Id128<DiskIdTag>;
template struct Id128<StoreIdTag>;
template struct Id128<SnapshotIdTag>;
template struct Id128<NodeIdTag>;
template struct Id128<IncarnationTag>;
template struct Id128<BootIdTag>;

}  // namespace vmstore
