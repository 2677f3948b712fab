// SPDX-License-Identifier: Apache-2.0
// MakeRoom: how the catalogue asks for space on the file system it writes to.
#pragma once

#include <functional>

namespace vmstore::meta {

/// Called on a worker, at times on two at once, before something is written; blocks. With `failed`
/// a write found no room just now, whatever the file system says of itself. Empty: nobody can help.
using MakeRoom = std::function<void(bool failed)>;

inline void ask_for_room(const MakeRoom& make_room, bool failed) {
  if (make_room) make_room(failed);
}

}  // namespace vmstore::meta
