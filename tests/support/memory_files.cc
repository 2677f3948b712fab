// SPDX-License-Identifier: Apache-2.0
#include "tests/support/memory_files.h"

#include <algorithm>
#include <cerrno>
#include <set>
#include <utility>

#include "base/assert.h"
#include "base/checksum.h"

namespace vmstore::sim {
namespace {

constexpr std::uint64_t kPage = MemoryInode::kPageBytes;
constexpr std::uint64_t kFileBytesMax = std::uint64_t{1} << 43;  // 8 TiB, as XFS and ext4 allow

}  // namespace

/// An open file.
class MemoryFile final : public File {
 public:
  MemoryFile(MemoryFiles& device,
             MemoryFiles::FilePtr node,
             std::string path,
             const OpenOptions& options)
      : device_(device),
        node_(std::move(node)),
        path_(std::move(path)),
        options_(options),
        generation_(device.generation_) {
    ++node_->opens;
  }
  ~MemoryFile() override {
    const std::lock_guard lock(device_.mutex_);
    if (generation_ != device_.generation_) return;
    if (node_->locked_by == this) node_->locked_by = nullptr;
    --node_->opens;
    device_.count_if_unused(*node_);
  }

  Result<std::size_t> read(std::uint64_t offset, MutableBytes into) override {
    const std::lock_guard lock(device_.mutex_);
    VMS_CHECK(check(FileOperation::read, offset, into.size(), into.data()));
    return node_->inode.read(offset, into);
  }
  Result<std::size_t> read_cached(std::uint64_t offset, MutableBytes into) override {
    {
      const std::lock_guard lock(device_.mutex_);
      const std::uint64_t n = device_.uncached_one_in_;
      if (n != 0 && device_.random_.one_in(n)) return Errc::busy;
    }
    return read(offset, into);
  }
  Result<void> write(std::uint64_t offset, ByteSpan bytes) override;
  Result<void> sync() override;
  Result<void> allocate(std::uint64_t offset, std::uint64_t length) override;
  Result<void> punch(std::uint64_t offset, std::uint64_t length) override;
  Result<void> truncate(std::uint64_t size) override;
  Result<std::uint64_t> size() override {
    const std::lock_guard lock(device_.mutex_);
    VMS_CHECK(check_alive());
    return node_->inode.size();
  }
  Result<std::uint64_t> allocated_bytes() override {
    const std::lock_guard lock(device_.mutex_);
    VMS_CHECK(check_alive());
    return node_->inode.allocated_pages() * kPage;
  }
  Result<void> lock() override {
    const std::lock_guard lock(device_.mutex_);
    VMS_CHECK(check_alive());
    if (node_->locked_by != nullptr && node_->locked_by != this) {
      return Error(Errc::busy, EWOULDBLOCK);
    }
    node_->locked_by = this;
    return success();
  }

 private:
  [[nodiscard]] Result<void> check_alive() const {
    if (generation_ != device_.generation_) return Error(Errc::io_error, EBADF);
    return success();
  }
  [[nodiscard]] Result<void> check(FileOperation operation,
                                   std::uint64_t offset,
                                   std::uint64_t length,
                                   const void* memory) const {
    VMS_CHECK(check_alive());
    if (operation != FileOperation::read && !options_.write) return Error(Errc::io_error, EBADF);
    if (offset > kFileBytesMax || length > kFileBytesMax - offset) {
      return Error(Errc::no_space, EFBIG);
    }
    const auto place = reinterpret_cast<std::uintptr_t>(memory);
    if (options_.direct_sync && device_.direct_ && (offset | length | place) % kPage != 0) {
      return Error(Errc::invalid_argument, EINVAL);
    }
    if (const auto error = device_.fault_for(operation, path_)) return *error;
    return success();
  }
  /// Runs `act` on the content as one change that may be the last one.
  template <class Act>
  void change(FileOperation operation, std::uint64_t offset, std::uint64_t length, Act act) {
    const auto fate = device_.begin_change(operation, path_, offset, length);
    if (fate != MemoryFiles::Fate::ignored) {
      const std::uint64_t before = node_->inode.allocated_pages();
      act(node_->inode, fate);
      device_.used_pages_ += node_->inode.allocated_pages() - before;
    }
    device_.end_change(fate);
  }

