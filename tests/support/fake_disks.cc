// SPDX-License-Identifier: Apache-2.0
#include "tests/support/fake_disks.h"

#include <algorithm>
#include <utility>

#include "base/units.h"

namespace vmstore::test {
namespace {

constexpr std::uint64_t kBlockSize = sizeof(FakeBlock);

class FakeDisk final : public disk::BlockingDisk {
 public:
  FakeDisk(std::shared_ptr<FakeStore> store,
           std::string key,
           disk::DiskInfo info,
           std::optional<std::uint32_t> guest)
      : store_(std::move(store)), key_(std::move(key)), info_(std::move(info)), guest_(guest) {}

  [[nodiscard]] const disk::DiskInfo& info() const noexcept override { return info_; }
  void set_connected(bool connected) override {
    const std::scoped_lock lock(store_->mutex);
    store_->connected.push_back(connected);
  }
  [[nodiscard]] disk::GuestMatch match_guest(std::optional<std::uint32_t> pid) const override {
    if (!guest_ || !pid) return disk::GuestMatch::unknown;
    return *guest_ == *pid ? disk::GuestMatch::same : disk::GuestMatch::other;
  }
  [[nodiscard]] bool is_outdated() override {
    const std::scoped_lock lock(store_->mutex);
    return store_->outdated;
  }

  Result<void> read(std::uint64_t offset, MutableBytes into) override {
    return request("read", offset, into.size(), false, [&](FakeImage& image) {
      for (std::size_t done = 0; done < into.size();) {
        const auto [lbn, at, count] = piece(offset + done, into.size() - done);
        const auto block = image.blocks.find(lbn);
        const auto to = into.subspan(done, count);
        if (block == image.blocks.end()) {
          std::fill(to.begin(), to.end(), std::byte{0});
        } else {
          std::copy_n(block->second.begin() + static_cast<std::ptrdiff_t>(at), count, to.begin());
        }
        done += count;
      }
    });
  }

  Result<void> write(std::uint64_t offset, ByteSpan bytes, bool fua) override {
    return request("write", offset, bytes.size(), true, [&](FakeImage& image) {
      store_->fua_writes += fua ? 1 : 0;
      for (std::size_t done = 0; done < bytes.size();) {
        const auto [lbn, at, count] = piece(offset + done, bytes.size() - done);
        put(image, lbn, at, bytes.subspan(done, count));
        done += count;
      }
    });
  }

  Result<void> zero(std::uint64_t offset, std::uint64_t bytes, bool fua) override {
    return request("zero", offset, bytes, true, [&](FakeImage& image) {
      store_->fua_writes += fua ? 1 : 0;
      const std::uint64_t end = offset + bytes;
      const std::vector<std::byte> zeros(kBlockSize);
      auto block = image.blocks.lower_bound(offset / kBlockSize);
      while (block != image.blocks.end() && block->first * kBlockSize < end) {
        const std::uint64_t from = std::max(offset, block->first * kBlockSize);
        const std::uint64_t to = std::min(end, (block->first + 1) * kBlockSize);
        const std::uint64_t lbn = (block++)->first;
        put(image, lbn, from % kBlockSize, ByteSpan(zeros).first(to - from));
      }
    });
  }

  Result<void> trim(std::uint64_t offset, std::uint64_t bytes, bool fua) override {
    return zero(offset, bytes, fua);
  }

  Result<void> flush() override {
    return request("flush", 0, 0, false, [&](FakeImage&) { ++store_->flushed; });
  }

  Result<std::vector<disk::DiskExtent>> extents(std::uint64_t offset,
                                                std::uint64_t bytes,
                                                std::size_t count_max) override {
    std::vector<disk::DiskExtent> found;
    VMS_CHECK(request("extents", offset, bytes, false, [&](FakeImage& image) {
      std::uint64_t at = offset;
      const std::uint64_t end = offset + bytes;
      auto block = image.blocks.lower_bound(offset / kBlockSize);
      while (at < end && found.size() < count_max) {
        const bool is_data = block != image.blocks.end() && block->first * kBlockSize <= at;
        std::uint64_t until = end;
        if (is_data) {
          until = std::min(end, (block->first + 1) * kBlockSize);
          ++block;
        } else if (block != image.blocks.end()) {
          until = std::min(end, block->first * kBlockSize);
        }
        if (!found.empty() && found.back().zero != is_data) {
          found.back().bytes += until - at;
        } else {
          found.push_back({at, until - at, !is_data});
        }
        at = until;
      }
    }));
    return found;
  }

