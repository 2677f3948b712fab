// SPDX-License-Identifier: Apache-2.0
// The code of a Result for EXPECT_EQ: `ok` for a value. error() of a value is a default Error,
// whose code is `unknown`: a test that expects `unknown` of error() holds for success, too.
#pragma once

#include "base/result.h"

namespace vmstore {

template <class T>
[[nodiscard]] Errc code_of(const Result<T>& result) {
  return result ? Errc::ok : result.error().code;
}

}  // namespace vmstore
