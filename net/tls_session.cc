// SPDX-License-Identifier: Apache-2.0
#include "net/tls_session.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "net/tls_pointers.h"

namespace vmstore::net {
namespace {

/// Kept for the next record when it has been sent; more is given back.
constexpr std::size_t kSpareBytes = 1024;
constexpr std::size_t kOutgoingBytes = 64 * 1024;
constexpr std::size_t kRecordBytes = 16 * 1024;
/// 128 GiB of full records. AES-GCM is good for 2^24.5 (RFC 8446, 5.5); a guest's session has no
/// end.
constexpr std::uint64_t kRecordsOfOneKey = std::uint64_t{1} << 23;

/// The two directions of ciphertext, between OpenSSL and the caller.
struct Pipes {
  ByteSpan in;  // the caller's memory
  std::vector<std::byte> out;
  std::size_t out_begin = 0;
};

int pipe_read(BIO* bio, char* into, std::size_t size, std::size_t* got) {
  Pipes& pipes = *static_cast<Pipes*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  *got = std::min(size, pipes.in.size());
  if (*got == 0) {
    BIO_set_retry_read(bio);
    return 0;
  }
  std::memcpy(into, pipes.in.data(), *got);
  pipes.in = pipes.in.subspan(*got);
  return 1;
}

int pipe_write(BIO* bio, const char* bytes, std::size_t size, std::size_t* taken) {
  Pipes& pipes = *static_cast<Pipes*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  const auto* const first = reinterpret_cast<const std::byte*>(bytes);
  if (size > kRecordBytes && pipes.out.capacity() < kOutgoingBytes) {
    pipes.out.reserve(kOutgoingBytes);  // a full record: others follow; grown once for all
  }
  pipes.out.insert(pipes.out.end(), first, first + size);
  *taken = size;
  return 1;
}

long pipe_control(BIO* /*bio*/, int command, long /*number*/, void* /*pointer*/) {
  return command == BIO_CTRL_FLUSH ? 1 : 0;
}

int pipe_create(BIO* bio) {
  BIO_set_init(bio, 1);
  return 1;
}

const BIO_METHOD* pipe_method() {
  static const BIO_METHOD* const method = [] {
    BIO_METHOD* const made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "vmstore");
    VMS_ASSERT(made != nullptr);
    BIO_meth_set_read_ex(made, pipe_read);
    BIO_meth_set_write_ex(made, pipe_write);
    BIO_meth_set_ctrl(made, pipe_control);
    BIO_meth_set_create(made, pipe_create);
    return made;
  }();
  return method;
}

bool is_ip_address(const std::string& host) {
  std::array<unsigned char, sizeof(in6_addr)> address{};
  return ::inet_pton(AF_INET, host.c_str(), address.data()) == 1 ||
         ::inet_pton(AF_INET6, host.c_str(), address.data()) == 1;
}

/// Alerts by which a peer says that it does not take our certificate, or that we brought none.
bool is_refusal(int alert) {
  switch (alert) {
    case SSL_AD_HANDSHAKE_FAILURE:
    case SSL_AD_BAD_CERTIFICATE:
    case SSL_AD_UNSUPPORTED_CERTIFICATE:
    case SSL_AD_CERTIFICATE_REVOKED:
    case SSL_AD_CERTIFICATE_EXPIRED:
    case SSL_AD_CERTIFICATE_UNKNOWN:
    case SSL_AD_UNKNOWN_CA:
    case SSL_AD_ACCESS_DENIED:
    case SSL_AD_CERTIFICATE_REQUIRED:
      return true;
    default:
      return false;
  }
}

}  // namespace

