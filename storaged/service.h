// SPDX-License-Identifier: Apache-2.0
// The verbs of a node, one file each: service_key.cc, service_meta.cc, service_disk.cc,
// service_node.cc.
//
// Invariants: every number of a request is checked against limits.h or its own type before it is
// used; an answer says what is durable now, never what is hoped for; the key_append of one
// connection reach the store in the order they came, because nothing is awaited before it.
#pragma once

#include <string>

#include "base/result.h"
#include "base/task.h"
#include "net/rpc_peer.h"
#include "wire/frame.h"
#include "wire/messages.h"

namespace vmstore::storaged {

class Node;
class Session;

/// Each answers `unsupported` for an opcode that is not its own.
[[nodiscard]] Task<net::Answer> serve_key(Node& node, Session& session, wire::Frame request);
[[nodiscard]] Task<net::Answer> serve_meta(Node& node, Session& session, wire::Frame request);
[[nodiscard]] Task<net::Answer> serve_disk(Node& node, Session& session, wire::Frame request);
[[nodiscard]] Task<net::Answer> serve_node(Node& node, Session& session, wire::Frame request);

[[nodiscard]] net::Answer refuse(Error error);
/// The same as a task, for a verb that has nothing to wait for.
[[nodiscard]] Task<net::Answer> refused(Error error);

/// The answer that carries `reply`.
template <class Message>
[[nodiscard]] net::Answer answer_with(const Message& reply) {
  net::Answer answer;
  answer.control = wire::serialize(reply);
  return answer;
}

}  // namespace vmstore::storaged

#define VMS_ANSWER_TRY_IMPL(tmp, decl, ...)                     \
  auto tmp = __VA_ARGS__;                                       \
  if (!tmp) co_return ::vmstore::storaged::refuse(tmp.error()); \
  decl = std::move(*tmp)
/// VMS_ANSWER_TRY(auto x, f()): VMS_CO_TRY for a coroutine that returns net::Answer.
#define VMS_ANSWER_TRY(decl, ...) \
  VMS_ANSWER_TRY_IMPL(VMS_CONCAT(answer_, __LINE__), decl, __VA_ARGS__)
/// The same for a Result whose value is not needed.
#define VMS_ANSWER_CHECK(...)                                                       \
  do {                                                                              \
    const auto answer_check = __VA_ARGS__;                                          \
    if (!answer_check) co_return ::vmstore::storaged::refuse(answer_check.error()); \
  } while (false)
