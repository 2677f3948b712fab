// SPDX-License-Identifier: Apache-2.0
// A checkpoint whose pages are kept in memory, for tests that place them themselves.
#pragma once

#include <deque>
#include <utility>

#include "base/assert.h"
#include "snapshot/index.h"

namespace vmstore::snapshot {

struct BuiltPages : Checkpoint {
  std::deque<NewPage> pages;
};

/// build_checkpoint() into memory.
[[nodiscard]] inline Task<Result<BuiltPages>> build_in_memory(PageSource& source,
                                                              Address top,
                                                              const RunMap& overlay,
                                                              std::uint64_t size_blocks,
                                                              bool collect_replaced) {
  struct Sink final : PageSink {
    std::deque<NewPage> pages;
    Task<Result<void>> add(NewPage page) override {
      pages.push_back(std::move(page));
      co_return success();
    }
  };
  Sink sink;
  BuiltPages built;
  VMS_CO_TRY(Checkpoint rest,
             co_await build_checkpoint(source, sink, top, overlay, size_blocks, collect_replaced));
  static_cast<Checkpoint&>(built) = std::move(rest);
  built.pages = std::move(sink.pages);
  VMS_ASSERT(built.pages.size() == built.page_count);
  co_return built;
}

}  // namespace vmstore::snapshot
