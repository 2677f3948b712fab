// SPDX-License-Identifier: Apache-2.0
// node_status, gc_run.
#include <utility>

#include "storaged/node.h"
#include "storaged/service.h"
#include "storaged/session.h"
#include "wire/vmstore.pb.h"

namespace vmstore::storaged {
namespace {

Task<net::Answer> status(Node& node, wire::Frame request) {
  VMS_ANSWER_CHECK(wire::parse<pb::NodeStatusRequest>(request.control));
  const pb::NodeStatusReply reply = co_await node.status();
  co_return answer_with(reply);
}

Task<net::Answer> collect(Node& node, wire::Frame request) {
  VMS_ANSWER_TRY(const auto message, wire::parse<pb::GcRunRequest>(request.control));
  VMS_ANSWER_TRY(const GcReport report, co_await node.collect(message.dry_run()));
  pb::GcRunReply reply;
  reply.set_round(report.round);
  reply.set_keys_deleted(report.keys_deleted);
  reply.set_blocks_punched(report.blocks_punched);
  reply.set_bytes_freed(report.bytes_freed);
  reply.set_blocks_live(report.blocks_live);
  reply.set_pages_visited(report.pages_visited);
  co_return answer_with(reply);
}

}  // namespace

net::Answer refuse(Error error) {
  net::Answer answer;
  answer.status = error.code == Errc::ok ? Errc::unknown : error.code;
  return answer;
}

Task<net::Answer> refused(Error error) {
  co_return refuse(error);
}

Task<net::Answer> serve_node(Node& node, Session& /*session*/, wire::Frame request) {
  switch (request.header.opcode) {
    case wire::Opcode::node_status:
      return status(node, std::move(request));
    case wire::Opcode::gc_run:
      return collect(node, std::move(request));
    default:
      return refused(Errc::unsupported);
  }
}

}  // namespace vmstore::storaged
