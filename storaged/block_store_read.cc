// SPDX-License-Identifier: Apache-2.0
// Reads: from the page cache on the calling thread when everything is there, else on a worker.
// Every block is checked against its sum; a hole is never answered with zeros (I8).
#include <algorithm>
#include <utility>

#include "base/checksum.h"
#include "base/log.h"
#include "storaged/block_store_state.h"

namespace vmstore::storaged {
namespace {

/// Above this a hop to a worker costs less than the time other requests would wait.
constexpr std::uint64_t kInlineBlocksMax = 32;
constexpr std::size_t kSharedDescriptorsMax = 128;

/// Adjacent blocks of one key, and where they go.
struct Piece {
  std::shared_ptr<Key> key;
  std::shared_ptr<KeyFiles> files;
  BlockIndex first;
  std::uint64_t blocks = 0;
  std::uint64_t at = 0;  // index of its first block in the answer
};

using Sums = std::span<std::uint64_t>;

Result<void> load(const Piece& piece, bool cached, MutableBytes into, Sums sums) {
  KeyFiles& files = *piece.files;
  if (cached) {
    VMS_CHECK(files.read_sums_cached(piece.first, sums));
    return files.read_blocks_cached(piece.first, into);
  }
  VMS_CHECK(files.read_sums(piece.first, sums));
  return files.read_blocks(piece.first, into);
}

Result<void> verify(const Piece& piece, ByteSpan bytes, Sums sums) {
  for (std::size_t i = 0; i < sums.size(); ++i) {
    if (sums[i] == 0) return Errc::punched;
    if (block_sum(bytes.subspan(i * kBlockBytes, kBlockBytes)) == sums[i]) continue;
    // A punch that came between the two reads has set the sum to zero first.
    const BlockIndex block{piece.first.value + i};
    std::uint64_t now = 0;
    VMS_CHECK(piece.files->read_sums(block, Sums(&now, 1)));
    if (now == 0) return Errc::punched;
    VMS_LOG(error,
            "storaged",
            "key " << piece.key->id().hex() << " block " << block.value
                   << " does not match its checksum");
    return Errc::corrupt;
  }
  return success();
}

Result<void> read_pieces(std::span<const Piece> pieces, bool cached, MutableBytes into, Sums sums) {
  for (const Piece& piece : pieces) {
    const MutableBytes bytes = into.subspan(piece.at * kBlockBytes, piece.blocks * kBlockBytes);
    const Sums part = sums.subspan(piece.at, piece.blocks);
    VMS_CHECK(load(piece, cached, bytes, part));
    VMS_CHECK(verify(piece, bytes, part));
  }
  return success();
}

struct SharedFiles {
  std::unique_ptr<File> data;
  std::unique_ptr<File> sums;
};

Result<std::shared_ptr<SharedFiles>> open_shared(Files& files, KeyId key) {
  OpenOptions options;
  options.write = false;
  auto shared = std::make_shared<SharedFiles>();
  const auto open_one = [&](KeyFileKind kind) -> Result<std::unique_ptr<File>> {
    auto file = files.open(key_path(key, kind), options);
    if (!file && file.error() == Errc::not_found) return Errc::unknown;
    return file;
  };
  VMS_TRY(shared->data, open_one(KeyFileKind::data));
  VMS_TRY(shared->sums, open_one(KeyFileKind::sums));
  return shared;
}

KeyFilesAnswer answer_of(const std::shared_ptr<SharedFiles>& shared, const KeyLength& length) {
  KeyFilesAnswer answer;
  answer.data_fd = shared->data->descriptor();
  answer.sums_fd = shared->sums->descriptor();
  answer.length = length;
  answer.owner = shared;
  return answer;
}

}  // namespace

Task<Result<ReadAnswer>> BlockStore::read(std::vector<ReadRangeRequest> ranges) {
  State& s = *state_;
  VMS_CO_TRY(const auto pass, s.calls.enter());
  std::vector<Piece> pieces;
  std::uint64_t total = 0;
  bool all_open = true;
  for (const ReadRangeRequest& range : ranges) {
    if (range.address.slot() != 0) co_return Errc::unsupported;
    if (range.blocks == 0 || range.blocks > limits::kReadBlocksMax - total) {
      co_return Errc::invalid_argument;
    }
    VMS_CO_TRY(const auto key, s.find(range.address.key()));
    const BlockIndex first = range.address.block();
    const std::uint64_t end = key->state.length.blocks.value;
    if (first.value >= end || range.blocks > end - first.value) {
      co_return key->state.damaged ? Errc::unknown : Errc::not_found;
    }
    const bool adjacent = !pieces.empty() && pieces.back().key == key &&
                          pieces.back().first.value + pieces.back().blocks == first.value;
    if (adjacent) {
      pieces.back().blocks += range.blocks;
    } else {
      all_open = all_open && key->files;
      pieces.push_back(Piece{key, nullptr, first, range.blocks, total});
    }
    total += range.blocks;
  }
  ReadAnswer answer;
  answer.payload = wire::Payload::allocate(total * kBlockBytes);
  answer.sums.resize(total);
  for (Piece& piece : pieces) {
    VMS_CO_TRY(piece.files, co_await s.files_of(piece.key));
  }
  const MutableBytes into = answer.payload.writable();
  Result<void> done = Errc::busy;
  if (all_open && total <= kInlineBlocksMax) done = read_pieces(pieces, true, into, answer.sums);
  if (!done && done.error() == Errc::busy) {
    auto work = [&] { return read_pieces(pieces, false, into, answer.sums); };
    done = co_await run_on(s.pool, s.scheduler, work);
  }
  ++s.counters.reads;
  if (done) {
    s.counters.read_bytes += total * kBlockBytes;
    co_return answer;
  }
  if (done.error() == Errc::corrupt) ++s.counters.checksum_failures;
  const auto is_damaged = [](const Piece& piece) { return piece.key->state.damaged; };
  const bool damaged = std::any_of(pieces.begin(), pieces.end(), is_damaged);
  // Nobody can tell whether a block of a damaged key was punched or is lost.
  if (done.error() == Errc::punched && damaged) co_return Errc::unknown;
  co_return done.error();
}

Task<Result<LogAnswer>> BlockStore::read_log(KeyId key_id,
                                             std::uint64_t log_offset,
                                             std::uint32_t bytes_max) {
  State& s = *state_;
  VMS_CO_TRY(const auto pass, s.calls.enter());
  VMS_CO_TRY(const auto key, s.find(key_id));
  const KeyLength length = key->state.length;
  if (log_offset > length.log_bytes) co_return Errc::wrong_offset;
  LogAnswer answer;
  answer.log_bytes = length.log_bytes;
  answer.sealed = key->state.sealed;
  const std::uint64_t limit = std::min(bytes_max, limits::kPayloadBytesMax);
  const std::uint64_t bytes = std::min(length.log_bytes - log_offset, limit);
  if (bytes == 0) co_return answer;
  VMS_CO_TRY(const auto opened, co_await s.files_of(key));
  answer.bytes = wire::Payload::allocate(bytes);
  auto work = [&] { return opened->read_log(log_offset, answer.bytes.writable()); };
  VMS_CO_CHECK(co_await run_on(s.pool, s.scheduler, work));
  co_return answer;
}

Task<Result<KeyFilesAnswer>> BlockStore::key_files(KeyId key_id) {
  State& s = *state_;
  VMS_CO_TRY(const auto pass, s.calls.enter());
  VMS_CO_TRY(const auto key, s.find(key_id));
  auto& known = s.shared_descriptors;
  const auto same = [key_id](const auto& shared) { return shared.first == key_id; };
  const auto found = std::find_if(known.begin(), known.end(), same);
  if (found != known.end()) {
    known.splice(known.end(), known, found);
    co_return answer_of(std::static_pointer_cast<SharedFiles>(found->second), key->state.length);
  }
  auto work = [&s, key_id] { return open_shared(s.files, key_id); };
  VMS_CO_TRY(const auto shared, co_await s.run_opening(work));
  if (!key->live) co_return Errc::not_found;
  known.emplace_back(key_id, shared);
  const std::size_t most = std::min(kSharedDescriptorsMax, s.options.open_keys_max);
  if (known.size() > most) known.pop_front();
  co_return answer_of(shared, key->state.length);
}

}  // namespace vmstore::storaged
