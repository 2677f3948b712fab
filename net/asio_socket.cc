// SPDX-License-Identifier: Apache-2.0
#include "net/asio_socket.h"

#include <sys/socket.h>

namespace vmstore::net {

void AsioSocket::State::close() noexcept {
  if (std::exchange(closed, true)) return;
  ::shutdown(fd, SHUT_RDWR);
  boost::system::error_code ignored;
  descriptor.close(ignored);  // runs the armed handlers, later, from the event loop
}

}  // namespace vmstore::net
