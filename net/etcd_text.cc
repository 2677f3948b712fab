// SPDX-License-Identifier: Apache-2.0
#include "net/etcd_text.h"

#include <algorithm>
#include <array>
#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>
#include <charconv>
#include <optional>
#include <utility>

#include "base/assert.h"

namespace vmstore::net::etcd {
namespace {

namespace json = boost::json;

constexpr std::string_view kDigits =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::size_t kDepthMax = 16;  // an inner transaction's entry lies nine deep
constexpr std::size_t kWordsMax = 200;

/// The codes of gRPC that tell one thing from another here.
enum class Grpc : std::uint64_t {
  invalid_argument = 3,
  permission_denied = 7,
  resource_exhausted = 8,
  out_of_range = 11,
  unavailable = 14,
  unauthenticated = 16,
};

std::array<std::uint8_t, 256> make_values() {
  std::array<std::uint8_t, 256> values{};
  values.fill(0xff);
  for (std::size_t i = 0; i < kDigits.size(); ++i) {
    values[static_cast<unsigned char>(kDigits[i])] = static_cast<std::uint8_t>(i);
  }
  return values;
}

std::string member(std::string_view name, std::string_view bytes) {
  return '"' + std::string(name) + "\":\"" + encode_base64(bytes) + '"';
}

std::string number(std::string_view name, std::uint64_t value) {
  return '"' + std::string(name) + "\":\"" + std::to_string(value) + '"';
}

std::string joined(const std::vector<std::string>& parts) {
  std::string all;
  for (const std::string& part : parts) {
    if (!all.empty()) all += ',';
    all += part;
  }
  return all;
}

std::string range_members(const Range& range) {
  std::string text = member("key", range.key);
  if (!range.end.empty()) text += ',' + member("range_end", range.end);
  if (range.limit != 0) text += ',' + number("limit", range.limit);
  return text;
}

// ---- reading JSON: what is missing has its zero, as protobuf has it ----

std::optional<json::value> parse(std::string_view text) {
  json::error_code error;
  json::parse_options options;
  options.max_depth = kDepthMax;
  json::value value = json::parse(json::string_view(text.data(), text.size()), error, {}, options);
  if (error) return std::nullopt;
  return value;
}

const json::object* object_in(const json::object& from, std::string_view name) {
  const json::value* const found = from.if_contains(json::string_view(name.data(), name.size()));
  return found == nullptr ? nullptr : found->if_object();
}

/// Null: it is missing.
Result<const json::array*> array_in(const json::object& from, std::string_view name) {
  const json::value* const found = from.if_contains(json::string_view(name.data(), name.size()));
  if (found == nullptr || found->is_null()) return nullptr;
  if (!found->is_array()) return Errc::bad_frame;
  return found->if_array();
}

Result<std::uint64_t> number_in(const json::object& from, std::string_view name) {
  const json::value* const found = from.if_contains(json::string_view(name.data(), name.size()));
  if (found == nullptr) return 0;
  if (found->is_uint64()) return found->get_uint64();
  if (found->is_int64() && found->get_int64() >= 0) {
    return static_cast<std::uint64_t>(found->get_int64());
  }
  if (!found->is_string()) return Errc::bad_frame;
  const json::string& text = found->get_string();
  std::uint64_t value = 0;
  const char* const end = text.data() + text.size();
  const auto read = std::from_chars(text.data(), end, value);
  if (read.ec != std::errc() || read.ptr != end) return Errc::bad_frame;
  return value;
}

Result<bool> flag_in(const json::object& from, std::string_view name) {
  const json::value* const found = from.if_contains(json::string_view(name.data(), name.size()));
  if (found == nullptr) return false;
  if (!found->is_bool()) return Errc::bad_frame;
  return found->get_bool();
}

Result<std::string> text_in(const json::object& from, std::string_view name) {
  const json::value* const found = from.if_contains(json::string_view(name.data(), name.size()));
  if (found == nullptr) return std::string();
  if (!found->is_string()) return Errc::bad_frame;
  return std::string(found->get_string());
}

Result<std::string> bytes_in(const json::object& from, std::string_view name) {
  VMS_TRY(const std::string text, text_in(from, name));
  return decode_base64(text);
}

Result<Kv> read_kv(const json::value& value) {
  const json::object* const object = value.if_object();
  if (object == nullptr) return Errc::bad_frame;
  Kv kv;
  VMS_TRY(kv.key, bytes_in(*object, "key"));
  VMS_TRY(kv.value, bytes_in(*object, "value"));
  VMS_TRY(kv.mod_revision, number_in(*object, "mod_revision"));
  if (kv.key.empty()) return Errc::bad_frame;
  return kv;
}

Result<TxnReply> read_txn(const json::object& object);

Result<OpReply> read_op(const json::value& value) {
  const json::object* const object = value.if_object();
  if (object == nullptr) return Errc::bad_frame;
  OpReply op;
  if (const json::object* const range = object_in(*object, "response_range")) {
    VMS_TRY(op.more, flag_in(*range, "more"));
    VMS_TRY(const json::array* const kvs, array_in(*range, "kvs"));
    if (kvs == nullptr) return op;
    for (const json::value& each : *kvs) {
      VMS_TRY(auto kv, read_kv(each));
      op.kvs.push_back(std::move(kv));
    }
  } else if (const json::object* const txn = object_in(*object, "response_txn")) {
    VMS_TRY(auto inner, read_txn(*txn));
    op.txn.push_back(std::move(inner));
  }
  return op;
}

Result<TxnReply> read_txn(const json::object& object) {
  TxnReply reply;
  if (const json::object* const header = object_in(object, "header")) {
    VMS_TRY(reply.revision, number_in(*header, "revision"));
  }
  VMS_TRY(reply.succeeded, flag_in(object, "succeeded"));
  VMS_TRY(const json::array* const responses, array_in(object, "responses"));
  if (responses == nullptr) return reply;
  for (const json::value& each : *responses) {
    VMS_TRY(auto op, read_op(each));
    reply.ops.push_back(std::move(op));
  }
  return reply;
}

Result<void> read_changes(const json::object& result, WatchReply& reply) {
  VMS_TRY(const json::array* const events, array_in(result, "events"));
  if (events == nullptr) return success();
  for (const json::value& each : *events) {
    const json::object* const event = each.if_object();
    const json::value* const kv = event == nullptr ? nullptr : event->if_contains("kv");
    if (kv == nullptr) return Errc::bad_frame;
    WatchReply::Change change;
    VMS_TRY(change.kv, read_kv(*kv));
    VMS_TRY(const std::string type, text_in(*event, "type"));
    if (type != "" && type != "PUT" && type != "DELETE") return Errc::bad_frame;
    change.removed = type == "DELETE";
    reply.changes.push_back(std::move(change));
  }
  return success();
}

Error meaning(Grpc code, std::string_view words, bool changes) {
  const auto says = [words](std::string_view part) {
    return words.find(part) != std::string_view::npos;
  };
  switch (code) {
    case Grpc::out_of_range:
      return says("compacted") ? Errc::compacted : Errc::unknown;
    case Grpc::invalid_argument:
      return Errc::invalid_argument;
    case Grpc::permission_denied:
    case Grpc::unauthenticated:
      return Errc::permission;
    case Grpc::resource_exhausted:
      if (says("database space exceeded")) return Errc::no_space;
      return changes ? Errc::unknown : Errc::unavailable;
    case Grpc::unavailable:
      return changes ? Errc::unknown : Errc::unavailable;
  }
  return Errc::unknown;
}

}  // namespace

std::string encode_base64(std::string_view bytes) {
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  const auto at = [bytes](std::size_t i) -> unsigned {
    return i < bytes.size() ? static_cast<unsigned char>(bytes[i]) : 0U;
  };
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const unsigned group = at(i) << 16 | at(i + 1) << 8 | at(i + 2);
    text += kDigits[group >> 18];
    text += kDigits[group >> 12 & 63];
    text += i + 1 < bytes.size() ? kDigits[group >> 6 & 63] : '=';
    text += i + 2 < bytes.size() ? kDigits[group & 63] : '=';
  }
  return text;
}

