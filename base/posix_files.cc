// SPDX-License-Identifier: Apache-2.0
#include "base/posix_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/openat2.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <utility>

namespace vmstore {
namespace {

constexpr mode_t kFileMode = 0600;
constexpr mode_t kFolderMode = 0700;

/// Closes a descriptor.
class Descriptor {
 public:
  explicit Descriptor(int number) noexcept : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  [[nodiscard]] int number() const noexcept { return number_; }

 private:
  int number_;
};

class PosixFile final : public File {
 public:
  explicit PosixFile(int fd) noexcept : fd_(fd) {}
  ~PosixFile() override {
    ::close(fd_);
    if (const int direct = direct_fd_.load(); direct >= 0) ::close(direct);
  }

  Result<std::size_t> read(std::uint64_t offset, MutableBytes into) override {
    return read_with_flags(offset, into, 0);
  }
  Result<std::size_t> read_cached(std::uint64_t offset, MutableBytes into) override {
    return read_with_flags(offset, into, RWF_NOWAIT);
  }
  Result<void> write(std::uint64_t offset, ByteSpan bytes) override {
    return write_to(fd_, offset, bytes);
  }
  Result<void> write_uncached(std::uint64_t offset, ByteSpan bytes) override {
    const auto address = reinterpret_cast<std::uintptr_t>(bytes.data());
    if ((offset | bytes.size() | address) % kDirectBytes != 0) return write(offset, bytes);
    const int direct = direct_descriptor();
    if (direct < 0) return write(offset, bytes);
    const auto written = write_to(direct, offset, bytes);
    if (written || written.error().os_errno != EINVAL) return written;
    return write(offset, bytes);  // a device of larger sectors
  }
  Result<void> sync() override { return check(::fdatasync(fd_)); }
  Result<void> allocate(std::uint64_t offset, std::uint64_t length) override {
    return fallocate_range(FALLOC_FL_KEEP_SIZE, offset, length);
  }
  Result<void> punch(std::uint64_t offset, std::uint64_t length) override {
    return fallocate_range(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
  }
  Result<void> truncate(std::uint64_t size) override {
    return check(::ftruncate(fd_, static_cast<off_t>(size)));
  }
  Result<std::uint64_t> size() override {
    VMS_TRY(const struct stat info, status());
    return static_cast<std::uint64_t>(info.st_size);
  }
  Result<std::uint64_t> allocated_bytes() override {
    VMS_TRY(const struct stat info, status());
    return static_cast<std::uint64_t>(info.st_blocks) * kStatBlockBytes;
  }
  Result<void> lock() override { return check(::flock(fd_, LOCK_EX | LOCK_NB)); }
  [[nodiscard]] int descriptor() const noexcept override { return fd_; }

 private:
  static constexpr std::uint64_t kStatBlockBytes = 512;  // unit of st_blocks, see stat(2)
  static constexpr std::uint64_t kDirectBytes = 4096;    // as much as any sector in use
  static constexpr int kNotYet = -1;
  static constexpr int kRefused = -2;

  static Result<void> write_to(int fd, std::uint64_t offset, ByteSpan bytes) {
    while (!bytes.empty()) {
      const auto wrote = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote <= 0) return last_os_error();
      offset += static_cast<std::uint64_t>(wrote);
      bytes = bytes.subspan(static_cast<std::size_t>(wrote));
    }
    return success();
  }
  /// The same file opened once more, with O_DIRECT; below zero: it cannot be, or not now.
  int direct_descriptor() {
    int known = direct_fd_.load(std::memory_order_acquire);
    if (known != kNotYet) return known;
    const std::string self = "/proc/self/fd/" + std::to_string(fd_);
    int opened = ::open(self.c_str(), O_WRONLY | O_DIRECT | O_CLOEXEC);
    if (opened < 0 && errno != EINVAL) return kNotYet;  // no descriptor free: it may be later
    if (opened < 0) opened = kRefused;
    if (direct_fd_.compare_exchange_strong(known, opened)) return opened;
    if (opened >= 0) ::close(opened);  // another thread was faster
    return known;
  }
  static Result<void> check(int outcome) {
    if (outcome != 0) return last_os_error();
    return success();
  }
  [[nodiscard]] Result<struct stat> status() const {
    struct stat info {};
    if (::fstat(fd_, &info) != 0) return last_os_error();
    return info;
  }
  [[nodiscard]] Result<void> fallocate_range(int mode, std::uint64_t offset, std::uint64_t length) {
    if (length == 0) return success();
    int outcome = 0;
    do {
      outcome = ::fallocate(fd_, mode, static_cast<off_t>(offset), static_cast<off_t>(length));
    } while (outcome != 0 && errno == EINTR);
    return check(outcome);
  }
  Result<std::size_t> read_with_flags(std::uint64_t offset, MutableBytes into, int flags) {
    std::size_t total = 0;
    while (total < into.size()) {
      const iovec part{into.data() + total, into.size() - total};
      const auto got = ::preadv2(fd_, &part, 1, static_cast<off_t>(offset + total), flags);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0 && flags != 0 && (errno == EAGAIN || errno == EOPNOTSUPP)) return Errc::busy;
      if (got < 0) return last_os_error();
      if (got == 0) break;
      total += static_cast<std::size_t>(got);
    }
    return total;
  }
  const int fd_;
  std::atomic<int> direct_fd_{kNotYet};
};

}  // namespace

