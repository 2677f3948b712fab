// SPDX-License-Identifier: Apache-2.0
#include "storaged/descriptors.h"

#include <sys/resource.h>

#include <algorithm>

namespace vmstore::storaged {
namespace {

constexpr std::uint64_t kOpenKeysMost = 512;
constexpr std::uint64_t kOpenKeysLeast = 4;
constexpr std::uint64_t kDescriptorsPerKey = 8;  // four, and as much for those not yet synced

}  // namespace

std::uint64_t raise_descriptor_limit() noexcept {
  struct rlimit limit {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  const rlim_t before = limit.rlim_cur;
  limit.rlim_cur = limit.rlim_max;
  return ::setrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : before;
}

std::size_t open_keys_for(std::uint64_t descriptors) noexcept {
  const std::uint64_t for_keys = descriptors - descriptors / 4;
  return std::clamp(for_keys / kDescriptorsPerKey, kOpenKeysLeast, kOpenKeysMost);
}

}  // namespace vmstore::storaged
