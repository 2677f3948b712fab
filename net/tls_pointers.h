// SPDX-License-Identifier: Apache-2.0
// Owning pointers to what OpenSSL and the system hand out, for net/tls_*.cc alone.
#pragma once

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include <memory>

namespace vmstore::net {

template <auto kFree>
struct FreeWith {
  template <class T>
  void operator()(T* owned) const noexcept {
    kFree(owned);
  }
};

using BioPtr = std::unique_ptr<BIO, FreeWith<BIO_free_all>>;
using GeneralNamesPtr = std::unique_ptr<GENERAL_NAMES, FreeWith<GENERAL_NAMES_free>>;
using PkeyPtr = std::unique_ptr<EVP_PKEY, FreeWith<EVP_PKEY_free>>;
using SslPtr = std::unique_ptr<SSL, FreeWith<SSL_free>>;
using StoreContextPtr = std::unique_ptr<X509_STORE_CTX, FreeWith<X509_STORE_CTX_free>>;
using X509Ptr = std::unique_ptr<X509, FreeWith<X509_free>>;

/// For reading keys: an encrypted one would make OpenSSL ask on the terminal.
inline int no_passphrase(char* /*buffer*/, int /*size*/, int /*writing*/, void* /*user*/) {
  return 0;
}

/// A descriptor that is closed at the end; -1: none.
class UniqueDescriptor {
 public:
  explicit UniqueDescriptor(int fd) noexcept : fd_(fd) {}
  UniqueDescriptor(const UniqueDescriptor&) = delete;
  UniqueDescriptor& operator=(const UniqueDescriptor&) = delete;
  ~UniqueDescriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int get() const noexcept { return fd_; }

 private:
  int fd_;
};

}  // namespace vmstore::net
