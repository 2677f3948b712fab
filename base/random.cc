// SPDX-License-Identifier: Apache-2.0
#include "base/random.h"

#include <sys/random.h>

namespace vmstore {

std::uint64_t system_seed() {
  std::uint64_t seed = 0;
  const auto got = ::getrandom(&seed, sizeof seed, 0);
  VMS_ASSERT(got == static_cast<ssize_t>(sizeof seed));
  return seed;
}

}  // namespace vmstore
