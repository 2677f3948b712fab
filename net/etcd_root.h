// SPDX-License-Identifier: Apache-2.0
// The entries of an etcd that say whether a catalogue is there, and how one gets there.
//
// A catalogue is made in steps: kMakingKey says that it is not complete, the entries are put, then
// one transaction puts the head and removes kMakingKey. What was cut short before is no catalogue,
// and is removed by the next attempt.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"
#include "base/task.h"
#include "meta/catalogue_log_format.h"
#include "net/etcd_calls.h"
#include "net/etcd_catalogue.h"

namespace vmstore::net {

struct EtcdRoot {
  std::optional<std::string> head;
  std::uint64_t head_at = 0;  // etcd's revision of it
  std::optional<std::string> making;
};

/// What is there now, never stale.
[[nodiscard]] Task<Result<EtcdRoot>> read_etcd_root(EtcdCalls& calls);

/// Makes an empty catalogue. `exists`: something of a catalogue is there already. An answer that
/// was lost is looked for: repeating the call with the same head is no error.
[[nodiscard]] Task<Result<void>> make_etcd_catalogue(EtcdCalls& calls, etcd::Head head);

/// Makes a catalogue with the entries of `image`, whose revisions are etcd's own afterwards, the
/// newest of them head.base. `instead_of`: the head that is replaced, with all its entries; empty:
/// none is there. `exists`: another head is there, or another catalogue is being made. It may be
/// repeated with the same head, wherever it was cut short.
[[nodiscard]] Task<Result<void>> fill_etcd_catalogue(EtcdCalls& calls,
                                                     etcd::Head head,
                                                     const meta::Image& image,
                                                     std::optional<std::string> instead_of);

}  // namespace vmstore::net