struct TlsSession::State {
  State(std::shared_ptr<const TlsContext> given, bool dials)
      : context(std::move(given)),
        dialling(dials),
        ssl(SSL_new(dials ? context->client() : context->server())) {
    VMS_ASSERT(ssl != nullptr);  // nothing but memory can be missing
    BIO* const bio = BIO_new(pipe_method());
    VMS_ASSERT(bio != nullptr);
    BIO_set_data(bio, &pipes);
    SSL_set_bio(ssl.get(), bio, bio);
    SSL_set_app_data(ssl.get(), this);
    SSL_set_verify(ssl.get(), SSL_get_verify_mode(ssl.get()), verify);
    dials ? SSL_set_connect_state(ssl.get()) : SSL_set_accept_state(ssl.get());
  }
  static int verify(int is_good, X509_STORE_CTX* chain);
  [[nodiscard]] bool takes(const CertificateName& name);
  [[nodiscard]] Error failed(int outcome);

  std::shared_ptr<const TlsContext> context;
  bool dialling;
  bool is_shaken = false;
  std::uint64_t records = 0;  // encrypted with the key of now
  Pipes pipes;
  SslPtr ssl;
  std::shared_ptr<const CertificateName> peer;
  std::string refused;  // why verify() did not take the peer
  std::string problem;
  std::optional<Error> failure;
};

/// What the signature does not tell: whether this is the right holder. Within the handshake, so
/// that the peer hears of it.
bool TlsSession::State::takes(const CertificateName& name) {
  if (name.store != context->own().store) {
    refused = "its certificate is of another store";
  } else if (dialling && name.role != Role::node) {
    refused = "it shows the certificate of a " + std::string(role_name(name.role)) + ", not a node";
  }
  return refused.empty();
}

int TlsSession::State::verify(int is_good, X509_STORE_CTX* chain) {
  const int index = SSL_get_ex_data_X509_STORE_CTX_idx();
  auto* const ssl = static_cast<SSL*>(X509_STORE_CTX_get_ex_data(chain, index));
  State& state = *static_cast<State*>(SSL_get_app_data(ssl));
  if (is_good != 1) {
    const int why = X509_STORE_CTX_get_error(chain);
    state.refused = std::string("its certificate: ") + X509_verify_cert_error_string(why);
    return 0;
  }
  if (X509_STORE_CTX_get_error_depth(chain) != 0) return 1;
  auto name = name_of(X509_STORE_CTX_get_current_cert(chain));
  if (!name) state.refused = "its certificate is none of a store";
  if (name && state.takes(*name)) {
    state.peer = std::make_shared<const CertificateName>(std::move(*name));
    return 1;
  }
  X509_STORE_CTX_set_error(chain, X509_V_ERR_APPLICATION_VERIFICATION);
  return 0;
}

/// What an outcome of OpenSSL that is no success means.
Error TlsSession::State::failed(int outcome) {
  const int kind = SSL_get_error(ssl.get(), outcome);
  if (kind == SSL_ERROR_WANT_READ) return Errc::busy;
  if (kind == SSL_ERROR_ZERO_RETURN) {
    problem = "it ended the session";
    failure = Errc::disconnected;
    return *failure;
  }
  const int reason = ERR_GET_REASON(ERR_peek_error());
  const bool is_alert = reason > SSL_AD_REASON_OFFSET;
  problem = take_openssl_error();
  failure = Errc::bad_frame;
  if (!refused.empty()) {
    problem = refused;
    failure = Errc::permission;
  } else if (reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE) {
    problem = "it shows no certificate";
    failure = Errc::permission;
  } else if (is_alert && is_refusal(reason - SSL_AD_REASON_OFFSET)) {
    problem = "it does not take our certificate (" + problem + ")";
    failure = Errc::permission;
  } else if (is_alert) {
    failure = Errc::disconnected;
  }
  return *failure;
}

TlsSession::TlsSession(std::unique_ptr<State> state) : state_(std::move(state)) {}
TlsSession::TlsSession(TlsSession&& other) noexcept = default;
TlsSession::~TlsSession() = default;

TlsSession TlsSession::accepting(std::shared_ptr<const TlsContext> context) {
  return TlsSession(std::make_unique<State>(std::move(context), false));
}

