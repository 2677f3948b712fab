// SPDX-License-Identifier: Apache-2.0
// What `vmstore up` of this run folder serves must not be taken away below it.
#pragma once

#include <string>

#include "cli/context.h"
#include "cli/failure.h"

namespace vmstore::cli {

/// `busy` when `vmstore up` of this run folder has `reference`, a disk or a snapshot, attached, or
/// a snapshot of that disk. No supervisor there means no: others are found by the disk's own
/// ownership.
[[nodiscard]] Answer<void> refuse_attached(Context& context, const std::string& reference);

}  // namespace vmstore::cli
