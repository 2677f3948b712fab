// SPDX-License-Identifier: Apache-2.0
// node ls: the nodes of the store.
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "base/ids.h"
#include "cli/verbs.h"

namespace vmstore::cli {
namespace {

Cell text_or_unknown(const std::string& text) {
  return text.empty() ? Cell() : Cell(text);
}

/// A figure of a node that did not answer is unknown.
Cell figure(const disk::NodeSummary& node, std::uint64_t disk::NodeStatus::*which) {
  return node.status ? Cell((*node.status).*which) : Cell();
}

Answer<void> list(Context& context) {
  VMS_TRY(disk::Client * client, context.client());
  VMS_TRY(const std::vector<disk::NodeSummary> nodes, about(client->nodes(), context.endpoint()));
  Table table{"nodes",
              {{"address"},
               {"state"},
               {"zone"},
               {"weight", CellKind::count},
               {"used", CellKind::bytes},
               {"free", CellKind::bytes},
               {"total", CellKind::bytes, false},
               {"keys", CellKind::count, false},
               {"home", CellKind::yes_no, false},
               {"certificate", CellKind::text, false},
               {"version", CellKind::text, false},
               {"id"}},
              {}};
  for (const disk::NodeSummary& node : nodes) {
    table.rows.push_back({text_or_unknown(node.address),
                          std::string(node.up ? "up" : "down"),
                          text_or_unknown(node.zone),
                          std::uint64_t{node.weight},
                          figure(node, &disk::NodeStatus::used_bytes),
                          figure(node, &disk::NodeStatus::free_bytes),
                          figure(node, &disk::NodeStatus::total_bytes),
                          figure(node, &disk::NodeStatus::key_count),
                          node.home,
                          text_or_unknown(node.certificate),
                          node.status ? text_or_unknown(node.status->version) : Cell(),
                          node.id.hex()});
  }
  return context.output().print({std::move(table)});
}

}  // namespace

void add_node_verbs(VerbBook& book) {
  const VerbBook::Text about_group{
      "The nodes of the store", "node ls", "node ls --json | jq '.nodes[] | .state'"};
  CLI::App& group = book.group("node", about_group);
  CLI::App& ls = book.verb(group,
                           "ls",
                           {"Lists the nodes: where, up or down, zone, weight, space.",
                            "node ls",
                            "node ls -o address,state -H"});
  book.action(ls, [](Context& context) { return list(context); });
}

}  // namespace vmstore::cli