  MemoryFiles& device_;
  MemoryFiles::FilePtr node_;
  std::string path_;
  OpenOptions options_;
  std::uint64_t generation_;
};

Result<void> MemoryFile::write(std::uint64_t offset, ByteSpan bytes) {
  const std::lock_guard lock(device_.mutex_);
  Error failure(Errc::ok);
  if (const auto checked = check(FileOperation::write, offset, bytes.size(), bytes.data());
      !checked) {
    failure = checked.error();
    if (failure.code != Errc::io_error) return failure;
    if (generation_ != device_.generation_ || !options_.write) return failure;
    bytes = bytes.first(bytes.size() / 2 / kPage * kPage);  // a failed write may leave a part
  } else if (const std::uint64_t fits =
                 node_->inode.writable_bytes(offset, bytes.size(), device_.free_pages());
             fits < bytes.size() && !device_.frozen_) {
    failure = Error(Errc::no_space, ENOSPC);
    bytes = bytes.first(fits);
  }
  change(FileOperation::write, offset, bytes.size(), [&](MemoryInode& inode, auto fate) {
    inode.write(offset, bytes);
    const bool synced = options_.direct_sync && failure.code == Errc::ok;
    if (synced && fate == MemoryFiles::Fate::normal) inode.sync_range(offset, bytes.size());
  });
  if (failure.code != Errc::ok) return failure;
  return success();
}

Result<void> MemoryFile::sync() {
  const std::lock_guard lock(device_.mutex_);
  VMS_CHECK(check_alive());
  if (const auto error = device_.fault_for(FileOperation::sync, path_)) {
    // The kernel reports once, marks the pages clean, and what did not reach the device is gone.
    change(FileOperation::sync, 0, 1, [&](MemoryInode& inode, auto) {
      inode.settle(device_.random_);
    });
    return *error;
  }
  change(FileOperation::sync, 0, 0, [&](MemoryInode& inode, auto fate) {
    // Killed inside a sync: it got through or it did not.
    if (fate == MemoryFiles::Fate::normal || device_.random_.one_in(2)) inode.sync();
  });
  return success();
}

Result<void> MemoryFile::allocate(std::uint64_t offset, std::uint64_t length) {
  const std::lock_guard lock(device_.mutex_);
  VMS_CHECK(check_alive());
  if (!options_.write) return Error(Errc::io_error, EBADF);
  if (offset > kFileBytesMax || length > kFileBytesMax - offset) {
    return Error(Errc::no_space, EFBIG);
  }
  if (const auto error = device_.fault_for(FileOperation::allocate, path_)) return *error;
  if (node_->inode.missing_pages(offset, length) > device_.free_pages()) {
    return Error(Errc::no_space, ENOSPC);
  }
  change(FileOperation::allocate, offset, length, [&](MemoryInode& inode, auto) {
    inode.allocate(offset, length);
  });
  return success();
}

Result<void> MemoryFile::punch(std::uint64_t offset, std::uint64_t length) {
  const std::lock_guard lock(device_.mutex_);
  VMS_CHECK(check_alive());
  if (!options_.write) return Error(Errc::io_error, EBADF);
  if (offset > kFileBytesMax || length > kFileBytesMax - offset) {
    return Error(Errc::no_space, EFBIG);
  }
  if (const auto error = device_.fault_for(FileOperation::punch, path_)) return *error;
  change(FileOperation::punch, offset, length, [&](MemoryInode& inode, auto) {
    inode.punch(offset, length);
  });
  return success();
}

Result<void> MemoryFile::truncate(std::uint64_t size) {
  const std::lock_guard lock(device_.mutex_);
  VMS_CHECK(check_alive());
  if (!options_.write) return Error(Errc::invalid_argument, EINVAL);
  if (size > kFileBytesMax) return Error(Errc::no_space, EFBIG);
  if (const auto error = device_.fault_for(FileOperation::truncate, path_)) return *error;
  change(FileOperation::truncate, size, 0, [&](MemoryInode& inode, auto) { inode.truncate(size); });
  return success();
}

MemoryFiles::MemoryFiles(std::uint64_t capacity_bytes, std::uint64_t seed)
    : capacity_bytes_(capacity_bytes), random_(seed) {}

MemoryFiles::~MemoryFiles() = default;

MemoryFiles::Link MemoryFiles::find_link(const Names& names, std::string_view name) {
  const auto found = names.find(name);
  return found == names.end() ? Link() : found->second;
}

Result<MemoryFiles::FolderPtr> MemoryFiles::find_folder(std::string_view path) const {
  FolderPtr folder = root_;
  if (path.empty()) return folder;
  if (!is_valid_path(path)) return Errc::invalid_argument;
  while (!path.empty()) {
    const auto slash = path.find('/');
    const Link link = find_link(folder->present, path.substr(0, slash));
    if (std::holds_alternative<FilePtr>(link)) return Error(Errc::foreign_store, ENOTDIR);
    if (std::holds_alternative<std::monostate>(link)) return Error(Errc::not_found, ENOENT);
    folder = std::get<FolderPtr>(link);
    path = slash == std::string_view::npos ? "" : path.substr(slash + 1);
  }
  return folder;
}

Result<MemoryFiles::Place> MemoryFiles::place_of(std::string_view path) const {
  if (!is_valid_path(path)) return Errc::invalid_argument;
  const auto slash = path.rfind('/');
  if (slash == std::string_view::npos) return Place{root_, std::string(path)};
  VMS_TRY(const FolderPtr folder, find_folder(path.substr(0, slash)));
  return Place{folder, std::string(path.substr(slash + 1))};
}

std::optional<Error> MemoryFiles::fault_for(FileOperation operation, std::string_view path) {
  for (auto pending = faults_.begin(); pending != faults_.end(); ++pending) {
    const FileFault& fault = pending->fault;
    if (fault.operation != operation || path.find(fault.path_part) == std::string_view::npos) {
      continue;
    }
    if (pending->left > 1) {
      --pending->left;
      continue;
    }
    const Error error = fault.error;
    if (!fault.repeat) faults_.erase(pending);
    return error;
  }
  return std::nullopt;
}

MemoryFiles::Fate MemoryFiles::begin_change(FileOperation operation,
                                            std::string_view path,
                                            std::uint64_t offset,
                                            std::uint64_t length) {
  if (frozen_) return Fate::ignored;
  ++changes_;
  for (const std::uint64_t value :
       {static_cast<std::uint64_t>(operation), xxh3(as_byte_span(path)), offset, length}) {
    history_hash_ = Random(history_hash_ ^ value).u64();
  }
  if (changes_left_ == 0 || --changes_left_ > 0) return Fate::normal;
  return Fate::last;
}

void MemoryFiles::end_change(Fate fate) {
  if (fate != Fate::last) return;
  frozen_ = true;
  if (const auto callback = std::exchange(frozen_callback_, nullptr)) callback();
}

std::uint64_t MemoryFiles::free_pages() const noexcept {
  const std::uint64_t capacity = capacity_bytes_ / kPage;
  return capacity > used_pages_ ? capacity - used_pages_ : 0;
}

void MemoryFiles::set_name(Names& names, const std::string& name, const Link& link) {
  if (std::holds_alternative<std::monostate>(link)) {
    names.erase(name);
  } else {
    names[name] = link;
  }
}

void MemoryFiles::assign(NameChange change) {
  for (const Assignment& one : change) {
    const Link before = find_link(one.folder->present, one.name);
    if (const auto* const file = std::get_if<FilePtr>(&before)) --(*file)->names;
    if (const auto* const file = std::get_if<FilePtr>(&one.link)) ++(*file)->names;
    set_name(one.folder->present, one.name, one.link);
    if (const auto* const file = std::get_if<FilePtr>(&before)) count_if_unused(**file);
  }
  name_changes_.push_back(std::move(change));
}

/// Gives the space back once a file has neither a name nor a user.
void MemoryFiles::count_if_unused(FileNode& file) {
  if (file.names > 0 || file.opens > 0 || !file.counted) return;
  used_pages_ -= file.inode.allocated_pages();
  file.counted = false;
}

Result<std::unique_ptr<File>> MemoryFiles::open(std::string_view path, const OpenOptions& options) {
  const std::lock_guard lock(mutex_);
  VMS_TRY(const Place place, place_of(path));
  if (const auto error = fault_for(FileOperation::open, path)) return *error;
  const Link link = find_link(place.folder->present, place.name);
  if (std::holds_alternative<FolderPtr>(link)) {
    if (options.create && options.must_be_new) return Error(Errc::exists, EEXIST);
    return Error(Errc::foreign_store, EISDIR);
  }
  FilePtr node;
  if (const auto* const found = std::get_if<FilePtr>(&link)) {
    if (options.create && options.must_be_new) return Error(Errc::exists, EEXIST);
    node = *found;
  } else {
    if (!options.create) return Error(Errc::not_found, ENOENT);
    node = std::make_shared<FileNode>();
    node->counted = true;
    const Fate fate = begin_change(FileOperation::open, path, 0, 0);
    if (fate != Fate::ignored) assign({{place.folder, place.name, node}});
    end_change(fate);
  }
  return std::unique_ptr<File>(
      std::make_unique<MemoryFile>(*this, std::move(node), std::string(path), options));
}

Result<void> MemoryFiles::remove(std::string_view path) {
  const std::lock_guard lock(mutex_);
  VMS_TRY(const Place place, place_of(path));
  if (const auto error = fault_for(FileOperation::remove, path)) return *error;
  const Link link = find_link(place.folder->present, place.name);
  if (std::holds_alternative<std::monostate>(link)) return Error(Errc::not_found, ENOENT);
  if (std::holds_alternative<FolderPtr>(link)) return Error(Errc::foreign_store, EISDIR);
  const Fate fate = begin_change(FileOperation::remove, path, 0, 0);
  if (fate != Fate::ignored) assign({{place.folder, place.name, {}}});
  end_change(fate);
  return success();
}

Result<void> MemoryFiles::rename(std::string_view from, std::string_view to) {
  const std::lock_guard lock(mutex_);
  VMS_TRY(const Place source, place_of(from));
  VMS_TRY(const Place target, place_of(to));
  if (const auto error = fault_for(FileOperation::rename, from)) return *error;
  const Link link = find_link(source.folder->present, source.name);
  const Link replaced = find_link(target.folder->present, target.name);
  if (std::holds_alternative<std::monostate>(link)) return Error(Errc::not_found, ENOENT);
  if (link == replaced) return success();
  if (std::holds_alternative<FolderPtr>(link) || std::holds_alternative<FolderPtr>(replaced)) {
    return Error(Errc::foreign_store, EISDIR);  // nothing here renames folders
  }
  const Fate fate = begin_change(FileOperation::rename, from, xxh3(as_byte_span(to)), 0);
  if (fate != Fate::ignored) {
    assign({{target.folder, target.name, link}, {source.folder, source.name, {}}});
  }
  end_change(fate);
  return success();
}

Result<void> MemoryFiles::make_folder(std::string_view path) {
  const std::lock_guard lock(mutex_);
  VMS_TRY(const Place place, place_of(path));
  if (const auto error = fault_for(FileOperation::make_folder, path)) return *error;
  const Link link = find_link(place.folder->present, place.name);
  if (std::holds_alternative<FolderPtr>(link)) return success();
  if (std::holds_alternative<FilePtr>(link)) return Error(Errc::foreign_store, ENOTDIR);
  const Fate fate = begin_change(FileOperation::make_folder, path, 0, 0);
  if (fate != Fate::ignored) assign({{place.folder, place.name, std::make_shared<Folder>()}});
  end_change(fate);
  return success();
}

Result<std::vector<std::string>> MemoryFiles::list(std::string_view folder) {
  const std::lock_guard lock(mutex_);
  VMS_TRY(const FolderPtr found, find_folder(folder));
  if (const auto error = fault_for(FileOperation::list, folder)) return *error;
  std::vector<std::string> names;
  names.reserve(found->present.size());
  for (const auto& entry : found->present) names.push_back(entry.first);
  return names;
}

Result<void> MemoryFiles::sync_folder(std::string_view folder) {
  const std::lock_guard lock(mutex_);
  VMS_TRY(const FolderPtr found, find_folder(folder));
  if (const auto error = fault_for(FileOperation::sync_folder, folder)) return *error;
  const Fate fate = begin_change(FileOperation::sync_folder, folder, 0, 0);
  if (fate == Fate::normal || (fate == Fate::last && random_.one_in(2))) {
    // A change goes with every earlier one that touches a folder of its own.
    std::set<const Folder*> synced{found.get()};
    std::vector<bool> chosen(name_changes_.size());
    for (std::size_t i = name_changes_.size(); i-- > 0;) {
      const NameChange& change = name_changes_[i];
      chosen[i] = std::any_of(change.begin(), change.end(), [&](const Assignment& one) {
        return synced.contains(one.folder.get());
      });
      if (!chosen[i]) continue;
      for (const Assignment& one : change) synced.insert(one.folder.get());
    }
    std::vector<NameChange> rest;
    for (std::size_t i = 0; i < name_changes_.size(); ++i) {
      if (!chosen[i]) {
        rest.push_back(std::move(name_changes_[i]));
        continue;
      }
      for (const Assignment& one : name_changes_[i]) {
        set_name(one.folder->durable, one.name, one.link);
      }
    }
    name_changes_ = std::move(rest);
  }
  end_change(fate);
  return success();
}

Result<FolderSpace> MemoryFiles::space() {
  const std::lock_guard lock(mutex_);
  return FolderSpace{capacity_bytes_, free_pages() * kPage};
}

void MemoryFiles::restart() {
  const std::lock_guard lock(mutex_);
  ++generation_;
  frozen_ = false;
  changes_left_ = 0;
  frozen_callback_ = nullptr;
  recount_space();
}

void MemoryFiles::crash(Random& random) {
  {
    const std::lock_guard lock(mutex_);
    for (const NameChange& change : name_changes_) {
      if (random.one_in(2)) continue;
      for (const Assignment& one : change) set_name(one.folder->durable, one.name, one.link);
    }
    name_changes_.clear();
    settle_folder(*root_, random);
  }
  restart();
}

void MemoryFiles::settle_folder(Folder& folder, Random& random) {
  folder.present = folder.durable;
  for (const auto& [name, link] : folder.present) {
    if (const auto* const below = std::get_if<FolderPtr>(&link)) settle_folder(**below, random);
    if (const auto* const file = std::get_if<FilePtr>(&link)) (*file)->inode.settle(random);
  }
}

/// After a restart nothing is open or locked, and only what has a name takes space.
void MemoryFiles::recount_space() {
  used_pages_ = 0;
  std::vector<Folder*> folders{root_.get()};
  std::vector<FileNode*> files;
  while (!folders.empty()) {
    Folder& folder = *folders.back();
    folders.pop_back();
    for (const auto& entry : folder.present) {
      if (const auto* const below = std::get_if<FolderPtr>(&entry.second)) {
        folders.push_back(below->get());
      } else {
        files.push_back(std::get<FilePtr>(entry.second).get());
      }
    }
  }
  for (FileNode* const file : files) *file = FileNode{std::move(file->inode), nullptr, 0, 0, false};
  for (FileNode* const file : files) {
    ++file->names;
    if (!std::exchange(file->counted, true)) used_pages_ += file->inode.allocated_pages();
  }
}

void MemoryFiles::freeze_at_change(std::uint64_t nth, std::function<void()> frozen) {
  const std::lock_guard lock(mutex_);
  VMS_ASSERT(nth > 0);
  changes_left_ = nth;
  frozen_callback_ = std::move(frozen);
}

void MemoryFiles::fail(const FileFault& fault) {
  const std::lock_guard lock(mutex_);
  faults_.push_back({fault, fault.nth});
}

void MemoryFiles::clear_faults() {
  const std::lock_guard lock(mutex_);
  faults_.clear();
}

bool MemoryFiles::flip_bit(std::string_view path, std::uint64_t offset, unsigned bit) {
  const std::lock_guard lock(mutex_);
  const auto place = place_of(path);
  if (!place) return false;
  const Link link = find_link(place->folder->present, place->name);
  const auto* const file = std::get_if<FilePtr>(&link);
  return file != nullptr && (*file)->inode.flip_bit(offset, bit);
}

std::uint64_t MemoryFiles::used_bytes() const {
  const std::lock_guard lock(mutex_);
  return used_pages_ * kPage;
}

}  // namespace vmstore::sim
