// SPDX-License-Identifier: Apache-2.0
// What is said to etcd's JSON gateway (v3) and what it answers. Pure: no socket, no state.
//
// Invariants: whatever the bytes of an answer, they become a value or an error: `bad_frame` for
// what no etcd says. Numbers of answers are what etcd says, still to be checked for sense.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace vmstore::net::etcd {

[[nodiscard]] std::string encode_base64(std::string_view bytes);
[[nodiscard]] Result<std::string> decode_base64(std::string_view text);

/// The first key behind all that begin with `prefix`. REQUIRES: some byte of it is not 0xff.
[[nodiscard]] std::string prefix_end(std::string prefix);

// ---- requests; keys are etcd's ----

struct Range {
  std::string key;
  std::string end;  // empty: the one key
  std::uint32_t limit = 0;
  std::uint64_t revision = 0;
};

[[nodiscard]] std::string put_op(std::string_view key, std::string_view value);
[[nodiscard]] std::string remove_op(std::string_view key);
[[nodiscard]] std::string remove_range_op(std::string_view key, std::string_view end);
[[nodiscard]] std::string range_op(const Range& range);
/// A transaction inside another one.
[[nodiscard]] std::string txn_op(const std::string& txn);

[[nodiscard]] std::string value_is(std::string_view key, std::string_view value);
[[nodiscard]] std::string revision_is(std::string_view key, std::uint64_t revision);
[[nodiscard]] std::string is_absent(std::string_view key);
[[nodiscard]] std::string is_there(std::string_view key);
[[nodiscard]] std::string none_between(std::string_view key, std::string_view end);

struct TxnText {
  std::vector<std::string> compares;
  std::vector<std::string> success;
  std::vector<std::string> failure;
};
[[nodiscard]] std::string txn_text(const TxnText& txn);
[[nodiscard]] std::string watch_text(const Range& range);

// ---- answers ----

struct Kv {
  std::string key;
  std::string value;
  std::uint64_t mod_revision = 0;
};

struct TxnReply;
/// The answer to one operation: of a range its entries, of an inner transaction its reply.
struct OpReply {
  std::vector<Kv> kvs;
  bool more = false;
  std::vector<TxnReply> txn;  // one, or none
};
struct TxnReply {
  bool succeeded = false;
  std::uint64_t revision = 0;
  std::vector<OpReply> ops;
};
[[nodiscard]] Result<TxnReply> parse_txn_reply(std::string_view text);

struct WatchReply {
  struct Change {
    Kv kv;
    bool removed = false;
  };
  bool created = false;
  bool canceled = false;
  bool fragment = false;               // more of the same revision comes
  std::uint64_t compact_revision = 0;  // of a watch that was canceled for it
  std::string reason;                  // of a cancellation or error, for people
  std::vector<Change> changes;         // in the order of revisions
};
[[nodiscard]] Result<WatchReply> parse_watch_reply(std::string_view line);

/// What an answer other than 200 means. `changes`: the request could have changed something, so
/// "it failed" is only said if that is certain. Never `ok`.
struct Refusal {
  Error error;
  bool elsewhere = false;  // another member may answer
  std::string text;        // etcd's words, shortened
};
[[nodiscard]] Refusal parse_refusal(std::string_view body, bool changes);

}  // namespace vmstore::net::etcd
