// SPDX-License-Identifier: Apache-2.0
#include "net/tls_authority.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <string_view>

#include "net/tls_pointers.h"

namespace vmstore::net {
namespace {

constexpr std::size_t kSerialBytes = 16;
constexpr std::size_t kHostCharsMax = 253;
constexpr std::size_t kPersonCharsMax = 64;  // of X.520
constexpr std::string_view kAuthorityScheme = "vmstore://";
constexpr std::string_view kAuthorityPart = "/authority";

using TimePtr = std::unique_ptr<ASN1_TIME, FreeWith<ASN1_TIME_free>>;
using ExtensionPtr = std::unique_ptr<X509_EXTENSION, FreeWith<X509_EXTENSION_free>>;
using OctetsPtr = std::unique_ptr<ASN1_OCTET_STRING, FreeWith<ASN1_OCTET_STRING_free>>;
using NamePtr = std::unique_ptr<GENERAL_NAME, FreeWith<GENERAL_NAME_free>>;

/// Each step of making a certificate is taken only if those before it went well.
class Steps {
 public:
  Steps& then(bool done) {
    good_ = good_ && done;
    return *this;
  }
  [[nodiscard]] bool good() const noexcept { return good_; }

 private:
  bool good_ = true;
};

std::time_t seconds_of(WallTime time) {
  return std::chrono::duration_cast<std::chrono::seconds>(time.time_since_epoch()).count();
}

PkeyPtr make_key() {
  return PkeyPtr(EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-256"));
}

template <class Write>
Result<std::string> to_pem(const Write& write) {
  const BioPtr memory(BIO_new(BIO_s_mem()));
  if (!memory || write(memory.get()) != 1) return Errc::unknown;
  char* text = nullptr;
  const long size = BIO_get_mem_data(memory.get(), &text);
  return std::string(text, static_cast<std::size_t>(size));
}

Result<CertificatePair> to_pair(X509* certificate, EVP_PKEY* key) {
  CertificatePair pair;
  VMS_TRY(pair.certificate, to_pem([&](BIO* to) { return PEM_write_bio_X509(to, certificate); }));
  VMS_TRY(pair.key, to_pem([&](BIO* to) {
            return PEM_write_bio_PrivateKey(to, key, nullptr, nullptr, 0, nullptr, nullptr);
          }));
  return pair;
}

X509Ptr certificate_of(const std::string& pem) {
  const BioPtr from(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  return X509Ptr(PEM_read_bio_X509(from.get(), nullptr, no_passphrase, nullptr));
}

bool set_serial(X509* certificate) {
  std::array<unsigned char, kSerialBytes> bytes{};
  if (RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) != 1) return false;
  bytes[0] &= 0x7fU;  // positive
  bytes[0] |= 0x40U;  // and never short
  const std::unique_ptr<BIGNUM, FreeWith<BN_free>> number(
      BN_bin2bn(bytes.data(), static_cast<int>(bytes.size()), nullptr));
  return number && BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(certificate)) != nullptr;
}

bool set_validity(X509* certificate, const Validity& validity) {
  const TimePtr from(ASN1_TIME_set(nullptr, seconds_of(validity.from)));
  const TimePtr until(ASN1_TIME_set(nullptr, seconds_of(validity.until)));
  return from && until && X509_set1_notBefore(certificate, from.get()) == 1 &&
         X509_set1_notAfter(certificate, until.get()) == 1;
}

bool set_subject(X509* certificate, const std::string& person) {
  X509_NAME* const name = X509_get_subject_name(certificate);
  const std::string text = person.substr(0, kPersonCharsMax);
  const auto* const bytes = reinterpret_cast<const unsigned char*>(text.data());
  return X509_NAME_add_entry_by_NID(
             name, NID_commonName, MBSTRING_UTF8, bytes, static_cast<int>(text.size()), -1, 0) == 1;
}

/// `text` is one of ours, in the language of openssl's configuration: nothing a user typed.
bool add_extension(X509* certificate, X509* issuer, int kind, const char* text) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const ExtensionPtr extension(X509V3_EXT_conf_nid(nullptr, &context, kind, text));
  return extension && X509_add_ext(certificate, extension.get(), -1) == 1;
}

NamePtr text_name(int type, std::string_view text) {
  NamePtr name(GENERAL_NAME_new());
  ASN1_IA5STRING* const value = ASN1_IA5STRING_new();
  ASN1_STRING_set(value, text.data(), static_cast<int>(text.size()));
  GENERAL_NAME_set0_value(name.get(), type, value);
  return name;
}

NamePtr address_name(const unsigned char* bytes, std::size_t size) {
  NamePtr name(GENERAL_NAME_new());
  ASN1_OCTET_STRING* const value = ASN1_OCTET_STRING_new();
  ASN1_OCTET_STRING_set(value, bytes, static_cast<int>(size));
  GENERAL_NAME_set0_value(name.get(), GEN_IPADD, value);
  return name;
}

bool is_host_name(std::string_view text) {
  const auto good = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.';
  };
  return !text.empty() && text.size() <= kHostCharsMax && text.front() != '.' &&
         text.front() != '-' && std::all_of(text.begin(), text.end(), good);
}

