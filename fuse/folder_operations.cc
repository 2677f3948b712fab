// SPDX-License-Identifier: Apache-2.0
// Names: look-ups, folders, and what cannot be done to either.
#include "fuse/mount.h"

namespace vmstore::fuse {
namespace {

constexpr std::uint64_t kNameBytesMax = 255;
constexpr std::uint64_t kBlockBytes = 4096;

FolderHandle& folder_of(const fuse_file_info* file) noexcept {
  return *reinterpret_cast<FolderHandle*>(file->fh);
}

void look_up(fuse_req_t request, fuse_ino_t parent, const char* name) noexcept {
  answer(request, "look-up", [&](Mount& mount) -> Result<void> {
    const auto folder = mount.nodes().find(Inode{parent});
    if (!folder) return Errc::conflict;
    VMS_TRY(const FileInfo info, mount.listing().find_in(folder->place, name));
    const fuse_entry_param found = mount.entry(info);
    if (fuse_reply_entry(request, &found) != 0) mount.nodes().forget(Inode{found.ino}, 1);
    return success();
  });
}

void forget(fuse_req_t request, fuse_ino_t inode, std::uint64_t count) noexcept {
  mount_of(request).nodes().forget(Inode{inode}, count);
  fuse_reply_none(request);
}

void forget_many(fuse_req_t request, std::size_t count, fuse_forget_data* forgotten) noexcept {
  for (std::size_t i = 0; i < count; ++i) {
    mount_of(request).nodes().forget(Inode{forgotten[i].ino}, forgotten[i].nlookup);
  }
  fuse_reply_none(request);
}

void get_attributes(fuse_req_t request, fuse_ino_t inode, fuse_file_info* /*file*/) noexcept {
  answer(request, "stat", [&](Mount& mount) -> Result<void> {
    VMS_TRY(const struct stat shown, mount.attributes(Inode{inode}));
    fuse_reply_attr(request, &shown, kBelievedSeconds);
    return success();
  });
}

void open_folder(fuse_req_t request, fuse_ino_t inode, fuse_file_info* file) noexcept {
  answer(request, "open folder", [&](Mount& mount) -> Result<void> {
    const auto node = mount.nodes().find(Inode{inode});
    if (!node) return Errc::conflict;
    auto handle = std::make_unique<FolderHandle>();
    VMS_TRY(handle->entries, mount.listing().list(node->place));
    file->fh = reinterpret_cast<std::uint64_t>(handle.get());
    // The kernel releases what it was answered; nobody does if it went away meanwhile.
    if (fuse_reply_open(request, file) == 0) static_cast<void>(handle.release());
    return success();
  });
}

void release_folder(fuse_req_t request, fuse_ino_t /*inode*/, fuse_file_info* file) noexcept {
  const std::unique_ptr<FolderHandle> handle(&folder_of(file));
  fuse_reply_err(request, 0);
}

/// Entries from `offset` on, as many as fit into `bytes`. `.` and `..` go first.
Result<void> reply_entries(fuse_req_t request,
                           std::size_t bytes,
                           std::size_t offset,
                           const FolderHandle& folder,
                           bool with_attributes) {
  Mount& mount = mount_of(request);
  std::vector<char> buffer(bytes);
  std::size_t used = 0;
  constexpr std::size_t kDots = 2;
  for (std::size_t i = offset; i < folder.entries.size() + kDots; ++i) {
    fuse_entry_param entry{};
    std::string name = i == 0 ? "." : "..";
    entry.attr.st_mode = S_IFDIR;
    entry.attr.st_ino = FUSE_ROOT_ID;
    const bool counts = i >= kDots && with_attributes;
    if (i >= kDots) {
      const FileInfo& info = folder.entries[i - kDots];
      name = entry_name(info.place);
      if (counts) entry = mount.entry(info);
      if (!counts) entry.attr.st_mode = is_folder(info.place.kind) ? S_IFDIR : S_IFREG;
      if (!counts) entry.attr.st_ino = 0xffffffff;  // not known yet
    }
    const auto next = static_cast<off_t>(i + 1);
    char* to = buffer.data() + used;
    const std::size_t needed =
        with_attributes
            ? fuse_add_direntry_plus(request, to, bytes - used, name.c_str(), &entry, next)
            : fuse_add_direntry(request, to, bytes - used, name.c_str(), &entry.attr, next);
    if (needed > bytes - used) {
      if (counts) mount.nodes().forget(Inode{entry.ino}, 1);  // not told
      break;
    }
    used += needed;
  }
  fuse_reply_buf(request, buffer.data(), used);
  return success();
}

void read_folder(fuse_req_t request,
                 fuse_ino_t /*inode*/,
                 std::size_t bytes,
                 off_t offset,
                 fuse_file_info* file) noexcept {
  answer(request, "list", [&](Mount&) {
    return reply_entries(request, bytes, static_cast<std::size_t>(offset), folder_of(file), false);
  });
}

void read_folder_plus(fuse_req_t request,
                      fuse_ino_t /*inode*/,
                      std::size_t bytes,
                      off_t offset,
                      fuse_file_info* file) noexcept {
  answer(request, "list", [&](Mount&) {
    return reply_entries(request, bytes, static_cast<std::size_t>(offset), folder_of(file), true);
  });
}

void get_space(fuse_req_t request, fuse_ino_t /*inode*/) noexcept {
  answer(request, "statfs", [&](Mount& mount) -> Result<void> {
    VMS_TRY(const disk::NodeStatus status, mount.client().node_status());
    struct statvfs space {};
    space.f_bsize = kBlockBytes;
    space.f_frsize = kBlockBytes;
    space.f_blocks = status.total_bytes / kBlockBytes;
    space.f_bfree = status.free_bytes / kBlockBytes;
    space.f_bavail = space.f_bfree;
    space.f_namemax = kNameBytesMax;
    fuse_reply_statfs(request, &space);
    return success();
  });
}

// ---- what people do to names with `vmstore`, not here ----

void refuse(fuse_req_t request) noexcept {
  answer(request, "change of a name", [](Mount&) -> Result<void> {
    VMS_LOG(info,
            "fuse",
            "files cannot be made, renamed or removed here: see vmstore create, mv and rm");
    return Errc::permission;
  });
}
void refuse_create(fuse_req_t request, fuse_ino_t, const char*, mode_t, fuse_file_info*) noexcept {
  refuse(request);
}
void refuse_mknod(fuse_req_t request, fuse_ino_t, const char*, mode_t, dev_t) noexcept {
  refuse(request);
}
void refuse_mkdir(fuse_req_t request, fuse_ino_t, const char*, mode_t) noexcept {
  refuse(request);
}
void refuse_removal(fuse_req_t request, fuse_ino_t, const char*) noexcept {
  refuse(request);
}
void refuse_symlink(fuse_req_t request, const char*, fuse_ino_t, const char*) noexcept {
  refuse(request);
}
void refuse_rename(
    fuse_req_t request, fuse_ino_t, const char*, fuse_ino_t, const char*, unsigned) noexcept {
  refuse(request);
}
void refuse_link(fuse_req_t request, fuse_ino_t, fuse_ino_t, const char*) noexcept {
  refuse(request);
}

}  // namespace

void add_folder_operations(fuse_lowlevel_ops& operations) noexcept {
  operations.lookup = look_up;
  operations.forget = forget;
  operations.forget_multi = forget_many;
  operations.getattr = get_attributes;
  operations.opendir = open_folder;
  operations.readdir = read_folder;
  operations.readdirplus = read_folder_plus;
  operations.releasedir = release_folder;
  operations.statfs = get_space;
  operations.create = refuse_create;
  operations.mknod = refuse_mknod;
  operations.mkdir = refuse_mkdir;
  operations.unlink = refuse_removal;
  operations.rmdir = refuse_removal;
  operations.symlink = refuse_symlink;
  operations.rename = refuse_rename;
  operations.link = refuse_link;
}

}  // namespace vmstore::fuse