  Result<void> prefetch(std::uint64_t offset, std::uint64_t bytes) override {
    return request("prefetch", offset, bytes, false, [](FakeImage&) {});
  }

  Result<void> close() override {
    const std::scoped_lock lock(store_->mutex);
    ++store_->closed;
    is_closed_ = true;
    return success();
  }

 private:
  struct Piece {
    std::uint64_t lbn;
    std::size_t at;
    std::size_t count;
  };
  static Piece piece(std::uint64_t offset, std::size_t bytes) {
    const std::size_t at = offset % kBlockSize;
    return {offset / kBlockSize, at, std::min<std::size_t>(bytes, kBlockSize - at)};
  }
  static void put(FakeImage& image, std::uint64_t lbn, std::size_t at, ByteSpan bytes) {
    FakeBlock& block = image.blocks[lbn];
    std::copy(bytes.begin(), bytes.end(), block.begin() + static_cast<std::ptrdiff_t>(at));
    const bool is_zero = std::all_of(
        block.begin(), block.end(), [](std::byte byte) { return byte == std::byte{0}; });
    if (is_zero) image.blocks.erase(lbn);
  }

  template <class F>
  Result<void> request(
      const char* what, std::uint64_t offset, std::uint64_t bytes, bool is_change, F body) {
    if (store_->before_request) VMS_CHECK(store_->before_request(what));
    const std::scoped_lock lock(store_->mutex);
    if (is_closed_) return Errc::closing;
    if (is_change && info_.read_only) return Errc::read_only;
    const bool is_inside = offset <= info_.size_bytes && bytes <= info_.size_bytes - offset;
    if (!is_inside) return Errc::invalid_argument;
    const auto image = store_->images.find(key_);
    if (image == store_->images.end()) return Errc::io_error;
    body(image->second);
    return success();
  }

  const std::shared_ptr<FakeStore> store_;
  const std::string key_;
  const disk::DiskInfo info_;
  const std::optional<std::uint32_t> guest_;
  bool is_closed_ = false;
};

class FakeClient final : public disk::Client {
 public:
  explicit FakeClient(std::shared_ptr<FakeStore> store) : store_(std::move(store)) {}

  Result<std::unique_ptr<disk::BlockingDisk>> open(const disk::DiskOpenOptions& options) override {
    if (store_->before_request) VMS_CHECK(store_->before_request("open"));
    VMS_TRY(const DiskReference reference, parse_disk_reference(options.reference));
    const std::scoped_lock lock(store_->mutex);
    const auto image = store_->images.find(options.reference);
    if (image == store_->images.end()) return Errc::not_found;
    ++store_->opened;
    store_->open_options.push_back(options);
    disk::DiskInfo info;
    info.id = image->second.id;
    info.name = options.reference;
    info.size_bytes = image->second.size_bytes;
    info.read_only = options.read_only || !reference.snapshot.empty();
    info.taken_ns = reference.snapshot.empty() ? 0 : image->second.created_ns;
    return std::unique_ptr<disk::BlockingDisk>(
        std::make_unique<FakeDisk>(store_, options.reference, info, options.guest_pid));
  }

