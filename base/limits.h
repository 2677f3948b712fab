// SPDX-License-Identifier: Apache-2.0
// Every maximum of VMStore, with its reason. docs/limits.md lists them for operators.
#pragma once

#include <chrono>
#include <cstdint>

namespace vmstore::limits {

inline constexpr std::uint64_t kKiB = 1024;
inline constexpr std::uint64_t kMiB = 1024 * kKiB;
inline constexpr std::uint64_t kGiB = 1024 * kMiB;
inline constexpr std::uint64_t kTiB = 1024 * kGiB;

// Disks.
inline constexpr std::uint64_t kDiskBytesMax = 256 * kTiB;  // depth 4 of 512-way pages of 4 KiB
inline constexpr std::uint64_t kDiskBytesMin = 512;
inline constexpr std::uint64_t kNamePartCharsMax = 63;

// Batches and records.
inline constexpr std::uint64_t kBatchBytes = 512 * kKiB;  // coalescing unit
inline constexpr std::uint64_t kBatchBlocks = kBatchBytes / 4096;
inline constexpr std::uint64_t kRecordBlocksMax = kBatchBlocks;
inline constexpr std::uint64_t kRecordRunsMax = 1024;
inline constexpr std::uint64_t kRecordHeaderBytesMax = 64 * kKiB;
inline constexpr std::chrono::milliseconds kBatchAgeMax{1000};
inline constexpr std::uint64_t kBatchFileBytes = 8 * kMiB;

// Keys.
inline constexpr std::uint64_t kKeyRollBytes = kGiB;  // soft
inline constexpr std::uint64_t kKeyRangeSize = 16;    // keys a writer draws at once
inline constexpr std::uint64_t kKeyDrawMax = 65'536;  // that an admin draws at once
inline constexpr std::uint64_t kLogHeadBytes = 4096;
inline constexpr std::uint64_t kCreditBytesMin = kMiB;

// Journal.
inline constexpr std::uint64_t kJournalBytes = 256 * kMiB;
inline constexpr std::uint64_t kJournalSmallBytesMax = 64 * kKiB;  // larger records skip the ring
inline constexpr std::uint64_t kJournalGroupBytesMax = 4 * kMiB;

// Wire.
inline constexpr std::uint32_t kControlBytesMax = 1 * kMiB;
inline constexpr std::uint32_t kPayloadBytesMax = 1 * kMiB;
inline constexpr std::uint32_t kRequestsInFlightMax = 1024;  // per connection
inline constexpr std::uint64_t kServedBytesMax = 64 * kMiB;  // their frames and answers in memory
inline constexpr std::uint32_t kDescriptorsMax = 4;          // SCM_RIGHTS descriptors of one frame
inline constexpr std::uint32_t kConnectionsMax = 4096;       // per node
inline constexpr std::uint32_t kReadBlocksMax = 256;         // blocks of one read request
inline constexpr std::chrono::seconds kConnectTimeout{2};    // of TCP: a packet may be lost once
inline constexpr std::chrono::seconds kHandshakeTimeout{5};
inline constexpr std::chrono::milliseconds kHeartbeatPause{500};  // while a request is unanswered
inline constexpr std::chrono::seconds kPeerSilence{2};  // after a heartbeat: the peer is gone

// Ownership.
inline constexpr std::chrono::seconds kLeaseTime{5};
inline constexpr std::chrono::seconds kNoSpaceWait{20};
inline constexpr std::chrono::seconds kHandOverWait{10};
inline constexpr std::chrono::milliseconds kHandOverQuiet{200};

// Index and caches.
inline constexpr std::uint64_t kPageCacheBytes = 24 * kMiB;  // per open disk
inline constexpr std::uint64_t kBlockCacheBytes = 8 * kMiB;  // per process
inline constexpr unsigned kFrozenOverlaysMax = 2;
inline constexpr unsigned kRootsKept = 2;

// Space that an owner has overwritten and not freed yet, before its writers are slowed: the disk's
// size between these two. With as much garbage as disk, half of what lies there is dead, so that
// holes are long and freeing keeps up with a guest; a small disk is allowed what is freed in two
// seconds, and no disk holds back more than one key is long.
inline constexpr std::uint64_t kGarbageBytesLeast = 64 * kMiB;
inline constexpr std::uint64_t kGarbageBytesMost = kGiB;

// Metadata.
inline constexpr std::uint64_t kMetaKeyBytesMax = 512;
inline constexpr std::uint64_t kMetaValueBytesMax = 64 * kKiB;
inline constexpr std::uint64_t kMetaTxnOpsMax = 120;  // in each of its three lists; etcd's is 128
inline constexpr std::uint64_t kMetaRangeMax = 1000;
inline constexpr std::uint64_t kMetaTxnBytesMax = 512 * kKiB;    // fits a control message
inline constexpr std::uint64_t kMetaRangeBytesMax = 512 * kKiB;  // of one answer, then `more`

}  // namespace vmstore::limits
