// SPDX-License-Identifier: Apache-2.0
// What the tests of TLS share: authorities, certificates of all kinds, contexts made of them.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "net/tls_authority.h"
#include "net/tls_context.h"

namespace vmstore::net::test {

inline constexpr StoreId kStore{1, 2};
inline constexpr StoreId kOtherStore{3, 4};
inline constexpr const char* kHost = "127.0.0.1";

/// From so many hours to so many hours from now.
inline Validity hours(int from, int until) {
  const auto now = std::chrono::time_point_cast<Duration>(std::chrono::system_clock::now());
  return {now + std::chrono::hours(from), now + std::chrono::hours(until)};
}

/// One store's authority.
class Authority {
 public:
  explicit Authority(StoreId store = kStore, Validity validity = hours(-48, 48)) : store_(store) {
    auto made = make_authority(store, validity);
    EXPECT_TRUE(made);
    if (made) pair_ = std::move(*made);
  }
  [[nodiscard]] const CertificatePair& pair() const noexcept { return pair_; }
  [[nodiscard]] CertificatePair issue(Role role,
                                      Validity validity = hours(-1, 1),
                                      std::string host = kHost) const {
    CertificateRequest request;
    request.name.store = store_;
    request.name.role = role;
    request.name.person = "test " + std::string(role_name(role));
    if (role == Role::node) request.hosts.push_back(std::move(host));
    request.validity = validity;
    auto issued = issue_certificate(pair_, request);
    EXPECT_TRUE(issued);
    return issued ? std::move(*issued) : CertificatePair();
  }

 private:
  StoreId store_;
  CertificatePair pair_;
};

using ContextPtr = std::shared_ptr<const TlsContext>;

/// Who shows `own` and believes what `trusted` has signed.
inline ContextPtr context_of(const CertificatePair& own, const std::string& trusted) {
  auto made = TlsContext::make({trusted, own.certificate, own.key});
  EXPECT_TRUE(made);
  return made ? *made : nullptr;
}
inline ContextPtr context_of(const Authority& authority,
                             Role role,
                             Validity validity = hours(-1, 1)) {
  return context_of(authority.issue(role, validity), authority.pair().certificate);
}

}  // namespace vmstore::net::test
