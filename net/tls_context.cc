// SPDX-License-Identifier: Apache-2.0
#include "net/tls_context.h"

#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <optional>
#include <utility>

#include "base/log.h"
#include "net/tls_pointers.h"

namespace vmstore::net {
namespace {

constexpr std::size_t kFileBytesMax = 256 * 1024;
constexpr long kChainBytesMax = 16 * 1024;  // of what a peer shows: ours take about 700
// The authority signs each certificate itself: nothing lies between.
constexpr int kChainDepth = 0;
constexpr const char* kCiphers =
    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";

/// What is wrong, for the log, with the code that a caller gets.
struct Problem {
  Errc code;
  std::string text;
};

BioPtr reading(const std::string& text) {
  return BioPtr(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

X509Ptr read_certificate(BIO* from) {
  return X509Ptr(PEM_read_bio_X509(from, nullptr, no_passphrase, nullptr));
}

std::optional<Problem> add_authorities(SSL_CTX* context, const std::string& pem) {
  X509_STORE* const store = SSL_CTX_get_cert_store(context);
  const BioPtr from = reading(pem);
  int count = 0;
  while (const X509Ptr authority = read_certificate(from.get())) {
    if (X509_check_ca(authority.get()) != 1)
      return Problem{Errc::invalid_argument, "holds what is no authority"};
    if (X509_STORE_add_cert(store, authority.get()) != 1)
      return Problem{Errc::invalid_argument, take_openssl_error()};
    ++count;
  }
  ERR_clear_error();  // the end of the text
  if (count == 0) return Problem{Errc::invalid_argument, "holds no certificate"};
  return std::nullopt;
}

std::optional<Problem> use_own(SSL_CTX* context, const TlsPems& pems, CertificateName& name) {
  const BioPtr certificate_text = reading(pems.certificate);
  const X509Ptr certificate = read_certificate(certificate_text.get());
  if (!certificate)
    return Problem{Errc::invalid_argument, "no certificate in it: " + take_openssl_error()};
  auto found = name_of(certificate.get());
  if (!found) return Problem{Errc::invalid_argument, "not a certificate of a store"};
  name = std::move(*found);
  const BioPtr key_text = reading(pems.key);
  const PkeyPtr key(PEM_read_bio_PrivateKey(key_text.get(), nullptr, no_passphrase, nullptr));
  if (!key)
    return Problem{Errc::invalid_argument, "no key that can be read: " + take_openssl_error()};
  const bool fits = SSL_CTX_use_certificate(context, certificate.get()) == 1 &&
                    SSL_CTX_use_PrivateKey(context, key.get()) == 1 &&
                    SSL_CTX_check_private_key(context) == 1;
  if (!fits)
    return Problem{Errc::invalid_argument,
                   "certificate and key do not fit: " + take_openssl_error()};
  return std::nullopt;
}

bool harden(SSL_CTX* context) {
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  // An idle connection holds no buffer; the authority is not sent along, whoever needs it has it.
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  SSL_CTX_set_verify_depth(context, kChainDepth);
  SSL_CTX_set_max_cert_list(context, kChainBytesMax);
  std::string groups("X25519:P-256");  // OpenSSL's macro casts the pointer to one that may write
  return SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) == 1 &&
         SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) == 1 &&
         SSL_CTX_set_num_tickets(context, 0) == 1 &&
         SSL_CTX_set_ciphersuites(context, kCiphers) == 1 &&
         SSL_CTX_set1_groups_list(context, groups.data()) == 1;
}

std::optional<Problem> fill(SSL_CTX* context, const TlsPems& pems, CertificateName& name) {
  if (context == nullptr || !harden(context)) return Problem{Errc::unknown, take_openssl_error()};
  if (auto wrong = add_authorities(context, pems.ca)) {
    wrong->text = "the authority's file " + wrong->text;
    return wrong;
  }
  return use_own(context, pems, name);
}

/// Whether those whom we call would believe us: says so at the start, with the reason.
std::optional<Problem> check_own(SSL_CTX* context) {
  X509* const own = SSL_CTX_get0_certificate(context);
  const StoreContextPtr check(X509_STORE_CTX_new());
  const bool ready =
      check && X509_STORE_CTX_init(check.get(), SSL_CTX_get_cert_store(context), own, nullptr) == 1;
  if (!ready) return Problem{Errc::unknown, take_openssl_error()};
  if (X509_verify_cert(check.get()) == 1) return std::nullopt;
  const int why = X509_STORE_CTX_get_error(check.get());
  ERR_clear_error();
  return Problem{Errc::invalid_argument, X509_verify_cert_error_string(why)};
}

Result<std::string> read_file(const std::string& path, bool is_secret) {
  const UniqueDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status {};
  if (file.get() < 0 || ::fstat(file.get(), &status) != 0) {
    const Error error = last_os_error();
    VMS_LOG(error, "tls", path << ": " << to_string(error));
    return error;
  }
  if (is_secret && (status.st_mode & S_IRWXO) != 0) {
    VMS_LOG(error, "tls", path << ": every user may read this key; chmod 0600 it");
    return Errc::permission;
  }
  std::string text(kFileBytesMax, '\0');
  std::size_t size = 0;
  while (size < text.size()) {
    const ssize_t got = ::read(file.get(), text.data() + size, text.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return last_os_error();
    if (got == 0) break;
    size += static_cast<std::size_t>(got);
  }
  text.resize(size);
  return text;
}

}  // namespace

std::string take_openssl_error() {
  const unsigned long code = ERR_peek_error();
  ERR_clear_error();
  if (code == 0) return "no reason given";
  const char* const reason = ERR_reason_error_string(code);
  return reason == nullptr ? "error " + std::to_string(code) : reason;
}

Result<CertificateName> name_of(const x509_st* certificate) {
  const GeneralNamesPtr names(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  if (!names) return Errc::invalid_argument;
  std::optional<CertificateName> found;
  for (int i = 0; i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* const each = sk_GENERAL_NAME_value(names.get(), i);
    if (each->type != GEN_URI) continue;
    const ASN1_IA5STRING* const uri = each->d.uniformResourceIdentifier;
    const std::string_view text(reinterpret_cast<const char*>(ASN1_STRING_get0_data(uri)),
                                static_cast<std::size_t>(ASN1_STRING_length(uri)));
    if (found) return Errc::invalid_argument;  // two names are two answers
    VMS_TRY(found, parse_certificate_uri(text));
  }
  if (!found) return Errc::invalid_argument;
  std::array<char, 128> person{};
  X509_NAME_get_text_by_NID(X509_get_subject_name(certificate),
                            NID_commonName,
                            person.data(),
                            static_cast<int>(person.size()));
  found->person = person.data();
  for (char& c : found->person) {
    if (c < ' ' || c > '~') c = '?';
  }
  return std::move(*found);
}

Result<std::shared_ptr<const TlsContext>> TlsContext::make(const TlsPems& pems) {
  const std::shared_ptr<TlsContext> made(new TlsContext());
  made->server_ = SSL_CTX_new(TLS_server_method());
  made->client_ = SSL_CTX_new(TLS_client_method());
  for (SSL_CTX* const context : {made->server_, made->client_}) {
    if (const auto wrong = fill(context, pems, made->own_)) {
      VMS_LOG(error, "tls", wrong->text);
      return wrong->code;
    }
  }
  return std::shared_ptr<const TlsContext>(made);
}

Result<std::shared_ptr<const TlsContext>> TlsContext::load(const TlsFiles& files) {
  TlsPems pems;
  VMS_TRY(pems.ca, read_file(files.ca, false));
  VMS_TRY(pems.certificate, read_file(files.certificate, false));
  VMS_TRY(pems.key, read_file(files.key, true));
  auto made = make(pems);
  if (!made) {
    VMS_LOG(error,
            "tls",
            "cannot be used: " << files.ca << ", " << files.certificate << ", " << files.key);
    return made;
  }
  if (const auto wrong = check_own((*made)->client())) {
    VMS_LOG(error, "tls", files.certificate << ": " << wrong->text);
    return wrong->code;
  }
  return made;
}

TlsContext::~TlsContext() {
  SSL_CTX_free(server_);
  SSL_CTX_free(client_);
}

}  // namespace vmstore::net
