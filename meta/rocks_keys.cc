// SPDX-License-Identifier: Apache-2.0
#include "meta/rocks_keys.h"

#include "base/bytes.h"

namespace vmstore::meta::rocks {
namespace {

constexpr char kVersions = 'k';
constexpr char kChanges = 'r';
constexpr char kPut = '\1';
constexpr char kRemoved = '\0';
constexpr std::size_t kNumberBytes = 8;

std::string big_endian(std::uint64_t number) {
  std::string bytes(kNumberBytes, '\0');
  for (std::size_t i = 0; i < kNumberBytes; ++i) {
    bytes[i] = static_cast<char>(number >> (8 * (kNumberBytes - 1 - i)) & 0xffU);
  }
  return bytes;
}

std::uint64_t from_big_endian(std::string_view bytes) {
  std::uint64_t number = 0;
  for (const char byte : bytes) number = number << 8 | static_cast<unsigned char>(byte);
  return number;
}

}  // namespace

std::string version_row(std::string_view key, std::uint64_t revision) {
  return kVersions + std::string(key) + '\0' + big_endian(~revision);
}

Result<Row> parse_version_row(std::string_view name) {
  constexpr std::size_t kAround = 1 + 1 + kNumberBytes;
  if (name.size() <= kAround || name.front() != kVersions) return Errc::corrupt;
  const std::string_view key = name.substr(1, name.size() - kAround);
  if (name[1 + key.size()] != '\0') return Errc::corrupt;
  return Row{key, ~from_big_endian(name.substr(name.size() - kNumberBytes))};
}

std::string end_of_versions(std::string_view key) {
  return kVersions + std::string(key) + '\1';
}

std::string first_row(std::string_view prefix) {
  return kVersions + std::string(prefix);
}

std::string end_of_prefix(std::string_view prefix) {
  std::string end = first_row(prefix);
  while (end.back() == '\xff') end.pop_back();  // ends at kVersions at the latest
  end.back() = static_cast<char>(end.back() + 1);
  return end;
}

std::string change_row(std::uint64_t revision, std::string_view key) {
  return (kChanges + big_endian(revision)).append(key);
}

Result<Row> parse_change_row(std::string_view name) {
  if (name.size() <= 1 + kNumberBytes || name.front() != kChanges) return Errc::corrupt;
  return Row{name.substr(1 + kNumberBytes), from_big_endian(name.substr(1, kNumberBytes))};
}

std::string end_of_changes(std::uint64_t revision) {
  return change_row(revision + 1, "");
}

std::string put_value(std::string_view value) {
  return kPut + std::string(value);
}

std::string removed_value() {
  return std::string(1, kRemoved);
}

Result<std::optional<std::string>> parse_value(std::string_view bytes) {
  if (!bytes.empty() && bytes.front() == kPut) {
    return std::optional<std::string>(std::string(bytes.substr(1)));
  }
  if (bytes.size() == 1 && bytes.front() == kRemoved) return std::optional<std::string>();
  return Errc::corrupt;
}

std::string encode_number(std::uint64_t number) {
  ByteWriter writer;
  writer.put(number);
  return std::string(as_text(writer.bytes()));
}

Result<std::uint64_t> decode_number(std::string_view bytes) {
  ByteReader reader(as_byte_span(bytes));
  const auto number = reader.get<std::uint64_t>();
  if (!reader.ok() || reader.remaining() != 0) return Errc::corrupt;
  return number;
}

}  // namespace vmstore::meta::rocks
