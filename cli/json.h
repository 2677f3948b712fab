// SPDX-License-Identifier: Apache-2.0
// Boost.JSON as this folder uses it: parsing is bounded and never throws.
#pragma once

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace vmstore::cli {

namespace json = boost::json;

/// The object in `text`; empty when it is anything else, is nested deeper than 16 or has text after
/// it.
[[nodiscard]] std::optional<json::object> parse_json_object(std::string_view text);
/// Any JSON value, under the same rules.
[[nodiscard]] std::optional<json::value> parse_json(std::string_view text);

// Members by name; empty when missing or of another type.
[[nodiscard]] std::optional<std::string> json_text(const json::object& from, std::string_view name);
[[nodiscard]] std::optional<std::uint64_t> json_count(const json::object& from,
                                                      std::string_view name);
[[nodiscard]] bool json_flag(const json::object& from, std::string_view name);

}  // namespace vmstore::cli
