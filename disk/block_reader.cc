// SPDX-License-Identifier: Apache-2.0
#include "disk/block_reader.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/checksum.h"
#include "base/limits.h"
#include "base/log.h"

namespace vmstore::disk {
namespace {

bool read_exactly(int fd, std::uint64_t offset, MutableBytes into) {
  while (!into.empty()) {
    const auto got = ::pread(fd, into.data(), into.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    into = into.subspan(static_cast<std::size_t>(got));
    offset += static_cast<std::uint64_t>(got);
  }
  return true;
}

}  // namespace

KeyFilesHandle::~KeyFilesHandle() {
  ::close(data_fd_);
  ::close(sums_fd_);
}

bool KeyFilesHandle::read(BlockIndex first, MutableBytes into) const {
  constexpr std::size_t kChunkBlocks = 256;
  used_.store(true, std::memory_order_relaxed);
  std::array<std::byte, kChunkBlocks * sizeof(std::uint64_t)> sum_bytes;
  for (std::uint64_t block = first.value; !into.empty();) {
    const std::size_t count = std::min<std::size_t>(kChunkBlocks, into.size() / kBlockBytes);
    const MutableBytes sums(sum_bytes.data(), count * sizeof(std::uint64_t));
    const MutableBytes data = into.first(count * kBlockBytes);
    if (!read_exactly(sums_fd_, block * sizeof(std::uint64_t), sums)) return false;
    if (!read_exactly(data_fd_, block * kBlockBytes, data)) return false;
    ByteReader reader(sums);
    for (std::size_t i = 0; i < count; ++i) {
      const auto wanted = reader.get<std::uint64_t>();
      if (wanted == 0 || block_sum(data.subspan(i * kBlockBytes, kBlockBytes)) != wanted) {
        return false;
      }
    }
    into = into.subspan(count * kBlockBytes);
    block += count;
  }
  return true;
}

BlockReader::BlockReader(Copies& copies, PageCache& pages, BlockCache& blocks)
    : copies_(copies), pages_(pages), blocks_(blocks) {}

std::shared_ptr<KeyFilesHandle> BlockReader::handle_of(KeyId key) const {
  const std::shared_lock lock(handles_mutex_);
  const auto found = handles_.find(key);
  return found == handles_.end() ? nullptr : found->second;
}

bool BlockReader::try_read(Address address, MutableBytes into) {
  VMS_ASSERT(into.size() % kBlockBytes == 0);
  if (into.size() == kBlockBytes && blocks_.get(address, into)) return true;
  const auto handle = handle_of(address.key());
  return handle != nullptr && handle->read(address.block(), into);
}

Task<void> BlockReader::want_handle(KeyId key) {
  if (handle_of(key) != nullptr || refused_.contains(key)) co_return;
  auto files = co_await copies_.nodes().home().key_files(key);
  if (!files) {
    // Off this host there is no short cut at all; any other reason may pass.
    if (files.error() == Errc::unsupported) refused_[key] = true;
    co_return;
  }
  auto handle = std::make_shared<KeyFilesHandle>(files->data_fd, files->sums_fd);
  const std::unique_lock lock(handles_mutex_);
  if (handles_.size() >= kHandlesMax) handles_.erase(handles_.begin());
  handles_[key] = std::move(handle);
}

void BlockReader::forget_files() {
  refused_.clear();
  const std::unique_lock lock(handles_mutex_);
  handles_.clear();
}

void BlockReader::close_unused_files() {
  const std::unique_lock lock(handles_mutex_);
  std::erase_if(handles_, [](const auto& entry) { return !entry.second->take_used(); });
}

void BlockReader::evict() {
  blocks_.clear();
  pages_.clear();
}

Task<Result<void>> BlockReader::read(std::vector<BlockWant> wants) {
  std::vector<BlockWant> missing;
  for (const BlockWant& want : wants) {
    if (try_read(want.address, want.into)) continue;
    co_await want_handle(want.address.key());
    if (try_read(want.address, want.into)) continue;
    missing.push_back(want);
  }
  if (missing.empty()) co_return success();
  co_return co_await read_from_nodes(std::move(missing));
}

Task<Result<void>> BlockReader::read_from_nodes(std::vector<BlockWant> wants) {
  std::size_t at = 0;
  const bool one_node = copies_.nodes().members().size() <= 1;
  while (at < wants.size()) {
    // As many wants as fit one request, of one key where keys lie apart; a long one is split.
    const KeyId key = wants[at].address.key();
    std::vector<net::ReadRange> ranges;
    std::vector<BlockWant> taken;
    std::uint64_t blocks = 0;
    while (at < wants.size() && blocks < limits::kReadBlocksMax) {
      BlockWant& want = wants[at];
      if (!one_node && want.address.key() != key) break;
      const std::uint64_t count =
          std::min<std::uint64_t>(limits::kReadBlocksMax - blocks, want.into.size() / kBlockBytes);
      ranges.push_back({want.address, static_cast<std::uint32_t>(count)});
      taken.push_back({want.address, want.into.first(count * kBlockBytes)});
      blocks += count;
      want.address = want.address.plus(count);
      want.into = want.into.subspan(count * kBlockBytes);
      if (want.into.empty()) ++at;
    }
    VMS_CO_TRY(const auto answer, co_await copies_.read(std::move(ranges)));
    ByteSpan rest = answer.payload.bytes();
    for (const BlockWant& want : taken) {
      std::copy_n(rest.begin(), want.into.size(), want.into.begin());
      rest = rest.subspan(want.into.size());
      for (std::size_t i = 0; i < want.into.size() / kBlockBytes; ++i) {
        blocks_.put(want.address.plus(i), want.into.subspan(i * kBlockBytes, kBlockBytes));
      }
    }
  }
  co_return success();
}

snapshot::PagePtr BlockReader::try_page(Address address) {
  if (auto page = pages_.get(address)) return page;
  const auto handle = handle_of(address.key());
  if (handle == nullptr) return nullptr;
  std::array<std::byte, kBlockBytes> block;
  if (!handle->read(address.block(), block)) return nullptr;
  auto decoded = snapshot::decode_page(block);
  if (!decoded) return nullptr;
  auto page = std::make_shared<const snapshot::Page>(std::move(*decoded));
  pages_.put(address, page);
  return page;
}

Task<Result<snapshot::PagePtr>> BlockReader::load_page(Address address) {
  if (auto page = try_page(address)) co_return page;
  const auto block = std::make_unique<std::array<std::byte, kBlockBytes>>();
  std::vector<BlockWant> wants;
  wants.push_back(BlockWant{address, *block});
  VMS_CO_CHECK(co_await read(std::move(wants)));
  auto decoded = snapshot::decode_page(*block);
  if (!decoded) {
    VMS_LOG(error, "index", "page " << std::hex << address.raw() << " cannot be decoded");
    co_return decoded.error();
  }
  auto page = std::make_shared<const snapshot::Page>(std::move(*decoded));
  pages_.put(address, page);
  co_return page;
}

}  // namespace vmstore::disk
