// SPDX-License-Identifier: Apache-2.0
// TlsContext: who we are and whom we believe: a store's authority, our certificate and its key.
//
// Invariants: TLS 1.3 and nothing older; the peer shows a certificate, in both directions; only
// those that the store's own authority signed count, never the system's; no session is resumed, no
// data is taken before the handshake ends; what a handshake may send is bounded.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "net/certificate_name.h"

// OpenSSL's, by its own names: whoever includes this names no third party.
struct ssl_ctx_st;
struct x509_st;

namespace vmstore::net {

/// Paths of PEM files.
struct TlsFiles {
  std::string ca;
  std::string certificate;
  std::string key;
  [[nodiscard]] bool empty() const noexcept {
    return ca.empty() && certificate.empty() && key.empty();
  }
  [[nodiscard]] bool complete() const noexcept {
    return !ca.empty() && !certificate.empty() && !key.empty();
  }
};

/// The same as texts.
struct TlsPems {
  std::string ca;  // one certificate, or several while one authority replaces another
  std::string certificate;
  std::string key;
};

/// THREADS: any, once made.
class TlsContext {
 public:
  /// `invalid_argument` for what is no certificate of a store, does not fit together or is not
  /// valid now, `permission` for a key that every user may read; the log names the file and says
  /// what is wrong.
  [[nodiscard]] static Result<std::shared_ptr<const TlsContext>> load(const TlsFiles& files);
  [[nodiscard]] static Result<std::shared_ptr<const TlsContext>> make(const TlsPems& pems);
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;
  ~TlsContext();

  [[nodiscard]] const CertificateName& own() const noexcept { return own_; }
  /// For TlsSession.
  [[nodiscard]] ssl_ctx_st* server() const noexcept { return server_; }
  [[nodiscard]] ssl_ctx_st* client() const noexcept { return client_; }

 private:
  TlsContext() = default;
  ssl_ctx_st* server_ = nullptr;
  ssl_ctx_st* client_ = nullptr;
  CertificateName own_;
};

/// What the certificate says of its holder. `invalid_argument`: not exactly one URI of ours.
[[nodiscard]] Result<CertificateName> name_of(const x509_st* certificate);

/// The oldest error that OpenSSL keeps for this thread, as text; clears them.
[[nodiscard]] std::string take_openssl_error();

}  // namespace vmstore::net
