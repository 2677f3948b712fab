// SPDX-License-Identifier: Apache-2.0
#include "net/tls_listener.h"

#include <deque>
#include <list>
#include <utility>

#include "base/log.h"
#include "base/sync.h"
#include "net/asio_transport.h"
#include "net/tls_connection.h"

namespace vmstore::net {
namespace {
constexpr Duration kAcceptPause = 100ms;  // when the system is out of something
}

struct TlsListener::State {
  using Ptr = std::shared_ptr<State>;
  State(IoThread& thread,
        std::unique_ptr<AsioListener> listener,
        std::shared_ptr<const TlsContext> given)
      : io(thread), sockets(std::move(listener)), context(std::move(given)), changed(thread) {}

  static Task<void> take_sockets(Ptr state);
  static Task<void> shake_hands(Ptr state, int fd);

  IoThread& io;
  std::unique_ptr<AsioListener> sockets;
  std::shared_ptr<const TlsContext> context;
  Event changed;                                  // of what follows
  std::deque<std::unique_ptr<Connection>> ready;  // to be accepted
  std::list<TlsConnection*> shaking;              // the oldest first
  bool begun = false;
  bool closed = false;
};

TlsListener::TlsListener(std::shared_ptr<State> state) : state_(std::move(state)) {}

TlsListener::~TlsListener() {
  close();
}

Result<std::unique_ptr<TlsListener>> TlsListener::listen(
    IoThread& io, const Endpoint& endpoint, std::shared_ptr<const TlsContext> context) {
  ListenOptions options;
  options.reach = Reach::everywhere;
  VMS_TRY(auto sockets, AsioListener::listen(io, endpoint, options));
  auto state = std::make_shared<State>(io, std::move(sockets), std::move(context));
  return std::unique_ptr<TlsListener>(new TlsListener(std::move(state)));
}

Task<void> TlsListener::State::take_sockets(Ptr state) {
  while (!state->closed) {
    const auto fd = co_await state->sockets->accept_socket();
    if (!fd) {
      if (fd.error() == Errc::closing) break;
      VMS_LOG(warning, "tls", "accept: " << to_string(fd.error()));
      co_await sleep_for(state->io, kAcceptPause);
      continue;
    }
    while (state->shaking.size() >= kHandshakesMax && !state->closed) {
      state->shaking.front()->close();  // its task ends soon: no peer has a say in that
      static_cast<void>(co_await state->changed.wait_pulse());
    }
    state->io.spawn(shake_hands(state, *fd));
  }
}

Task<void> TlsListener::State::shake_hands(Ptr state, int fd) {
  /// Among those under way while it lives.
  class Place {
   public:
    Place(State& owner, TlsConnection* each)
        : state_(owner), place_(owner.shaking.insert(owner.shaking.end(), each)) {}
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;
    ~Place() {
      state_.shaking.erase(place_);
      state_.changed.pulse();
    }

   private:
    State& state_;
    std::list<TlsConnection*>::iterator place_;
  };
  AsioSocket socket = tuned_socket(state->io, fd);
  if (state->closed) co_return;
  auto session = TlsSession::accepting(state->context);
  auto connection = std::make_unique<TlsConnection>(std::move(socket), std::move(session));
  {
    const Place place(*state, connection.get());
    const auto shaken = co_await connection->handshake();
    if (!shaken) {
      const std::string& problem = connection->problem();
      const std::string why = problem.empty() ? to_string(shaken.error()) : problem;
      // Somebody with a certificate wants help; anybody may send garbage as often as they like.
      if (shaken.error() == Errc::permission) {
        VMS_LOG(info, "tls", "a peer was turned away: " << why);
      } else {
        VMS_LOG(debug, "tls", "a handshake ended: " << why);
      }
      co_await connection->bid_farewell();
      co_return;
    }
  }
  if (state->closed) co_return;
  state->ready.push_back(std::move(connection));
  state->changed.pulse();
}

Task<Result<std::unique_ptr<Connection>>> TlsListener::accept() {
  const std::shared_ptr<State> state = state_;
  if (!std::exchange(state->begun, true)) state->io.spawn(State::take_sockets(state));
  while (state->ready.empty()) {
    if (state->closed) co_return Errc::closing;
    static_cast<void>(co_await state->changed.wait_pulse());
  }
  std::unique_ptr<Connection> connection = std::move(state->ready.front());
  state->ready.pop_front();
  co_return connection;
}

void TlsListener::close() noexcept {
  State& state = *state_;
  state.sockets->close();
  state.closed = true;
  for (TlsConnection* const each : state.shaking) each->close();
  state.ready.clear();
  state.changed.pulse();
}

const Endpoint& TlsListener::endpoint() const noexcept {
  return state_->sockets->endpoint();
}

}  // namespace vmstore::net