Result<std::string> decode_base64(std::string_view text) {
  static const std::array<std::uint8_t, 256> values = make_values();
  constexpr unsigned kNone = 0xff;
  if (text.size() % 4 != 0) return Errc::bad_frame;
  std::size_t padding = 0;
  while (padding < 2 && padding < text.size() && text[text.size() - 1 - padding] == '=') ++padding;
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3);
  for (std::size_t i = 0; i < text.size(); i += 4) {
    unsigned group = 0;
    for (std::size_t k = 0; k < 4; ++k) {
      const bool padded = i + k >= text.size() - padding;
      const unsigned value = padded ? 0U : values[static_cast<unsigned char>(text[i + k])];
      if (value == kNone) return Errc::bad_frame;
      group = group << 6 | value;
    }
    bytes += static_cast<char>(group >> 16);
    bytes += static_cast<char>(group >> 8 & 0xff);
    bytes += static_cast<char>(group & 0xff);
  }
  bytes.resize(bytes.size() - padding);
  return bytes;
}

std::string prefix_end(std::string prefix) {
  while (!prefix.empty() && prefix.back() == '\xff') prefix.pop_back();
  VMS_ASSERT(!prefix.empty());
  prefix.back() = static_cast<char>(static_cast<unsigned char>(prefix.back()) + 1);
  return prefix;
}

