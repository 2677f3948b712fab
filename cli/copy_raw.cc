// SPDX-License-Identifier: Apache-2.0
// Raw files, devices and streams as sources of an import.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/checksum.h"
#include "cli/copy_in.h"
#include "cli/interrupt.h"
#include "cli/process.h"

namespace vmstore::cli {
namespace {

Failure became_shorter(const std::string& path) {
  return Failure::make(ExitCode::failed, path, "became shorter while it was read");
}

class RawFile final : public CopySource {
 public:
  RawFile(std::string path, UniqueFd fd, std::uint64_t size)
      : path_(std::move(path)), fd_(std::move(fd)), size_(size) {}

  [[nodiscard]] std::uint64_t size_bytes() const noexcept override { return size_; }

  [[nodiscard]] Answer<CopyTotals> copy(WritePool& into, const CopyProgress& progress) override {
    CopyTotals totals;
    for (std::uint64_t at = 0; at < size_;) {
      const std::uint64_t data = next(at, SEEK_DATA, size_);
      const std::uint64_t end = data >= size_ ? size_ : next(data, SEEK_HOLE, size_);
      for (at = data; at < end;) {
        if (interrupted()) return interruption();
        VMS_TRY(const std::size_t got, copy_piece(into, at, end - at));
        if (got == 0) return totals;  // finish() tells why the pool takes no more
        at += got;
        totals.read_bytes += got;
        progress(at, totals.read_bytes);
      }
      at = end;
    }
    totals.size_bytes = size_;
    return totals;
  }

 private:
  /// Where data or a hole begins; a file system that cannot tell has only data.
  [[nodiscard]] std::uint64_t next(std::uint64_t at, int what, std::uint64_t end) const {
    const off_t found = lseek(fd_.get(), static_cast<off_t>(at), what);
    if (found >= 0) return std::min(static_cast<std::uint64_t>(found), end);
    if (errno == ENXIO) return end;
    return what == SEEK_DATA ? at : end;
  }

  [[nodiscard]] Answer<std::size_t> copy_piece(WritePool& into,
                                               std::uint64_t at,
                                               std::uint64_t bytes) const {
    CopyBuffer* buffer = into.take();
    if (buffer == nullptr) return 0;
    const std::size_t wanted = std::min<std::uint64_t>(bytes, buffer->storage.size());
    std::size_t done = 0;
    while (done < wanted) {
      const ssize_t got = pread(
          fd_.get(), buffer->storage.data() + done, wanted - done, static_cast<off_t>(at + done));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) {
        const Failure failure =
            got == 0 ? became_shorter(path_) : Failure::from(last_os_error(), path_);
        into.give_back(buffer);
        return failure;
      }
      done += static_cast<std::size_t>(got);
    }
    buffer->offset = at;
    buffer->used = wanted;
    if (is_all_zero(ByteSpan(buffer->storage).first(wanted))) {
      into.give_back(buffer);
    } else {
      into.submit(buffer);
    }
    return wanted;
  }

  std::string path_;
  UniqueFd fd_;
  std::uint64_t size_;
};

/// Fills the buffer as far as the stream goes; 0 is its end.
Answer<std::size_t> fill(int fd, MutableBytes into) {
  std::size_t done = 0;
  while (done < into.size()) {
    const ssize_t got = read(fd, into.data() + done, into.size() - done);
    if (got < 0 && errno == EINTR) {
      if (interrupted()) return interruption();
      continue;
    }
    if (got < 0) return Failure::from(last_os_error(), "standard input");
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  return done;
}

}  // namespace

Answer<std::unique_ptr<CopySource>> open_raw_file(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return Failure::from(last_os_error(), path);
  struct stat info {};
  if (fstat(fd.get(), &info) != 0) return Failure::from(last_os_error(), path);
  if (!S_ISREG(info.st_mode) && !S_ISBLK(info.st_mode)) {
    return Failure::make(ExitCode::usage, path, "neither a file nor a block device");
  }
  const off_t size = lseek(fd.get(), 0, SEEK_END);
  if (size < 0) return Failure::from(last_os_error(), path);
  return std::unique_ptr<CopySource>(
      std::make_unique<RawFile>(path, std::move(fd), static_cast<std::uint64_t>(size)));
}

Answer<CopyTotals> copy_stream(int fd,
                               std::uint64_t size_max,
                               WritePool& into,
                               const CopyProgress& progress) {
  CopyTotals totals;
  while (true) {
    if (interrupted()) return interruption();
    CopyBuffer* buffer = into.take();
    if (buffer == nullptr) return totals;
    Answer<std::size_t> got = fill(fd, buffer->storage);
    if (!got || *got == 0) {
      into.give_back(buffer);
      if (!got) return got.error();
      return totals;
    }
    if (*got > size_max - totals.size_bytes) {
      into.give_back(buffer);
      return Failure::make(ExitCode::failed,
                           "standard input",
                           "is longer than " + std::to_string(size_max) + " bytes");
    }
    buffer->offset = totals.size_bytes;
    buffer->used = *got;
    totals.size_bytes += *got;
    totals.read_bytes += *got;
    if (is_all_zero(ByteSpan(buffer->storage).first(*got))) {
      into.give_back(buffer);
    } else {
      into.submit(buffer);
    }
    progress(totals.size_bytes, totals.read_bytes);
  }
}

}  // namespace vmstore::cli
