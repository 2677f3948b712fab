// SPDX-License-Identifier: Apache-2.0
#include "cli/output_file.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "cli/leftover.h"

namespace vmstore::cli {
namespace {

std::string folder_of(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

/// Makes the folder's new entry durable.
bool sync_folder(const std::string& folder) {
  const UniqueFd fd(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return fd && fsync(fd.get()) == 0;
}

}  // namespace

Answer<OutputFile> OutputFile::create(const std::string& path, bool replace) {
  struct stat there {};
  // A rename would put a file in the place of a device, or of a link to one.
  if (replace && lstat(path.c_str(), &there) == 0 && !S_ISREG(there.st_mode)) {
    return Failure::make(ExitCode::usage,
                         path,
                         "is not a regular file and is not replaced",
                         "write to a file, then copy it there");
  }
  if (!replace && access(path.c_str(), F_OK) == 0) {
    return Failure::make(
        ExitCode::exists, path, "exists already", "choose another name or give --overwrite");
  }
  const std::string name = std::filesystem::path(path).filename().string();
  if (name.empty()) return Failure::make(ExitCode::usage, path, "not the name of a file");
  sweep_parts(path);
  const std::string temporary =
      folder_of(path) + "/." + name.substr(0, 200) + std::string(kPartMark) + maker_tag();
  UniqueFd fd(open(temporary.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666));
  if (!fd) {
    const Error error = last_os_error();
    const bool has_no_folder = error == Error(Errc::not_found);
    return Failure::from(error, path, has_no_folder ? "mkdir -p " + folder_of(path) : "");
  }
  return OutputFile(path, temporary, replace, std::move(fd));
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::move(other.temporary_)),
      replace_(other.replace_),
      fd_(std::move(other.fd_)),
      appended_(other.appended_) {
  other.temporary_.clear();
}

OutputFile::~OutputFile() {
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

Failure OutputFile::failed() const {
  const Error error = last_os_error();
  return Failure::from(
      error,
      path_,
      error == Error(Errc::no_space) ? "make room there; nothing was left behind" : "");
}

Answer<void> OutputFile::write_at(std::uint64_t offset, ByteSpan bytes) {
  while (!bytes.empty()) {
    const ssize_t done = pwrite(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return failed();
    offset += static_cast<std::uint64_t>(done);
    bytes = bytes.subspan(static_cast<std::size_t>(done));
  }
  return {};
}

Answer<void> OutputFile::append(std::string_view text) {
  VMS_CHECK(write_at(appended_, as_byte_span(text)));
  appended_ += text.size();
  return {};
}

Answer<void> OutputFile::set_size(std::uint64_t bytes) {
  if (ftruncate(fd_.get(), static_cast<off_t>(bytes)) != 0) return failed();
  return {};
}

Answer<void> OutputFile::reopen() {
  fd_ = UniqueFd(open(temporary_.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (!fd_) return failed();
  return {};
}

Answer<void> OutputFile::commit() {
  if (fsync(fd_.get()) != 0) return failed();
  const unsigned flags = replace_ ? 0 : RENAME_NOREPLACE;
  int renamed = renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, path_.c_str(), flags);
  if (renamed != 0 && errno == EINVAL) {  // a file system that cannot promise not to replace
    renamed = rename(temporary_.c_str(), path_.c_str());
  }
  if (renamed != 0) return failed();
  temporary_.clear();
  if (!sync_folder(folder_of(path_))) return failed();
  return {};
}

}  // namespace vmstore::cli