/// Null for what is neither a name nor an address.
NamePtr host_name(const std::string& host) {
  std::array<unsigned char, sizeof(in6_addr)> bytes{};
  if (::inet_pton(AF_INET, host.c_str(), bytes.data()) == 1) {
    return address_name(bytes.data(), sizeof(in_addr));
  }
  if (::inet_pton(AF_INET6, host.c_str(), bytes.data()) == 1) {
    return address_name(bytes.data(), sizeof(in6_addr));
  }
  return is_host_name(host) ? text_name(GEN_DNS, host) : nullptr;
}

bool add_names(X509* certificate, const std::string& uri, const std::vector<std::string>& hosts) {
  const GeneralNamesPtr names(sk_GENERAL_NAME_new_null());
  sk_GENERAL_NAME_push(names.get(), text_name(GEN_URI, uri).release());
  for (const std::string& host : hosts) {
    NamePtr name = host_name(host);
    if (!name) return false;
    sk_GENERAL_NAME_push(names.get(), name.release());
  }
  return X509_add1_ext_i2d(certificate, NID_subject_alt_name, names.get(), 0, X509V3_ADD_APPEND) ==
         1;
}

/// What both kinds of certificate have, unsigned.
X509Ptr begin(EVP_PKEY* key, const std::string& person, const Validity& validity) {
  X509Ptr certificate(X509_new());
  Steps steps;
  steps.then(certificate != nullptr);
  if (steps.good()) {
    steps.then(X509_set_version(certificate.get(), X509_VERSION_3) == 1)
        .then(set_serial(certificate.get()))
        .then(set_validity(certificate.get(), validity))
        .then(set_subject(certificate.get(), person))
        .then(X509_set_pubkey(certificate.get(), key) == 1);
  }
  return steps.good() ? std::move(certificate) : nullptr;
}

std::string authority_uri(StoreId store) {
  return std::string(kAuthorityScheme) + store.hex() + std::string(kAuthorityPart);
}

}  // namespace

Result<CertificatePair> make_authority(StoreId store, const Validity& validity) {
  const PkeyPtr key = make_key();
  const X509Ptr made =
      key ? begin(key.get(), "VMStore authority of " + store.hex().substr(0, 8), validity)
          : nullptr;
  if (!made) return ERR_clear_error(), Errc::unknown;
  X509* const own = made.get();
  Steps steps;
  steps.then(X509_set_issuer_name(own, X509_get_subject_name(own)) == 1)
      .then(add_extension(own, own, NID_basic_constraints, "critical,CA:TRUE,pathlen:0"))
      .then(add_extension(own, own, NID_key_usage, "critical,keyCertSign,cRLSign"))
      .then(add_extension(own, own, NID_subject_key_identifier, "hash"))
      .then(add_names(own, authority_uri(store), {}))
      .then(X509_sign(own, key.get(), EVP_sha256()) > 0);
  ERR_clear_error();
  if (!steps.good()) return Errc::unknown;
  return to_pair(own, key.get());
}

