// SPDX-License-Identifier: Apache-2.0
// BlockRun: adjacent blocks of one key.
#pragma once

#include <cstdint>

#include "base/ids.h"

namespace vmstore::storaged {

struct BlockRun {
  BlockIndex first;
  std::uint64_t blocks = 0;
  friend bool operator==(const BlockRun&, const BlockRun&) = default;
};

}  // namespace vmstore::storaged