  Result<disk::DiskSummary> create(const std::string& name,
                                   std::uint64_t bytes,
                                   std::uint32_t /*copies*/) override {
    store_->add(name, bytes);
    return details(name);
  }
  Result<std::vector<disk::DiskSummary>> list() override {
    const std::scoped_lock lock(store_->mutex);
    ++store_->listed;
    std::vector<disk::DiskSummary> found;
    for (const auto& [name, image] : store_->images) {
      if (name.find('@') == std::string::npos) found.push_back(summary(name, image));
    }
    return found;
  }
  Result<disk::DiskSummary> details(const std::string& name) override {
    const std::scoped_lock lock(store_->mutex);
    const auto image = store_->images.find(name);
    if (image == store_->images.end()) return Errc::not_found;
    return summary(name, image->second);
  }
  Result<std::vector<disk::SnapshotSummary>> snapshots(const std::string& name) override {
    const std::scoped_lock lock(store_->mutex);
    if (!store_->images.contains(name)) return Errc::not_found;
    std::vector<disk::SnapshotSummary> found;
    for (const auto& [reference, image] : store_->images) {
      if (!reference.starts_with(name + "@")) continue;
      disk::SnapshotSummary snapshot;
      snapshot.disk = name;
      snapshot.name = reference.substr(name.size() + 1);
      snapshot.size_bytes = image.size_bytes;
      snapshot.created_ns = image.created_ns;
      found.push_back(snapshot);
    }
    return found;
  }
  Result<disk::SnapshotTiming> snapshot(const std::string& name, const std::string& snap) override {
    const std::scoped_lock lock(store_->mutex);
    const auto image = store_->images.find(name);
    if (image == store_->images.end()) return Errc::not_found;
    FakeImage frozen = image->second;
    frozen.created_ns = store_->next_id++;
    store_->images[name + "@" + snap] = std::move(frozen);
    return disk::SnapshotTiming();
  }
  Result<void> resize(const std::string& name,
                      std::uint64_t bytes,
                      bool allow_shrink,
                      bool /*force*/) override {
    const std::scoped_lock lock(store_->mutex);
    const auto image = store_->images.find(name);
    if (image == store_->images.end()) return Errc::not_found;
    if (bytes == 0 || bytes % 512 != 0) return Errc::invalid_argument;
    if (bytes < image->second.size_bytes && !allow_shrink) return Errc::invalid_argument;
    if (bytes < image->second.size_bytes && store_->opened != store_->closed) return Errc::busy;
    auto& blocks = image->second.blocks;
    blocks.erase(blocks.lower_bound((bytes + kBlockSize - 1) / kBlockSize), blocks.end());
    image->second.size_bytes = bytes;
    return success();
  }
  Result<void> remove(const std::string& name, bool /*now*/, bool /*force*/) override {
    const std::scoped_lock lock(store_->mutex);
    return store_->images.erase(name) == 0 ? Result<void>(Errc::not_found) : success();
  }
  Result<disk::NodeStatus> node_status() override {
    disk::NodeStatus status;
    status.total_bytes = std::uint64_t{1} << 40;
    status.free_bytes = std::uint64_t{1} << 39;
    return status;
  }

  // No front end calls these.
  Result<void> remove_snapshot(const std::string&, const std::string&) override {
    return Errc::unsupported;
  }
  Result<void> rollback(const std::string&, const std::string&, bool) override {
    return Errc::unsupported;
  }
  Result<void> clone(const std::string&, const std::vector<std::string>&) override {
    return Errc::unsupported;
  }
  Result<void> rename(const std::string&, const std::string&) override { return Errc::unsupported; }
  Result<std::vector<disk::TrashSummary>> trash() override { return Errc::unsupported; }
  Result<void> restore(const std::string&, const std::string&) override {
    return Errc::unsupported;
  }
  Result<void> purge(const std::string&) override { return Errc::unsupported; }
  Result<std::optional<std::uint64_t>> mapped_bytes(const std::string&) override {
    return std::optional<std::uint64_t>();
  }
  Result<disk::VerifyReport> verify(const std::string&, const disk::VerifyControl&) override {
    return Errc::unsupported;
  }
  Result<void> break_owner(const std::string&) override { return Errc::unsupported; }
  Result<std::uint64_t> discard_batch_file(const std::string&) override {
    return Errc::unsupported;
  }

 private:
  static disk::DiskSummary summary(const std::string& name, const FakeImage& image) {
    disk::DiskSummary disk;
    disk.id = image.id;
    disk.name = name;
    disk.size_bytes = image.size_bytes;
    disk.created_ns = image.created_ns;
    return disk;
  }

  const std::shared_ptr<FakeStore> store_;
};

}  // namespace

std::unique_ptr<disk::Client> FakeStore::client(std::shared_ptr<FakeStore> store) {
  return std::make_unique<FakeClient>(std::move(store));
}

void FakeStore::add(const std::string& name, std::uint64_t size_bytes) {
  const std::scoped_lock lock(mutex);
  FakeImage image;
  image.id = DiskId{0, next_id++};
  image.size_bytes = size_bytes;
  image.created_ns = image.id.low;
  images[name] = std::move(image);
}

}  // namespace vmstore::test
