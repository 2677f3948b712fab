// SPDX-License-Identifier: Apache-2.0
#include "base/checksum.h"

#include <openssl/evp.h>

#include <cstring>

#include "base/assert.h"

#define XXH_STATIC_LINKING_ONLY 1  // XXH3_state_t on the stack
#ifdef __x86_64__
// The library picks AVX2 or AVX-512 when it first runs; inlined into a program for every x86-64,
// XXH3 is SSE2: a third of the speed for blocks of 4 KiB.
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif

namespace vmstore {

std::uint64_t xxh3(ByteSpan bytes) noexcept {
  return XXH3_64bits(bytes.data(), bytes.size());
}

std::uint64_t xxh3(std::span<const ByteSpan> pieces) noexcept {
  if (pieces.size() == 1) return xxh3(pieces.front());
  XXH3_state_t state;
  XXH3_INITSTATE(&state);
  XXH3_64bits_reset(&state);
  for (const ByteSpan piece : pieces) XXH3_64bits_update(&state, piece.data(), piece.size());
  return XXH3_64bits_digest(&state);
}

std::uint64_t block_sum(ByteSpan block) noexcept {
  const std::uint64_t sum = xxh3(block);
  return sum == 0 ? 1 : sum;
}

namespace {

const EVP_MD* sha256_algorithm() {
  static const EVP_MD* const algorithm = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  return algorithm;
}

}  // namespace

Sha256 sha256(ByteSpan bytes) {
  Sha256 digest{};
  unsigned int length = 0;
  const int done = EVP_Digest(bytes.data(),
                              bytes.size(),
                              reinterpret_cast<unsigned char*>(digest.data()),
                              &length,
                              sha256_algorithm(),
                              nullptr);
  VMS_ASSERT(done == 1 && length == digest.size());
  return digest;
}

struct Sha256Stream::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
};

Sha256Stream::Sha256Stream() : state_(std::make_unique<State>()) {
  VMS_ASSERT(state_->context != nullptr);
  const int done = EVP_DigestInit_ex2(state_->context, sha256_algorithm(), nullptr);
  VMS_ASSERT(done == 1);
}

Sha256Stream::~Sha256Stream() {
  EVP_MD_CTX_free(state_->context);
}

void Sha256Stream::update(ByteSpan bytes) {
  const int done = EVP_DigestUpdate(state_->context, bytes.data(), bytes.size());
  VMS_ASSERT(done == 1);
}

Sha256 Sha256Stream::finish() {
  Sha256 digest{};
  unsigned int length = 0;
  const int done =
      EVP_DigestFinal_ex(state_->context, reinterpret_cast<unsigned char*>(digest.data()), &length);
  VMS_ASSERT(done == 1 && length == digest.size());
  return digest;
}

bool is_all_zero(ByteSpan bytes) noexcept {
  if (bytes.empty()) return true;
  return bytes[0] == std::byte{0} &&
         std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0;
}

}  // namespace vmstore
