// SPDX-License-Identifier: Apache-2.0
// The bytes of a file.
#include <fcntl.h>

#include <algorithm>

#include "fuse/mount.h"

namespace vmstore::fuse {
namespace {

constexpr unsigned kTransferBytesMax = 1024 * 1024;
constexpr unsigned kBackgroundMax = 64;

FileHandle& file_of(const fuse_file_info* file) noexcept {
  return *reinterpret_cast<FileHandle*>(file->fh);
}

void init(void* /*mount*/, fuse_conn_info* connection) noexcept {
  connection->max_write = kTransferBytesMax;
  connection->max_readahead = kTransferBytesMax;
  connection->max_background = kBackgroundMax;
}

/// Why a file may not be opened so.
Result<void> check_open(const Node& node, int flags) {
  if (is_folder(node.place.kind)) return Errc::invalid_argument;
  const bool wants_write = (flags & O_ACCMODE) != O_RDONLY;
  if (wants_write && node.place.kind == Kind::snapshot) return Errc::read_only;
  if ((flags & O_TRUNC) == 0) return success();
  VMS_LOG(warning,
          "fuse",
          node.place.name << ": a disk cannot be emptied by opening it: use vmstore import, "
                             "qemu-img convert -n, or dd conv=notrunc");
  return Errc::permission;
}

void open_file(fuse_req_t request, fuse_ino_t inode, fuse_file_info* file) noexcept {
  answer(request, "open", [&](Mount& mount) -> Result<void> {
    const auto node = mount.nodes().find(Inode{inode});
    if (!node) return Errc::conflict;
    VMS_CHECK(check_open(*node, file->flags));
    auto handle = std::make_unique<FileHandle>();
    VMS_TRY(handle->disk, mount.open_disks().open(node->place.name, node->identity));
    const bool is_fixed = node->place.kind == Kind::snapshot;
    file->direct_io = is_fixed ? 0 : 1;
    file->keep_cache = is_fixed ? 1 : 0;
    file->fh = reinterpret_cast<std::uint64_t>(handle.get());
    if (fuse_reply_open(request, file) == 0) {
      static_cast<void>(handle.release());  // the kernel will release it
    } else {
      ignore(mount.open_disks().release(handle->disk), "nobody wrote to it");
    }
    return success();
  });
}

void release_file(fuse_req_t request, fuse_ino_t /*inode*/, fuse_file_info* file) noexcept {
  answer(request, "close", [&](Mount& mount) -> Result<void> {
    const std::unique_ptr<FileHandle> handle(&file_of(file));
    if (const auto closed = mount.open_disks().release(handle->disk); !closed) {
      // close(2) has returned already; what fsync(2) or close(2) did not promise may be lost.
      VMS_LOG(error,
              "fuse",
              handle->disk->reference() << ": giving the disk back: " << to_string(closed.error()));
    }
    fuse_reply_err(request, 0);
    return success();
  });
}

void read_file(fuse_req_t request,
               fuse_ino_t /*inode*/,
               std::size_t bytes,
               off_t offset,
               fuse_file_info* file) noexcept {
  answer(request, "read", [&](Mount&) -> Result<void> {
    const FileRange asked{static_cast<std::uint64_t>(offset), bytes};
    const auto buffer = std::make_unique_for_overwrite<std::byte[]>(bytes);
    std::size_t count = 0;
    VMS_CHECK(file_of(file).disk->use([&](disk::BlockingDisk& disk) {
      const FileRange inside = clip(asked, disk.info().size_bytes);
      count = inside.bytes;
      return disk.read(inside.offset, MutableBytes(buffer.get(), count));
    }));
    fuse_reply_buf(request, reinterpret_cast<const char*>(buffer.get()), count);
    return success();
  });
}

/// Behind the end there is no space, as on any disk.
void write_file(fuse_req_t request,
                fuse_ino_t /*inode*/,
                const char* from,
                std::size_t bytes,
                off_t offset,
                fuse_file_info* file) noexcept {
  answer(request, "write", [&](Mount&) -> Result<void> {
    FileHandle& handle = file_of(file);
    const FileRange asked{static_cast<std::uint64_t>(offset), bytes};
    const bool is_synced = (file->flags & (O_SYNC | O_DSYNC)) != 0;
    std::size_t count = 0;
    handle.wrote = true;
    VMS_CHECK(handle.disk->use([&](disk::BlockingDisk& disk) -> Result<void> {
      const FileRange inside = clip(asked, disk.info().size_bytes);
      count = inside.bytes;
      if (count == 0) return Errc::no_space;
      return disk.write(inside.offset, as_byte_span({from, count}), is_synced);
    }));
    fuse_reply_write(request, count);
    return success();
  });
}

Result<void> flush_disk(FileHandle& handle) {
  handle.wrote = false;  // before: a write that comes meanwhile sets it again
  const Result<void> flushed =
      handle.disk->use([](disk::BlockingDisk& disk) { return disk.flush(); });
  if (!flushed) handle.wrote = true;
  return flushed;
}

/// close(2) of a file that was written: the program learns here whether its data is safe.
void flush_file(fuse_req_t request, fuse_ino_t /*inode*/, fuse_file_info* file) noexcept {
  answer(request, "flush", [&](Mount&) -> Result<void> {
    FileHandle& handle = file_of(file);
    if (handle.wrote) VMS_CHECK(flush_disk(handle));
    fuse_reply_err(request, 0);
    return success();
  });
}

void sync_file(fuse_req_t request,
               fuse_ino_t /*inode*/,
               int /*data_only*/,
               fuse_file_info* file) noexcept {
  answer(request, "fsync", [&](Mount&) -> Result<void> {
    VMS_CHECK(flush_disk(file_of(file)));
    fuse_reply_err(request, 0);
    return success();
  });
}

Result<void> truncate(Mount& mount, Inode inode, std::uint64_t bytes, const FileHandle* handle) {
  // It may only grow: what lies behind a new end is gone, and `vmstore resize --allow-shrink` asks.
  if (handle != nullptr) return handle->disk->resize(bytes, false);
  const auto node = mount.nodes().find(inode);
  if (!node || node->place.kind != Kind::disk) return Errc::read_only;
  VMS_TRY(const FileInfo info, mount.listing().find(node->place));
  if (info.identity != node->identity) return Errc::conflict;
  if (bytes < info.size_bytes) return Errc::permission;
  if (const auto open = mount.open_disks().find(node->place.name, node->identity)) {
    return open->resize(bytes, false);
  }
  return mount.client().resize(node->place.name, bytes, false, false);
}

void set_attributes(fuse_req_t request,
                    fuse_ino_t inode,
                    struct stat* wanted,
                    int which,
                    fuse_file_info* file) noexcept {
  answer(request, "change of attributes", [&](Mount& mount) -> Result<void> {
    const int fixed = FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID;
    if ((which & fixed) != 0) return Errc::permission;
    if ((which & FUSE_SET_ATTR_SIZE) != 0) {
      const FileHandle* handle = file == nullptr ? nullptr : &file_of(file);
      const auto bytes = static_cast<std::uint64_t>(wanted->st_size);
      VMS_CHECK(truncate(mount, Inode{inode}, bytes, handle));
    }
    // Times are not kept; touch(1) and cp -p need not fail for that.
    VMS_TRY(const struct stat shown, mount.attributes(Inode{inode}));
    fuse_reply_attr(request, &shown, kBelievedSeconds);
    return success();
  });
}

void allocate_range(fuse_req_t request,
                    fuse_ino_t /*inode*/,
                    int mode,
                    off_t offset,
                    off_t bytes,
                    fuse_file_info* file) noexcept {
  answer(request, "fallocate", [&](Mount&) -> Result<void> {
    FileHandle& handle = file_of(file);
    const FileRange range{static_cast<std::uint64_t>(offset), static_cast<std::uint64_t>(bytes)};
    handle.wrote = true;
    VMS_CHECK(
        handle.disk->use([&](disk::BlockingDisk& disk) { return allocate(disk, mode, range); }));
    fuse_reply_err(request, 0);
    return success();
  });
}

void seek_file(fuse_req_t request,
               fuse_ino_t /*inode*/,
               off_t offset,
               int whence,
               fuse_file_info* file) noexcept {
  answer(request, "lseek", [&](Mount&) -> Result<void> {
    if (whence != SEEK_DATA && whence != SEEK_HOLE) return Errc::invalid_argument;
    const SeekFor what = whence == SEEK_DATA ? SeekFor::data : SeekFor::hole;
    VMS_TRY(const auto found, file_of(file).disk->use([&](disk::BlockingDisk& disk) {
      return seek(disk, static_cast<std::uint64_t>(offset), what);
    }));
    if (found) {
      fuse_reply_lseek(request, static_cast<off_t>(*found));
    } else {
      fuse_reply_err(request, ENXIO);
    }
    return success();
  });
}

}  // namespace

void add_file_operations(fuse_lowlevel_ops& operations) noexcept {
  operations.init = init;
  operations.open = open_file;
  operations.release = release_file;
  operations.read = read_file;
  operations.write = write_file;
  operations.flush = flush_file;
  operations.fsync = sync_file;
  operations.setattr = set_attributes;
  operations.fallocate = allocate_range;
  operations.lseek = seek_file;
}

}  // namespace vmstore::fuse
