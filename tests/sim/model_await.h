// SPDX-License-Identifier: Apache-2.0
// Model::await, shared by the model_*.cc files.
#pragma once

#include <memory>
#include <optional>
#include <utility>

#include "tests/sim/model.h"

namespace vmstore::sim {

/// Empty when the client died or the run failed meanwhile; the dead process is then cleared away
/// here, because its task refers to objects of the caller.
template <class T>
std::optional<T> Model::await(Task<T> task, const char* what) {
  Running<T> running(host_.process(), std::move(task));
  if (drive([&running] { return running.ended(); }, what)) return std::move(running.outcome());
  host_.process().kill();
  return std::nullopt;
}

}  // namespace vmstore::sim
