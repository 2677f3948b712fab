// SPDX-License-Identifier: Apache-2.0
#include "storaged/key_numbers.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "base/limits.h"
#include "meta/records.h"
#include "meta/schema.h"

namespace vmstore::storaged {
namespace {

// A boot storm draws for each clone: 64 clones share one change of the catalogue. A start wastes at
// most this many of 2^33.
constexpr std::uint64_t kRangeSize = 64 * limits::kKeyRangeSize;
constexpr Duration kLongest = std::chrono::seconds(10);
constexpr Duration kPause = std::chrono::milliseconds(20);

}  // namespace

Task<Result<std::uint64_t>> KeyNumbers::draw(Asker& asker, std::uint64_t count) {
  if (count == 0 || count > limits::kKeyDrawMax) co_return Errc::invalid_argument;
  const auto turn = co_await asker.turn_.lock();
  if (asker.is_gone_()) co_return Errc::disconnected;
  const auto lock = co_await mutex_.lock();
  if (asker.is_gone_()) co_return Errc::disconnected;
  if (end_ - next_ < count) VMS_CO_CHECK(co_await take_range(count));
  co_return std::exchange(next_, next_ + count);
}

Task<Result<void>> KeyNumbers::take_range(std::uint64_t least) {
  const std::string key(meta::kKeyCounterKey);
  const TimePoint deadline = scheduler_.now() + kLongest;
  while (scheduler_.now() < deadline) {
    VMS_CO_TRY(const auto now, co_await meta_.get(key));
    std::uint64_t first = KeyId::kFirst;
    meta::Compare compare{key, false};
    if (now.entry) {
      VMS_CO_TRY(const auto counter, meta::decode<meta::pb::KeyCounter>(now.entry->value));
      first = counter.next();
      compare.what = now.entry->mod_revision;
    }
    if (first < KeyId::kFirst) co_return Errc::corrupt;
    const std::uint64_t left = KeyId::kEnd - std::min<std::uint64_t>(first, KeyId::kEnd);
    const std::uint64_t size = std::min(std::max(least, kRangeSize), left);
    if (size < least) co_return Errc::no_space;
    meta::pb::KeyCounter counter;
    counter.set_next(first + size);
    meta::Txn txn;
    txn.compares.push_back(std::move(compare));
    txn.then_ops.push_back(meta::Op{key, meta::encode(counter)});
    const auto answer = co_await meta_.txn(std::move(txn));
    // Of a lost answer nothing is believed: the range may be wasted, and the next one is another.
    if (!answer) co_return answer.error() == Errc::unknown ? Errc::unavailable : answer.error();
    if (answer->held) {
      next_ = first;
      end_ = first + size;
      co_return success();
    }
    co_await sleep_for(scheduler_, kPause);
  }
  co_return Errc::unavailable;
}

}  // namespace vmstore::storaged