Result<std::unique_ptr<PosixFiles>> PosixFiles::open_folder(const std::string& folder) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return last_os_error();
  return std::unique_ptr<PosixFiles>(new PosixFiles(fd));
}

PosixFiles::~PosixFiles() {
  ::close(folder_fd_);
}

Result<int> PosixFiles::open_below(std::string_view path, int flags) const {
  if (!path.empty() && !is_valid_path(path)) return Errc::invalid_argument;
  const std::string text(path.empty() ? "." : path);
  open_how how{};
  how.flags = static_cast<__u64>(flags | O_CLOEXEC | O_NOFOLLOW);
  how.mode = (flags & O_CREAT) != 0 ? kFileMode : 0;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
  const auto fd = ::syscall(SYS_openat2, folder_fd_, text.c_str(), &how, sizeof how);
  if (fd < 0) return last_os_error();
  return static_cast<int>(fd);
}

Result<std::unique_ptr<File>> PosixFiles::open(std::string_view path, const OpenOptions& options) {
  if (path.empty()) return Errc::invalid_argument;
  // O_NONBLOCK: opening a pipe that somebody put in place of a file must not hang.
  int flags = (options.write ? O_RDWR : O_RDONLY) | O_NONBLOCK;
  if (options.create) flags |= O_CREAT;
  if (options.must_be_new) flags |= O_EXCL;
  if (options.direct_sync) {
    flags |= O_DSYNC;
    auto direct = open_below(path, flags | O_DIRECT);
    if (direct) return std::unique_ptr<File>(std::make_unique<PosixFile>(*direct));
    if (direct.error().os_errno != EINVAL) return direct.error();
    used_direct_ = false;
    flags &= ~O_EXCL;  // the refused open may have made the file already
  }
  VMS_TRY(const int fd, open_below(path, flags));
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    return Errc::foreign_store;
  }
  return std::unique_ptr<File>(std::make_unique<PosixFile>(fd));
}

/// A name inside a folder that was opened without following links: unlinkat and its kin follow
/// links in every part of a path but the last.
struct PosixFiles::Place {
  Descriptor folder;
  std::string name;
};

Result<PosixFiles::Place> PosixFiles::place_of(std::string_view path) const {
  if (!is_valid_path(path)) return Errc::invalid_argument;
  const auto slash = path.rfind('/');
  const bool in_root = slash == std::string_view::npos;
  VMS_TRY(const int folder, open_below(in_root ? "" : path.substr(0, slash), O_PATH | O_DIRECTORY));
  return Place{Descriptor(folder), std::string(in_root ? path : path.substr(slash + 1))};
}

Result<void> PosixFiles::remove(std::string_view path) {
  VMS_TRY(const Place place, place_of(path));
  if (::unlinkat(place.folder.number(), place.name.c_str(), 0) != 0) return last_os_error();
  return success();
}

Result<void> PosixFiles::rename(std::string_view from, std::string_view to) {
  VMS_TRY(const Place source, place_of(from));
  VMS_TRY(const Place target, place_of(to));
  if (::renameat(source.folder.number(),
                 source.name.c_str(),
                 target.folder.number(),
                 target.name.c_str()) != 0) {
    return last_os_error();
  }
  return success();
}

Result<void> PosixFiles::make_folder(std::string_view path) {
  VMS_TRY(const Place place, place_of(path));
  if (::mkdirat(place.folder.number(), place.name.c_str(), kFolderMode) == 0) return success();
  if (errno != EEXIST) return last_os_error();
  VMS_TRY(const int fd, open_below(path, O_RDONLY | O_DIRECTORY));
  ::close(fd);
  return success();
}

Result<std::vector<std::string>> PosixFiles::list(std::string_view folder) {
  VMS_TRY(const int fd, open_below(folder, O_RDONLY | O_DIRECTORY));
  DIR* const stream = ::fdopendir(fd);
  if (stream == nullptr) {
    const Error error = last_os_error();
    ::close(fd);
    return error;
  }
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = ::readdir(stream)) {
    const std::string_view name(entry->d_name);
    if (name != "." && name != "..") names.emplace_back(name);
    errno = 0;
  }
  const int failure = errno;  // a list that ended early must never look like a short list (I9)
  ::closedir(stream);
  if (failure != 0) return Error(errno_to_errc(failure), failure);
  std::sort(names.begin(), names.end());
  return names;
}

Result<void> PosixFiles::sync_folder(std::string_view folder) {
  VMS_TRY(const int fd, open_below(folder, O_RDONLY | O_DIRECTORY));
  const int outcome = ::fsync(fd);
  const Error error = last_os_error();
  ::close(fd);
  if (outcome != 0) return error;
  return success();
}

Result<FolderSpace> PosixFiles::space() {
  struct statvfs info {};
  if (::fstatvfs(folder_fd_, &info) != 0) return last_os_error();
  return FolderSpace{info.f_blocks * info.f_frsize, info.f_bavail * info.f_frsize};
}

Result<void> PosixFiles::probe_hole_punching() {
  constexpr std::string_view kScratch = "probe.tmp";
  constexpr std::uint64_t kProbeBytes = 65536;
  OpenOptions options;
  options.create = true;
  const auto attempt = [&]() -> Result<void> {
    VMS_TRY(const auto file, open(kScratch, options));
    VMS_CHECK(file->allocate(0, kProbeBytes));
    return file->punch(0, kProbeBytes);
  };
  const Result<void> outcome = attempt();
  VMS_CHECK(remove(kScratch));
  return outcome;
}

}  // namespace vmstore
