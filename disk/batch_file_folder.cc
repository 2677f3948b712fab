// SPDX-License-Identifier: Apache-2.0
#include "disk/batch_file_folder.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "base/process.h"

namespace vmstore::disk {
namespace {

constexpr mode_t kFolderMode = 0700;
constexpr mode_t kFileMode = 0600;
constexpr mode_t kOthersMask = 077;
// A group may enter the folder (`up --socket-group`): files are private themselves, and only who
// may write to the folder could put another in their place.
constexpr mode_t kFolderOthersMask = 027;
constexpr int kLockAttempts = 16;  // a file is replaced between open and lock at most now and then
constexpr int kAsideNamesMax = 1000;

/// Closes what it holds.
class Descriptor {
 public:
  explicit Descriptor(int fd = -1) noexcept : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

struct Folder {
  Descriptor fd;
  std::string path;
};

bool is_private_to_us(const struct stat& info) noexcept {
  return info.st_uid == ::geteuid() && (info.st_mode & kOthersMask) == 0;
}

bool is_same_file(const struct stat& a, const struct stat& b) noexcept {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/// `not_found`: it is not there and was not to be made. `permission`: others may change it, or all
/// may enter it, or it is another user's.
Result<Folder> open_folder(const std::string& path, bool create) {
  if (create && ::mkdir(path.c_str(), kFolderMode) != 0 && errno != EEXIST) return last_os_error();
  Descriptor fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (fd.get() < 0) return last_os_error();
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return last_os_error();
  const bool is_ours = info.st_uid == ::geteuid() && (info.st_mode & kFolderOthersMask) == 0;
  if (!is_ours) return Errc::permission;
  return Folder{std::move(fd), path};
}

bool is_tmpfs(const Folder& folder) noexcept {
  struct statfs info {};
  return ::fstatfs(folder.fd.get(), &info) == 0 && info.f_type == TMPFS_MAGIC;
}

/// The folders a batch file may lie in, the one to make it in first.
Result<std::vector<Folder>> find_folders(const std::string& run_folder, bool create) {
  std::vector<Folder> folders;
  if (!run_folder.empty()) {
    VMS_TRY(Folder folder, open_folder(run_folder, create));
    folders.push_back(std::move(folder));
    return folders;
  }
  auto packaged = open_folder("/run/vmstore", false);
  if (packaged && is_tmpfs(*packaged)) folders.push_back(std::move(*packaged));
  // Looked into even when /run/vmstore is there: that may have been made after the batch file was.
  const std::string own_path = "/dev/shm/vmstore-" + std::to_string(::geteuid());
  auto own = open_folder(own_path, create && folders.empty());
  if (own) {
    folders.push_back(std::move(*own));
  } else if (own.error() != Errc::not_found) {
    return own.error();  // it cannot be looked into: what is missing may be in there
  }
  if (folders.empty()) return Errc::not_found;
  return folders;
}

/// "3f1c2b7a-..." to 128 bits.
std::optional<BootId> parse_uuid(std::string text) {
  std::erase(text, '-');
  return BootId::parse(text);
}

Result<std::string> read_small_file(const std::string& path) {
  const Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) return last_os_error();
  std::array<char, 4096> text{};
  const auto got = ::read(fd.get(), text.data(), text.size());
  if (got < 0) return last_os_error();
  return std::string(text.data(), static_cast<std::size_t>(got));
}

}  // namespace

MappedBatchFile::MappedBatchFile(int folder_fd, std::string folder, std::string name) noexcept
    : folder_fd_(folder_fd), name_(std::move(name)), path_(std::move(folder) + "/" + name_) {}

MappedBatchFile::~MappedBatchFile() {
  if (memory_ != nullptr) ::munmap(memory_, bytes_);
  if (fd_ >= 0) ::close(fd_);
  ::close(folder_fd_);
}

/// Opens the file under its name and locks it. The name may be removed or replaced between the two:
/// then the lock is on a file that nobody will find again, and the next attempt opens the new one.
Result<void> MappedBatchFile::open_and_lock(bool create) {
  const int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | (create ? O_CREAT : 0);
  for (int attempt = 0; attempt < kLockAttempts; ++attempt) {
    Descriptor fd(::openat(folder_fd_, name_.c_str(), flags, kFileMode));
    if (fd.get() < 0) return last_os_error();
    struct stat opened {};
    if (::fstat(fd.get(), &opened) != 0) return last_os_error();
    if (!S_ISREG(opened.st_mode) || !is_private_to_us(opened)) return Errc::permission;
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
      return errno == EWOULDBLOCK ? Error(Errc::busy, errno) : last_os_error();
    }
    struct stat named {};
    const int found = ::fstatat(folder_fd_, name_.c_str(), &named, AT_SYMLINK_NOFOLLOW);
    if (found != 0 || !is_same_file(opened, named) || ::fstat(fd.get(), &opened) != 0) continue;
    fd_ = fd.release();
    bytes_ = static_cast<std::size_t>(opened.st_size);
    if (bytes_ == 0) return success();
    // A file of another size is mapped as it is: scan_batch_file() refuses it, set_aside() works.
    return bytes_ == limits::kBatchFileBytes ? allocate() : map();
  }
  return Errc::busy;
}

Result<void> MappedBatchFile::allocate() {
  VMS_ASSERT(memory_ == nullptr);
  int failure = 0;
  do {
    failure = ::posix_fallocate(fd_, 0, static_cast<off_t>(limits::kBatchFileBytes));
  } while (failure == EINTR);
  if (failure != 0) return Error(errno_to_errc(failure), failure);
  bytes_ = limits::kBatchFileBytes;
  return map();
}

Result<void> MappedBatchFile::map() {
  void* const memory =
      ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd_, 0);
  if (memory == MAP_FAILED) return last_os_error();
  memory_ = static_cast<std::byte*>(memory);
  return success();
}