TlsSession TlsSession::dialling(std::shared_ptr<const TlsContext> context, std::string host) {
  auto state = std::make_unique<State>(std::move(context), true);
  X509_VERIFY_PARAM* const wanted = SSL_get0_param(state->ssl.get());
  if (is_ip_address(host)) {
    VMS_ASSERT(X509_VERIFY_PARAM_set1_ip_asc(wanted, host.c_str()) == 1);
  } else {
    X509_VERIFY_PARAM_set_hostflags(wanted, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    VMS_ASSERT(X509_VERIFY_PARAM_set1_host(wanted, host.data(), host.size()) == 1);
    // The macro of it casts in C's way.
    VMS_ASSERT(SSL_ctrl(state->ssl.get(),
                        SSL_CTRL_SET_TLSEXT_HOSTNAME,
                        TLSEXT_NAMETYPE_host_name,
                        host.data()) == 1);
  }
  return TlsSession(std::move(state));
}

Result<void> TlsSession::handshake() {
  if (state_->failure) return *state_->failure;
  ERR_clear_error();
  const int outcome = SSL_do_handshake(state_->ssl.get());
  if (outcome == 1) {
    VMS_ASSERT(state_->peer != nullptr);  // SSL_VERIFY_FAIL_IF_NO_PEER_CERT, verify()
    state_->is_shaken = true;
    return success();
  }
  return state_->failed(outcome);
}

Result<std::size_t> TlsSession::read(MutableBytes into) {
  VMS_ASSERT(state_->is_shaken);
  if (state_->failure) return *state_->failure;
  ERR_clear_error();
  std::size_t got = 0;
  const int outcome = SSL_read_ex(state_->ssl.get(), into.data(), into.size(), &got);
  if (outcome != 1) return state_->failed(outcome);
  return got;
}

Result<void> TlsSession::write(ByteSpan bytes) {
  VMS_ASSERT(state_->is_shaken);
  if (state_->failure) return *state_->failure;
  if (bytes.empty()) return success();
  state_->records += (bytes.size() + kRecordBytes - 1) / kRecordBytes;
  if (state_->records >= kRecordsOfOneKey) renew_key();
  ERR_clear_error();
  std::size_t taken = 0;
  const int outcome = SSL_write_ex(state_->ssl.get(), bytes.data(), bytes.size(), &taken);
  if (outcome != 1) return state_->failed(outcome);
  VMS_ASSERT(taken == bytes.size());  // the pipe takes all
  return success();
}

void TlsSession::renew_key() {
  VMS_ASSERT(state_->is_shaken);
  state_->records = 0;
  // The next record tells the peer. It fails only while another such message is under way.
  static_cast<void>(SSL_key_update(state_->ssl.get(), SSL_KEY_UPDATE_NOT_REQUESTED));
  ERR_clear_error();
}

void TlsSession::put_received(ByteSpan bytes) noexcept {
  VMS_ASSERT(state_->pipes.in.empty());
  state_->pipes.in = bytes;
}

std::size_t TlsSession::received_left() const noexcept {
  return state_->pipes.in.size();
}

ByteSpan TlsSession::outgoing() const noexcept {
  return ByteSpan(state_->pipes.out).subspan(state_->pipes.out_begin);
}

void TlsSession::sent(std::size_t bytes) noexcept {
  Pipes& pipes = state_->pipes;
  pipes.out_begin += bytes;
  VMS_ASSERT(pipes.out_begin <= pipes.out.size());
  if (pipes.out_begin < pipes.out.size()) return;
  pipes.out_begin = 0;
  pipes.out.clear();
  if (pipes.out.capacity() > kSpareBytes) std::vector<std::byte>().swap(pipes.out);
}

const std::shared_ptr<const CertificateName>& TlsSession::peer() const noexcept {
  return state_->peer;
}

const std::string& TlsSession::problem() const noexcept {
  return state_->problem;
}

}  // namespace vmstore::net