Result<StoreId> store_of_authority(const std::string& certificate) {
  const X509Ptr authority = certificate_of(certificate);
  ERR_clear_error();
  if (!authority || X509_check_ca(authority.get()) != 1) return Errc::invalid_argument;
  const GeneralNamesPtr names(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(authority.get(), NID_subject_alt_name, nullptr, nullptr)));
  const bool is_one = names && sk_GENERAL_NAME_num(names.get()) == 1 &&
                      sk_GENERAL_NAME_value(names.get(), 0)->type == GEN_URI;
  if (!is_one) return Errc::invalid_argument;
  const ASN1_IA5STRING* const uri =
      sk_GENERAL_NAME_value(names.get(), 0)->d.uniformResourceIdentifier;
  std::string_view text(reinterpret_cast<const char*>(ASN1_STRING_get0_data(uri)),
                        static_cast<std::size_t>(ASN1_STRING_length(uri)));
  const bool fits = text.starts_with(kAuthorityScheme) && text.ends_with(kAuthorityPart) &&
                    text.size() > kAuthorityScheme.size() + kAuthorityPart.size();
  if (!fits) return Errc::invalid_argument;
  text.remove_prefix(kAuthorityScheme.size());
  text.remove_suffix(kAuthorityPart.size());
  const auto store = StoreId::parse(text);
  if (!store || store->is_none()) return Errc::invalid_argument;
  return *store;
}

Result<CertificatePair> issue_certificate(const CertificatePair& authority,
                                          const CertificateRequest& request) {
  VMS_TRY(const StoreId store, store_of_authority(authority.certificate));
  if (store != request.name.store) return Errc::invalid_argument;
  const X509Ptr issuer = certificate_of(authority.certificate);
  const BioPtr key_text(
      BIO_new_mem_buf(authority.key.data(), static_cast<int>(authority.key.size())));
  const PkeyPtr issuer_key(
      PEM_read_bio_PrivateKey(key_text.get(), nullptr, no_passphrase, nullptr));
  const bool fits = issuer_key && X509_check_private_key(issuer.get(), issuer_key.get()) == 1;
  ERR_clear_error();
  if (!fits) return Errc::invalid_argument;
  for (const std::string& host : request.hosts) {
    if (!host_name(host)) return Errc::invalid_argument;
  }
  VMS_TRY(const WallTime last, end_of_certificate(authority.certificate));
  Validity validity = request.validity;
  validity.until = std::min(validity.until, last);
  const PkeyPtr key = make_key();
  const X509Ptr made = key ? begin(key.get(), request.name.person, validity) : nullptr;
  if (!made) return ERR_clear_error(), Errc::unknown;
  X509* const own = made.get();
  // A node is dialled and dials; nobody else is to be taken for one that is dialled.
  const char* const uses = request.name.role == Role::node ? "serverAuth,clientAuth" : "clientAuth";
  Steps steps;
  steps.then(X509_set_issuer_name(own, X509_get_subject_name(issuer.get())) == 1)
      .then(add_extension(own, issuer.get(), NID_basic_constraints, "critical,CA:FALSE"))
      .then(add_extension(own, issuer.get(), NID_key_usage, "critical,digitalSignature"))
      .then(add_extension(own, issuer.get(), NID_ext_key_usage, uses))
      .then(add_extension(own, issuer.get(), NID_subject_key_identifier, "hash"))
      .then(add_extension(own, issuer.get(), NID_authority_key_identifier, "keyid"))
      .then(add_names(own, certificate_uri(request.name), request.hosts))
      .then(X509_sign(own, issuer_key.get(), EVP_sha256()) > 0);
  ERR_clear_error();
  if (!steps.good()) return Errc::unknown;
  return to_pair(own, key.get());
}

Result<WallTime> end_of_certificate(const std::string& certificate) {
  const X509Ptr read = certificate_of(certificate);
  ERR_clear_error();
  std::tm broken{};
  if (!read || ASN1_TIME_to_tm(X509_get0_notAfter(read.get()), &broken) != 1) {
    return Errc::invalid_argument;
  }
  return WallTime(std::chrono::seconds(::timegm(&broken)));
}

}  // namespace vmstore::net
