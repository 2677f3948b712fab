// SPDX-License-Identifier: Apache-2.0
#include "storaged/identity.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "base/checksum.h"
#include "base/fault.h"
#include "base/log.h"

namespace vmstore::storaged {
namespace {

constexpr std::string_view kMagic = "VMSSTORE";
constexpr std::size_t kChecksumBytes = 8;
constexpr std::size_t kVersionEnd = 12;     // magic and version: readable in every format
constexpr std::size_t kIdentityBytes = 80;  // of format 1
constexpr std::size_t kIdentityBytesMax = 4096;

/// What may lie in a folder that is still to become a store: ours of a start that was cut short,
/// what mkfs leaves, and sockets that a supervisor made for us.
bool may_be_in_new_folder(std::string_view name) noexcept {
  constexpr std::array<std::string_view, 6> kAllowed{
      kLockFile, kPlaceFile, "catalogue.place.new", "lost+found", "store.new", "probe.tmp"};
  return std::find(kAllowed.begin(), kAllowed.end(), name) != kAllowed.end() ||
         name.ends_with(".sock");
}

template <class Id>
void put_id(ByteWriter& out, const Id& id) {
  out.put(id.high).put(id.low);
}

template <class Id>
Id get_id(ByteReader& in) {
  Id id;
  id.high = in.get<std::uint64_t>();
  id.low = in.get<std::uint64_t>();
  return id;
}

}  // namespace

std::vector<std::byte> encode_identity(const Identity& identity) {
  ByteWriter out;
  out.put_bytes(as_byte_span(kMagic)).put(kIdentityFormat).put(std::uint32_t{0});
  put_id(out, identity.store);
  put_id(out, identity.node);
  put_id(out, identity.incarnation);
  out.put(identity.start_count);
  out.put(xxh3(out.bytes()));
  VMS_ASSERT(out.size() == kIdentityBytes);
  return out.take();
}

Result<Identity> decode_identity(ByteSpan bytes) {
  if (bytes.size() < kVersionEnd || as_text(bytes.first(kMagic.size())) != kMagic) {
    return Errc::foreign_store;
  }
  ByteReader in(bytes);
  in.skip(kMagic.size());
  const auto format = in.get<std::uint32_t>();
  if (format > kIdentityFormat) return Errc::newer_format;
  if (format == 0 || bytes.size() != kIdentityBytes) return Errc::corrupt;
  const auto reserved = in.get<std::uint32_t>();
  Identity identity;
  identity.store = get_id<StoreId>(in);
  identity.node = get_id<NodeId>(in);
  identity.incarnation = get_id<Incarnation>(in);
  identity.start_count = in.get<std::uint64_t>();
  const auto checksum = in.get<std::uint64_t>();
  if (checksum != xxh3(bytes.first(kIdentityBytes - kChecksumBytes))) return Errc::corrupt;
  const bool has_ids =
      !identity.store.is_none() && !identity.node.is_none() && !identity.incarnation.is_none();
  if (reserved != 0 || !has_ids) return Errc::corrupt;
  return identity;
}

Result<std::unique_ptr<DataFolder>> DataFolder::open(
    Files& files,
    Missing missing,
    Random& random,
    StoreId join,
    const std::function<Result<void>()>& before_new) {
  VMS_TRY(const auto names, files.list(""));
  const bool has_identity = std::binary_search(names.begin(), names.end(), kIdentityFile);
  const auto foreign = std::find_if_not(names.begin(), names.end(), may_be_in_new_folder);
  if (!has_identity && foreign != names.end()) {
    VMS_LOG(error,
            "node",
            "the data folder is not a store but holds '"
                << *foreign << "'; give an empty folder, nothing was changed");
    return Errc::foreign_store;
  }
  if (!has_identity && missing == Missing::refuse) {
    VMS_LOG(error,
            "node",
            "the data folder holds no store; if its file system is mounted, start once with "
            "--create to make one");
    return Errc::not_found;
  }
  OpenOptions options;
  options.create = true;
  VMS_TRY(auto lock, files.open(kLockFile, options));
  if (const auto locked = lock->lock(); !locked) {
    VMS_LOG(error, "node", "another vmstored is using the data folder");
    return locked.error();
  }
  std::unique_ptr<DataFolder> folder(new DataFolder(files, std::move(lock)));
  // Looked at again below the lock: another process may have made the store meanwhile.
  auto content = read_file(files, kIdentityFile, kIdentityBytesMax);
  if (!content && content.error() == Errc::not_found && !has_identity) {
    if (before_new) VMS_CHECK(before_new());
    Identity identity;
    identity.store = join.is_none() ? random.id128<StoreId>() : join;
    identity.node = random.id128<NodeId>();
    identity.incarnation = random.id128<Incarnation>();
    VMS_CHECK(folder->save(identity));
    VMS_LOG(
        info, "node", (join.is_none() ? "made store " : "joins store ") << identity.store.hex());
    return folder;
  }
  if (!content) return content.error();
  const auto identity = decode_identity(*content);
  if (!identity) {
    VMS_LOG(error, "node", "identity file: " << to_string(identity.error()));
    return identity.error();
  }
  folder->identity_ = *identity;
  return folder;
}

Result<void> DataFolder::save(const Identity& identity) {
  VMS_FAULT("node.identity.before_save");
  VMS_CHECK(replace_file(files_, kIdentityFile, encode_identity(identity)));
  VMS_FAULT("node.identity.saved");
  identity_ = identity;
  return success();
}

}  // namespace vmstore::storaged
