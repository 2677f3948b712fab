// SPDX-License-Identifier: Apache-2.0
// The authority of a store: makes its own certificate and signs those of nodes and people.
// docs/format/certificate.md says what stands in them.
//
// Invariants: an authority signs for the store that its own certificate names, and for no other; it
// can make no further authorities; a key is in memory and in what is returned, nowhere else.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "net/certificate_name.h"

namespace vmstore::net {

struct Validity {
  WallTime from;
  WallTime until;
};

/// A certificate and its key, as PEM.
struct CertificatePair {
  std::string certificate;
  std::string key;
};

struct CertificateRequest {
  CertificateName name;
  std::vector<std::string> hosts;  // names and IP addresses; nodes need one, others have none
  Validity validity;
};

/// A new authority of this store.
[[nodiscard]] Result<CertificatePair> make_authority(StoreId store, const Validity& validity);
/// The store of an authority. `invalid_argument`: `certificate` is none.
[[nodiscard]] Result<StoreId> store_of_authority(const std::string& certificate);
/// A certificate that ends no later than its authority does. `invalid_argument`: not such an
/// authority, or one of another store than the request's, a host that is neither name nor address.
[[nodiscard]] Result<CertificatePair> issue_certificate(const CertificatePair& authority,
                                                        const CertificateRequest& request);
/// When a certificate ends.
[[nodiscard]] Result<WallTime> end_of_certificate(const std::string& certificate);

}  // namespace vmstore::net