std::string put_op(std::string_view key, std::string_view value) {
  return R"({"request_put":{)" + member("key", key) + ',' + member("value", value) + "}}";
}

std::string remove_op(std::string_view key) {
  return R"({"request_delete_range":{)" + member("key", key) + "}}";
}

std::string remove_range_op(std::string_view key, std::string_view end) {
  return R"({"request_delete_range":{)" + member("key", key) + ',' + member("range_end", end) +
         "}}";
}

std::string range_op(const Range& range) {
  std::string text = R"({"request_range":{)" + range_members(range);
  if (range.revision != 0) text += ',' + number("revision", range.revision);
  return text + "}}";
}

std::string txn_op(const std::string& txn) {
  return R"({"request_txn":)" + txn + '}';
}

std::string value_is(std::string_view key, std::string_view value) {
  return '{' + member("key", key) + R"(,"target":"VALUE","result":"EQUAL",)" +
         member("value", value) + '}';
}

std::string revision_is(std::string_view key, std::uint64_t revision) {
  return '{' + member("key", key) + R"(,"target":"MOD","result":"EQUAL",)" +
         number("mod_revision", revision) + '}';
}

std::string is_absent(std::string_view key) {
  return '{' + member("key", key) + R"(,"target":"CREATE","result":"EQUAL","create_revision":"0"})";
}

std::string none_between(std::string_view key, std::string_view end) {
  return '{' + member("key", key) + ',' + member("range_end", end) +
         R"(,"target":"CREATE","result":"EQUAL","create_revision":"0"})";
}

std::string is_there(std::string_view key) {
  return '{' + member("key", key) +
         R"(,"target":"CREATE","result":"GREATER","create_revision":"0"})";
}

std::string txn_text(const TxnText& txn) {
  return R"({"compare":[)" + joined(txn.compares) + R"(],"success":[)" + joined(txn.success) +
         R"(],"failure":[)" + joined(txn.failure) + "]}";
}

std::string watch_text(const Range& range) {
  return R"({"create_request":{)" + range_members(range) + ',' +
         number("start_revision", range.revision) + R"(,"fragment":true}})";
}

Result<TxnReply> parse_txn_reply(std::string_view text) {
  const auto value = parse(text);
  const json::object* const object = value ? value->if_object() : nullptr;
  if (object == nullptr || object_in(*object, "header") == nullptr) return Errc::bad_frame;
  return read_txn(*object);
}

Result<WatchReply> parse_watch_reply(std::string_view line) {
  const auto value = parse(line);
  const json::object* const object = value ? value->if_object() : nullptr;
  if (object == nullptr) return Errc::bad_frame;
  WatchReply reply;
  if (const json::object* const error = object_in(*object, "error")) {
    reply.canceled = true;
    VMS_TRY(reply.reason, text_in(*error, "message"));
    return reply;
  }
  const json::object* const result = object_in(*object, "result");
  if (result == nullptr) return Errc::bad_frame;
  VMS_TRY(reply.created, flag_in(*result, "created"));
  VMS_TRY(reply.canceled, flag_in(*result, "canceled"));
  VMS_TRY(reply.fragment, flag_in(*result, "fragment"));
  VMS_TRY(reply.compact_revision, number_in(*result, "compact_revision"));
  VMS_TRY(reply.reason, text_in(*result, "cancel_reason"));
  VMS_CHECK(read_changes(*result, reply));
  return reply;
}

Refusal parse_refusal(std::string_view body, bool changes) {
  Refusal refusal;
  refusal.error = Errc::unknown;
  refusal.text = std::string(body.substr(0, kWordsMax));
  const auto value = parse(body);
  const json::object* const object = value ? value->if_object() : nullptr;
  if (object == nullptr) return refusal;
  const auto words = text_in(*object, "message");
  const auto code = number_in(*object, "code");
  if (!words || !code) return refusal;
  refusal.text = words->substr(0, kWordsMax);
  refusal.error = meaning(static_cast<Grpc>(*code), *words, changes);
  refusal.elsewhere = refusal.error == Errc::unavailable;
  return refusal;
}

}  // namespace vmstore::net::etcd