MutableBytes MappedBatchFile::memory() const noexcept {
  VMS_ASSERT(memory_ != nullptr);
  return {memory_, bytes_};
}

Result<void> MappedBatchFile::remove() {
  if (::unlinkat(folder_fd_, name_.c_str(), 0) != 0) return last_os_error();
  return success();
}

Result<std::string> MappedBatchFile::set_aside() {
  for (int number = 1; number <= kAsideNamesMax; ++number) {
    const std::string suffix = ".aside-" + std::to_string(number);
    const std::string name = name_ + suffix;
    if (::renameat2(folder_fd_, name_.c_str(), folder_fd_, name.c_str(), RENAME_NOREPLACE) == 0) {
      return path_ + suffix;
    }
    if (errno != EEXIST) return last_os_error();
  }
  return Errc::exists;
}

Result<std::unique_ptr<MappedBatchFile>> open_batch_file(const std::string& run_folder,
                                                         StoreId store,
                                                         DiskId disk,
                                                         bool create) {
  VMS_TRY(std::vector<Folder> folders, find_folders(run_folder, create));
  const std::string name = store.hex() + "-" + disk.hex();
  const auto open_in = [&](Folder& folder, bool make) -> Result<std::unique_ptr<MappedBatchFile>> {
    const int folder_fd = ::fcntl(folder.fd.get(), F_DUPFD_CLOEXEC, 0);
    if (folder_fd < 0) return last_os_error();
    std::unique_ptr<MappedBatchFile> file(new MappedBatchFile(folder_fd, folder.path, name));
    VMS_CHECK(file->open_and_lock(make));
    return file;
  };
  for (Folder& folder : folders) {
    auto file = open_in(folder, false);
    if (file || file.error() != Errc::not_found) return file;
  }
  if (!create) return Errc::not_found;
  return open_in(folders.front(), true);
}

Result<BootId> read_boot_id() {
  VMS_TRY(std::string text, read_small_file("/proc/sys/kernel/random/boot_id"));
  while (!text.empty() && text.back() == '\n') text.pop_back();
  const auto boot = parse_uuid(std::move(text));
  if (!boot) return Errc::unknown;
  return *boot;
}

Result<GuestProcess> read_guest_process(std::uint32_t pid) {
  VMS_TRY(const ProcessStat stat, read_process_stat(pid));
  GuestProcess process;
  process.pid = pid;
  process.start_time = stat.start_ticks;
  return process;
}

}  // namespace vmstore::disk
