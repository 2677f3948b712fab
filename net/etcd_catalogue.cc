// SPDX-License-Identifier: Apache-2.0
#include "net/etcd_catalogue.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>
#include <set>
#include <utility>
#include <variant>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/limits.h"

namespace vmstore::net::etcd {
namespace {

constexpr std::string_view kHeadWords = "vmstore catalogue ";
constexpr std::uint64_t kHeadFormat = 1;
constexpr std::uint64_t kNever = std::numeric_limits<std::int64_t>::max();  // no key's revision
constexpr std::size_t kPendingBytesMax = 4 * limits::kMetaTxnBytesMax;

/// The number that `text` begins with, and the blank behind it, which are cut off.
std::optional<std::uint64_t> take_number(std::string_view& text) {
  std::uint64_t value = 0;
  const char* const end = text.data() + text.size();
  const auto read = std::from_chars(text.data(), end, value);
  if (read.ec != std::errc()) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(read.ptr - text.data()));
  if (text.starts_with(' ')) text.remove_prefix(1);
  return value;
}

}  // namespace

std::string encode_head(const Head& head) {
  return std::string(kHeadWords) + std::to_string(kHeadFormat) + ' ' + std::to_string(head.base) +
         ' ' + std::to_string(head.tag);
}

Result<Head> decode_head(std::string_view value) {
  if (!value.starts_with(kHeadWords)) return Errc::foreign_store;
  std::string_view rest = value.substr(kHeadWords.size());
  const auto format = take_number(rest);
  if (format && *format > kHeadFormat) return Errc::newer_format;
  const auto base = take_number(rest);
  const auto tag = take_number(rest);
  if (!format || !base || !tag || *base == 0) return Errc::corrupt;
  const Head head{*base, *tag};
  if (encode_head(head) != value) return Errc::corrupt;
  return head;
}

Result<std::uint64_t> Numbers::ours(std::uint64_t etcd) const {
  // The entries of a catalogue that was brought here are older than its head.
  const bool fits = etcd >= head_at_
                        ? etcd - head_at_ <= std::numeric_limits<std::uint64_t>::max() - base_
                        : head_at_ - etcd < base_;
  if (etcd == 0 || !fits) return Errc::unknown;
  return base_ + etcd - head_at_;
}

std::uint64_t Numbers::theirs(std::uint64_t revision) const {
  VMS_ASSERT(revision >= base_);
  return revision - base_ + head_at_;
}

std::string Numbers::compare_of(const meta::Compare& compare) const {
  const std::string key = data_key(compare.key);
  if (const auto* const revision = std::get_if<std::uint64_t>(&compare.what)) {
    if (*revision == 0) return revision_is(key, 0);
    const bool is_possible = *revision >= base_ || base_ - *revision < head_at_;
    return revision_is(key, is_possible ? *revision - base_ + head_at_ : kNever);
  }
  if (const auto* const value = std::get_if<std::string>(&compare.what)) {
    return value_is(key, *value);
  }
  return std::get<bool>(compare.what) ? is_there(key) : is_absent(key);
}

std::string data_key(std::string_view key) {
  return std::string(kDataPrefix).append(key);
}

Range data_range(const meta::RangeRequest& request, std::uint32_t limit) {
  Range range;
  range.key = data_key(request.prefix);
  range.end = prefix_end(range.key);
  // The smallest key behind another one is that with a NUL added.
  if (!request.after.empty()) range.key = std::max(range.key, data_key(request.after) + '\0');
  range.limit = limit;
  return range;
}

std::vector<std::string> list_ops(const std::vector<meta::Op>& ops) {
  if (ops.empty()) {
    Range newest;
    newest.key = kChangeKey;
    return {range_op(newest)};
  }
  std::vector<std::string> texts;
  std::vector<std::string> removed;
  for (const meta::Op& op : ops) {
    const std::string key = data_key(op.key);
    texts.push_back(op.put ? put_op(key, *op.put) : remove_op(key));
    if (!op.put) removed.push_back(op.key);
  }
  texts.push_back(put_op(kChangeKey, encode_removed(removed)));
  return texts;
}

std::string encode_removed(const std::vector<std::string>& keys) {
  ByteWriter writer;
  for (const std::string& key : keys) {
    writer.put(static_cast<std::uint16_t>(key.size())).put_bytes(as_byte_span(key));
  }
  return std::string(as_text(writer.bytes()));
}

Result<std::vector<std::string>> decode_removed(std::string_view value) {
  std::vector<std::string> keys;
  while (!value.empty()) {
    if (value.size() < 2 || keys.size() >= limits::kMetaTxnOpsMax) return Errc::bad_frame;
    const unsigned low = static_cast<unsigned char>(value[0]);
    const unsigned high = static_cast<unsigned char>(value[1]);
    const std::size_t bytes = high << 8 | low;
    value.remove_prefix(2);
    if (bytes == 0 || bytes > limits::kMetaKeyBytesMax || bytes > value.size()) {
      return Errc::bad_frame;
    }
    keys.emplace_back(value.substr(0, bytes));
    value.remove_prefix(bytes);
  }
  return keys;
}

Result<std::vector<meta::Event>> ChangeReader::take(const WatchReply& reply) {
  std::vector<meta::Event> events;
  for (const WatchReply::Change& change : reply.changes) {
    const std::uint64_t at = change.kv.mod_revision;
    if (at < next_ || at < pending_at_) return Errc::bad_frame;
    if (!pending_.empty() && at > pending_at_) VMS_CHECK(finish(events));
    pending_at_ = at;
    pending_bytes_ += change.kv.key.size() + change.kv.value.size();
    if (pending_bytes_ > kPendingBytesMax) return Errc::bad_frame;
    pending_.push_back(change);
  }
  if (!reply.fragment && !pending_.empty()) VMS_CHECK(finish(events));
  return events;
}

void ChangeReader::skip_to(std::uint64_t revision) {
  next_ = std::max(next_, revision);
  pending_.clear();
  pending_bytes_ = 0;
  pending_at_ = 0;
}

/// The revision that is pending is complete.
Result<void> ChangeReader::finish(std::vector<meta::Event>& events) {
  VMS_TRY(const std::uint64_t revision, numbers_.ours(pending_at_));
  const std::size_t first = events.size();
  std::set<std::string, std::less<>> told;
  std::vector<std::string> removed;
  const auto tell = [&](std::string_view key, std::string value, bool is_removed) {
    if (!told.emplace(key).second || !key.starts_with(prefix_)) return;
    meta::Event event;
    event.entry = meta::Entry{std::string(key), std::move(value), revision};
    event.removed = is_removed;
    event.last = false;
    events.push_back(std::move(event));
  };
  for (WatchReply::Change& change : pending_) {
    const std::string_view key = change.kv.key;
    if (key == kHeadKey && pending_at_ > numbers_.head_at()) return Errc::foreign_store;
    if (key == kChangeKey) {
      VMS_TRY(removed, decode_removed(change.kv.value));
    }
    if (!key.starts_with(kDataPrefix)) continue;
    tell(key.substr(kDataPrefix.size()),
         change.removed ? std::string() : std::move(change.kv.value),
         change.removed);
  }
  for (const std::string& key : removed) tell(key, std::string(), true);
  if (events.size() > first) events.back().last = true;
  skip_to(pending_at_ + 1);
  return success();
}

}  // namespace vmstore::net::etcd
