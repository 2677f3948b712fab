// SPDX-License-Identifier: Apache-2.0
#include "storaged/http.h"

#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <charconv>
#include <thread>
#include <utility>

#include "base/log.h"

namespace vmstore::storaged {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;

constexpr std::uint32_t kHeaderBytesMax = 8 * 1024;
constexpr std::chrono::seconds kRequestTime{5};
constexpr int kConnectionsAtOnceMax = 32;
constexpr std::string_view kUnixPrefix = "unix:";

using Request = http::request<http::empty_body>;
using Response = http::response<http::string_body>;

Response page(const HttpPages& pages, const Request& request) {
  Response response{http::status::ok, request.version()};
  response.keep_alive(false);
  response.set(http::field::content_type, "text/plain; charset=utf-8");
  response.set(http::field::cache_control, "no-store");
  const auto verdict = [&](bool good) {
    response.result(good ? http::status::ok : http::status::service_unavailable);
    response.body() = good ? "ok\n" : "not ok\n";
  };
  if (request.method() != http::verb::get && request.method() != http::verb::head) {
    response.result(http::status::method_not_allowed);
    response.set(http::field::allow, "GET, HEAD");
  } else if (request.target() == "/healthz") {
    verdict(pages.healthy());
  } else if (request.target() == "/readyz") {
    verdict(pages.ready());
  } else if (request.target() == "/metrics") {
    auto text = pages.metrics();
    verdict(text.has_value());
    if (text) {
      response.set(http::field::content_type, "text/plain; version=0.0.4; charset=utf-8");
      response.body() = std::move(*text);
    }
  } else {
    response.result(http::status::not_found);
    response.body() = "there are /healthz, /readyz and /metrics\n";
  }
  if (request.method() == http::verb::head) response.body().clear();
  response.prepare_payload();
  return response;
}

/// One request on one connection; keeps itself alive through its handlers.
template <class Protocol>
class Exchange : public std::enable_shared_from_this<Exchange<Protocol>> {
 public:
  Exchange(typename Protocol::socket socket, const HttpPages& pages, int& open)
      : stream_(std::move(socket)), pages_(pages), open_(open) {
    ++open_;
    parser_.header_limit(kHeaderBytesMax);
    parser_.body_limit(std::uint64_t{0});
  }
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;
  ~Exchange() { --open_; }

  void run() {
    stream_.expires_after(kRequestTime);
    http::async_read(stream_,
                     buffer_,
                     parser_,
                     [self = this->shared_from_this()](error_code error, std::size_t) {
                       if (!error) self->answer();
                     });
  }

 private:
  void answer() {
    response_ = page(pages_, parser_.get());
    stream_.expires_after(kRequestTime);
    http::async_write(
        stream_, response_, [self = this->shared_from_this()](error_code /*error*/, std::size_t) {
          error_code ignored;
          self->stream_.socket().shutdown(asio::socket_base::shutdown_send, ignored);
        });
  }

  beast::basic_stream<Protocol> stream_;
  beast::flat_buffer buffer_{2 * kHeaderBytesMax};
  http::request_parser<http::empty_body> parser_;
  Response response_;
  const HttpPages& pages_;
  int& open_;
};

template <class Protocol>
class Acceptor {
 public:
  Acceptor(asio::io_context& context, const HttpPages& pages) : acceptor_(context), pages_(pages) {}

  Result<void> listen(const typename Protocol::endpoint& where) {
    error_code error;
    acceptor_.open(where.protocol(), error);
    if (!error) acceptor_.set_option(asio::socket_base::reuse_address(true), error);
    if (!error) acceptor_.bind(where, error);
    if (!error) acceptor_.listen(kConnectionsAtOnceMax, error);
    if (error) return Error(errno_to_errc(error.value()), error.value());
    return success();
  }
  [[nodiscard]] typename Protocol::endpoint where() { return acceptor_.local_endpoint(); }

  void accept() {
    acceptor_.async_accept([this](error_code error, typename Protocol::socket socket) {
      if (error == asio::error::operation_aborted) return;
      // Beyond the bound a connection is closed at once; a probe tries again.
      if (!error && open_ < kConnectionsAtOnceMax) {
        std::make_shared<Exchange<Protocol>>(std::move(socket), pages_, open_)->run();
      }
      accept();
    });
  }

 private:
  typename Protocol::acceptor acceptor_;
  const HttpPages& pages_;
  int open_ = 0;
};

/// "127.0.0.1:9650" or "[::1]:9650".
Result<asio::ip::tcp::endpoint> loopback_endpoint(const std::string& where) {
  const auto colon = where.rfind(':');
  if (colon == std::string::npos) return Errc::invalid_argument;
  std::string host = where.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  std::uint16_t port = 0;
  const char* const end = where.data() + where.size();
  const auto parsed = std::from_chars(where.data() + colon + 1, end, port);
  if (parsed.ec != std::errc() || parsed.ptr != end) return Errc::invalid_argument;
  error_code error;
  const auto address = asio::ip::make_address(host, error);
  if (error || !address.is_loopback()) return Errc::invalid_argument;
  return asio::ip::tcp::endpoint(address, port);
}

}  // namespace

struct HttpServer::State {
  explicit State(HttpPages given) : pages(std::move(given)) {}
  HttpPages pages;
  std::string where;
  std::string socket_path;  // removed at the end
  asio::io_context context{1};
  Acceptor<asio::ip::tcp> tcp{context, pages};
  Acceptor<asio::local::stream_protocol> local{context, pages};
  std::thread thread;
};

Result<std::unique_ptr<HttpServer>> HttpServer::start(const std::string& where, HttpPages pages) {
  auto state = std::make_unique<State>(std::move(pages));
  if (where.starts_with(kUnixPrefix)) {
    const std::string path = where.substr(kUnixPrefix.size());
    constexpr std::size_t kPathMax = 100;  // sun_path is 108 bytes
    if (path.empty() || path.size() > kPathMax) return Errc::invalid_argument;
    ::unlink(path.c_str());
    VMS_CHECK(state->local.listen(asio::local::stream_protocol::endpoint(path)));
    state->socket_path = path;
    state->where = where;
    state->local.accept();
  } else {
    VMS_TRY(const auto endpoint, loopback_endpoint(where));
    VMS_CHECK(state->tcp.listen(endpoint));
    const auto taken = state->tcp.where();
    const bool v6 = taken.address().is_v6();
    state->where = (v6 ? "[" : "") + taken.address().to_string() + (v6 ? "]:" : ":") +
                   std::to_string(taken.port());
    state->tcp.accept();
  }
  State& running = *state;
  state->thread = std::thread([&running] { running.context.run(); });
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(state)));
}

HttpServer::HttpServer(std::unique_ptr<State> state) noexcept : state_(std::move(state)) {}

HttpServer::~HttpServer() {
  state_->context.stop();
  state_->thread.join();
  if (!state_->socket_path.empty()) ::unlink(state_->socket_path.c_str());
}

const std::string& HttpServer::where() const noexcept {
  return state_->where;
}

}  // namespace vmstore::storaged
