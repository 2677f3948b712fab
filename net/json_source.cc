// SPDX-License-Identifier: Apache-2.0
// The one place where Boost.JSON's source is compiled: nothing of Boost is linked.
#include <boost/json/src.hpp>
