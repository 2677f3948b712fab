// SPDX-License-Identifier: Apache-2.0
#include "base/result.h"

#include <stdexcept>

namespace vmstore {

void throw_exception_from_error(const Error& error, const boost::source_location& /*at*/) {
  throw std::runtime_error(to_string(error));
}

}  // namespace vmstore
