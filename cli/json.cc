// SPDX-License-Identifier: Apache-2.0
#include "cli/json.h"

#include <boost/json/parse.hpp>

namespace vmstore::cli {

std::optional<json::value> parse_json(std::string_view text) {
  json::error_code error;
  json::parse_options options;
  options.max_depth = 16;
  json::value value = json::parse(text, error, {}, options);
  if (error) return std::nullopt;
  return value;
}

std::optional<json::object> parse_json_object(std::string_view text) {
  std::optional<json::value> value = parse_json(text);
  if (!value || !value->is_object()) return std::nullopt;
  return std::move(value->get_object());
}

std::optional<std::string> json_text(const json::object& from, std::string_view name) {
  const json::value* member = from.if_contains(name);
  if (member == nullptr || !member->is_string()) return std::nullopt;
  return std::string(member->get_string());
}

std::optional<std::uint64_t> json_count(const json::object& from, std::string_view name) {
  const json::value* member = from.if_contains(name);
  if (member == nullptr) return std::nullopt;
  if (member->is_uint64()) return member->get_uint64();
  if (member->is_int64() && member->get_int64() >= 0) {
    return static_cast<std::uint64_t>(member->get_int64());
  }
  return std::nullopt;
}

bool json_flag(const json::object& from, std::string_view name) {
  const json::value* member = from.if_contains(name);
  return member != nullptr && member->is_bool() && member->get_bool();
}

}  // namespace vmstore::cli
