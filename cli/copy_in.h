// SPDX-License-Identifier: Apache-2.0
// Reading the sources of an import into a disk that is all zeros: only data is read and written,
// several requests at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "cli/failure.h"
#include "cli/write_pool.h"

namespace vmstore::cli {

/// Told now and then how far the copy is (in bytes of the source) and how much it has read. Runs on
/// the copying thread.
using CopyProgress = std::function<void(std::uint64_t position, std::uint64_t read_bytes)>;

struct CopyTotals {
  std::uint64_t size_bytes = 0;  // of the source, as far as it went
  std::uint64_t read_bytes = 0;
};

/// Something with a size that can be copied once. THREADS: one.
class CopySource {
 public:
  virtual ~CopySource() = default;
  [[nodiscard]] virtual std::uint64_t size_bytes() const noexcept = 0;
  /// Submits everything that is not known to be zeros; the caller finishes the pool.
  [[nodiscard]] virtual Answer<CopyTotals> copy(WritePool& into, const CopyProgress& progress) = 0;
};

/// A raw file or block device; holes are skipped.
[[nodiscard]] Answer<std::unique_ptr<CopySource>> open_raw_file(const std::string& path);
/// An image that a child qemu-nbd reads, or a server named by a URI.
[[nodiscard]] Answer<std::unique_ptr<CopySource>> open_image(const std::string& path,
                                                             const std::string& format);
[[nodiscard]] Answer<std::unique_ptr<CopySource>> open_nbd(const std::string& uri);

/// Raw bytes up to the end of the stream; at most `size_max`.
[[nodiscard]] Answer<CopyTotals> copy_stream(int fd,
                                             std::uint64_t size_max,
                                             WritePool& into,
                                             const CopyProgress& progress);

}  // namespace vmstore::cli
