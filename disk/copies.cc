// SPDX-License-Identifier: Apache-2.0
// Steps of docs/protocol/ownership.pml: fence, choose_end, seal.
#include "disk/copies.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "base/limits.h"
#include "base/log.h"
#include "meta/records.h"
#include "wire/record.h"
#include "wire/vmstore.pb.h"

namespace vmstore::disk {
namespace {

using net::NodeClient;

constexpr std::size_t kRememberedMax = 65'536;
constexpr unsigned kCopiesMost = 16;
constexpr Duration kSlowAnswer = std::chrono::seconds(5);

/// The answers of several nodes, in the order of the nodes.
template <class T>
struct Gathered {
  Gathered(Scheduler& scheduler, std::size_t count)
      : answers(count), left(count), done(scheduler) {}
  std::vector<std::optional<Result<T>>> answers;
  std::size_t left;
  Event done;

  void put(std::size_t place, Result<T> answer) {
    answers[place] = std::move(answer);
    leave_out();
  }
  void leave_out() {
    if (--left == 0) done.set();
  }
};

template <class T>
using GatheredPtr = std::shared_ptr<Gathered<T>>;

template <class T>
Task<void> put_answer(GatheredPtr<T> into, std::size_t place, Task<Result<T>> question) {
  auto answer = co_await question;
  into->put(place, std::move(answer));
}

/// Asks every node at once, in the order given; a null client is `unavailable`, one that has not
/// answered at `until` is `timed_out`. `ask` is called before this returns to its caller for the
/// first time, so that questions keep their order.
template <class T, class Ask>
Task<std::vector<Result<T>>> ask_all(Scheduler& scheduler,
                                     std::vector<NodeClient*> nodes,
                                     const Ask& ask,
                                     std::optional<TimePoint> until = {}) {
  const auto gathered = std::make_shared<Gathered<T>>(scheduler, nodes.size());
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i] == nullptr) {
      gathered->leave_out();
    } else {
      scheduler.spawn(put_answer<T>(gathered, i, ask(*nodes[i])));
    }
  }
  if (until) {
    static_cast<void>(co_await gathered->done.wait_until(*until));
  } else if (!nodes.empty()) {
    co_await gathered->done.wait();
  }
  std::vector<Result<T>> answers;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    // Errors in place: of temporaries g++ 12 warns falsely.
    if (auto& answer = gathered->answers[i]) {
      answers.push_back(std::move(*answer));
    } else if (nodes[i] == nullptr) {
      answers.emplace_back(Errc::unavailable);
    } else {
      answers.emplace_back(Errc::timed_out);
    }
  }
  co_return answers;
}

int severity(const Error& error) noexcept {
  if (error == Errc::ok) return 0;
  if (net::is_connection_trouble(error) || error == Errc::closing) return 1;
  if (error == Errc::no_space || error == Errc::busy) return 2;
  if (error == Errc::stale_token) return 4;
  return 3;
}

template <class T>
AllAnswer all_of(const KeyPlace& place, const std::vector<Result<T>>& answers) {
  AllAnswer all;
  for (std::size_t i = 0; i < answers.size(); ++i) {
    const Error error = answers[i] ? Error(Errc::ok) : answers[i].error();
    all.done += answers[i] ? 1U : 0U;
    if (severity(error) > severity(all.error)) all.error = error;
    if (i >= place.copies.size()) continue;
    if (severity(error) == 1) all.away.push_back(place.copies[i].node);
    if (error == Errc::timed_out) all.slow.push_back(place.copies[i].node);
  }
  return all;
}

/// A copy that ends where more is asked for may lack what the others have.
Task<Result<net::LogBytes>> read_log_at(
    NodeClient& node, KeyId key, std::uint64_t log_offset, std::uint32_t bytes_max, Epoch token) {
  VMS_CO_TRY(auto answer, co_await node.read_log(key, log_offset, bytes_max, token));
  if (answer.bytes.size() == 0) co_return Errc::wrong_offset;
  co_return std::move(answer);
}

/// Who of those that answered is believed: the newest folder, and nothing of it lost that others
/// know to be committed.
std::vector<bool> believed_of(const KeyPlace& place,
                              const std::vector<Result<net::FenceAnswer>>& answers) {
  Sequence known;  // committed for certain: on every copy
  for (const auto& answer : answers) {
    if (answer) known = std::max(known, answer->committed);
  }
  std::vector<bool> believed;
  for (std::size_t i = 0; i < answers.size(); ++i) {
    const auto& answer = answers[i];
    const bool recorded = i < place.copies.size() && !place.copies[i].incarnation.is_none();
    // Of another incarnation nothing is believed: its folder was wiped, or is an older copy [H4].
    const bool same_folder =
        answer && (!recorded || answer->incarnation == place.copies[i].incarnation);
    const bool whole = same_folder && answer->length.last_sequence >= known;
    believed.push_back(whole);
    if (whole || (!answer && severity(answer.error()) == 1)) continue;
    VMS_LOG(error,
            "disk",
            "key " << place.key.hex() << " on copy " << i << " is not believed: "
                   << (answer ? "another folder, or shorter than what was committed"
                              : to_string(answer.error())));
  }
  return believed;
}

/// Where a key ends whose copies answered so: what is sealed was settled before; else the longest,
/// none of whose records can have been cut. REQUIRES: one is believed.
KeyLength choose_end(const std::vector<Result<net::FenceAnswer>>& answers,
                     const std::vector<bool>& believed) {
  const net::FenceAnswer* chosen = nullptr;
  for (std::size_t i = 0; i < answers.size(); ++i) {
    if (!believed[i]) continue;
    const net::FenceAnswer& answer = *answers[i];
    const bool better = chosen == nullptr || (answer.sealed && !chosen->sealed) ||
                        (answer.sealed == chosen->sealed &&
                         answer.length.last_sequence > chosen->length.last_sequence);
    if (better) chosen = &answer;
  }
  return chosen->length;
}

/// Blocks of one record, at most kRecordBlocksMax.
Task<Result<wire::Payload>> read_record_blocks(NodeClient& node,
                                               KeyId key,
                                               BlockIndex first,
                                               std::uint64_t count) {
  static_assert(limits::kRecordBlocksMax <= limits::kReadBlocksMax);
  if (count == 0) co_return wire::Payload();
  const auto address = Address::make(key, first);
  if (!address) co_return Errc::corrupt;
  std::vector<net::ReadRange> ranges(1);
  ranges.front() = net::ReadRange{*address, static_cast<std::uint32_t>(count)};
  VMS_CO_TRY(auto read, co_await node.read(std::move(ranges)));
  co_return std::move(read.payload);
}

/// Appends to a fenced copy the records that `from` has behind its end, as they are.
Task<Result<void>> copy_tail(
    NodeClient& from, NodeClient& to, KeyId key, Epoch token, KeyLength at, KeyLength end) {
  while (at.log_bytes < end.log_bytes) {
    const auto wanted = static_cast<std::uint32_t>(
        std::min<std::uint64_t>(limits::kRecordHeaderBytesMax, end.log_bytes - at.log_bytes));
    VMS_CO_TRY(const auto log, co_await from.read_log(key, at.log_bytes, wanted, token));
    VMS_CO_TRY(const auto decoded, wire::decode_record(log.bytes.bytes()));
    const wire::RecordHeader& header = decoded.header;
    if (header.sequence != at.last_sequence.next()) co_return Errc::corrupt;
    VMS_CO_TRY(auto blocks,
               co_await read_record_blocks(from, key, header.data_offset, header.block_count()));
    const ByteSpan bytes = log.bytes.bytes().first(decoded.bytes);
    std::vector<std::byte> record(bytes.begin(), bytes.end());
    VMS_CO_TRY(at,
               co_await to.append(key,
                                  token,
                                  header.sequence,
                                  at.log_bytes,
                                  header.data_offset,
                                  Sequence(),
                                  std::move(record),
                                  std::move(blocks)));
  }
  co_return at == end ? Result<void>(success()) : Result<void>(Errc::corrupt);
}

/// Another copy cannot help.
bool is_final(const Error& error) noexcept {
  return error == Errc::punched || error == Errc::stale_token || error == Errc::invalid_argument ||
         error == Errc::closing;
}

}  // namespace

KeyPlace place_from(const meta::pb::KeyPlace& record) {
  KeyPlace place;
  place.key = *KeyId::make(record.key());
  for (int i = 0; i < record.nodes_size(); ++i) {
    KeyPlace::Copy copy;
    copy.node = meta::from_pb<NodeId>(record.nodes(i));
    if (i < record.incarnations_size()) {
      copy.incarnation = meta::from_pb<Incarnation>(record.incarnations(i));
    }
    place.copies.push_back(copy);
  }
  return place;
}

void put_place(const KeyPlace& place, meta::pb::KeyPlace& record) {
  record.set_key(place.key.value());
  record.clear_nodes();
  record.clear_incarnations();
  for (const KeyPlace::Copy& copy : place.copies) {
    *record.add_nodes() = meta::to_pb(copy.node);
    *record.add_incarnations() = meta::to_pb(copy.incarnation);
  }
}

std::vector<NodeClient*> Copies::clients(const KeyPlace& place) {
  std::vector<NodeClient*> found;
  for (const KeyPlace::Copy& copy : place.copies) found.push_back(nodes_.find(copy.node));
  if (place.copies.empty()) found.push_back(&nodes_.home());
  return found;
}

std::optional<TimePoint> Copies::patience(const KeyPlace& place) const {
  if (place.copies.size() <= 1) return std::nullopt;
  return scheduler_.now() + kSlowAnswer;
}

void Copies::avoid(NodeId node, Duration time) {
  TimePoint& until = avoided_[node];
  until = std::max(until, scheduler_.now() + time);
}

std::vector<NodeId> Copies::place_new(KeyId key, CopyCount count) {
  ring::PlaceRequest request;
  request.key = key;
  request.copies = count.wanted;
  std::vector<NodeId> skip = nodes_.unreachable();
  request.skip = skip;
  request.zones = ring::Zones::fill_up;
  std::vector<NodeId> all = nodes_.ring().place(request);
  std::erase_if(avoided_, [&](const auto& slow) { return slow.second <= scheduler_.now(); });
  if (avoided_.empty()) return all;
  for (const auto& [node, until] : avoided_) skip.push_back(node);
  request.skip = skip;
  std::vector<NodeId> fast = nodes_.ring().place(request);
  return fast.size() < count.least ? all : fast;
}

// ---- the owner's key ----

Task<Result<KeyPlace>> Copies::create(
    KeyId key, DiskId disk, Epoch token, std::vector<std::byte> header_record, CopyCount count) {
  KeyPlace place;
  place.key = key;
  for (const NodeId node : place_new(key, count)) {
    place.copies.push_back(KeyPlace::Copy{node, Incarnation()});
  }
  if (place.copies.empty() || place.copies.size() < count.least) co_return Errc::unavailable;
  const auto ask = [&](NodeClient& node) {
    return node.create_key(key, disk, token, header_record, count.wanted);
  };
  const auto answers =
      co_await ask_all<Incarnation>(scheduler_, clients(place), ask, patience(place));
  const AllAnswer all = all_of(place, answers);
  const bool exists = std::any_of(answers.begin(), answers.end(), [](const auto& answer) {
    return !answer && answer.error() == Errc::exists;
  });
  if (exists && all.error != Errc::stale_token) co_return Errc::exists;
  if (!all.is_ok()) co_return all.error;
  for (std::size_t i = 0; i < answers.size(); ++i) place.copies[i].incarnation = *answers[i];
  if (placed_.size() >= kRememberedMax) placed_.clear();
  placed_[key] = place;
  co_return place;
}

Task<AllAnswer> Copies::append(KeyPlace place,
                               Append where,
                               std::vector<std::byte> record,
                               wire::Payload blocks) {
  const auto ask = [&](NodeClient& node) {
    return node.append(place.key,
                       where.token,
                       where.sequence,
                       where.log_offset,
                       where.data_offset,
                       where.committed,
                       record,
                       blocks);
  };
  const std::vector<NodeClient*> nodes = clients(place);
  std::vector<Result<KeyLength>> answers;
  if (nodes.size() == 1 && nodes.front() != nullptr) {
    auto answer = co_await ask(*nodes.front());
    answers.push_back(std::move(answer));
  } else {
    const auto until = where.may_be_given_up ? patience(place) : std::nullopt;
    answers = co_await ask_all<KeyLength>(scheduler_, nodes, ask, until);
  }
  co_return all_of(place, answers);
}

Task<AllAnswer> Copies::seal(KeyPlace place,
                             Epoch token,
                             KeyLength length,
                             std::vector<NodeId> without) {
  const auto is_left_out = [&without](const KeyPlace::Copy& copy) {
    return std::find(without.begin(), without.end(), copy.node) != without.end();
  };
  const bool all = std::all_of(place.copies.begin(), place.copies.end(), is_left_out);
  if (!all) std::erase_if(place.copies, is_left_out);
  const auto ask = [&](NodeClient& node) { return node.seal(place.key, token, length); };
  const auto answers =
      co_await ask_all<KeyLength>(scheduler_, clients(place), ask, patience(place));
  co_return all_of(place, answers);
}

Task<AllAnswer> Copies::committed(KeyPlace place, Epoch token, Sequence committed) {
  const auto ask = [&](NodeClient& node) { return node.committed(place.key, token, committed); };
  const auto answers = co_await ask_all<void>(scheduler_, clients(place), ask, patience(place));
  co_return all_of(place, answers);
}

Task<Result<KeyLength>> Copies::reserve(KeyPlace place,
                                        Epoch token,
                                        BlockIndex data_blocks,
                                        std::uint64_t log_bytes) {
  const auto ask = [&](NodeClient& node) {
    return node.reserve(place.key, token, data_blocks, log_bytes);
  };
  const auto answers =
      co_await ask_all<KeyLength>(scheduler_, clients(place), ask, patience(place));
  const AllAnswer all = all_of(place, answers);
  if (!all.is_ok()) co_return all.error;
  KeyLength least = *answers.front();
  for (const auto& answer : answers) {
    least.blocks.value = std::min(least.blocks.value, answer->blocks.value);
    least.log_bytes = std::min(least.log_bytes, answer->log_bytes);
  }
  co_return least;
}

Task<Result<void>> Copies::free_blocks(KeyId key,
                                       Epoch token,
                                       DiskId disk,
                                       std::vector<NodeClient::FreeRun> runs,
                                       NodeClient::FreeReport report) {
  KeyPlace place;
  const auto placed = placed_.find(key);
  if (placed != placed_.end()) {
    place = placed->second;
  } else if (nodes_.members().size() > 1) {
    for (const NodeId node : nodes_.members()) place.copies.push_back({node, Incarnation()});
  }
  const auto ask = [&](NodeClient& node) {
    return node.free_blocks(key, token, disk, runs, report);
  };
  const auto answers = co_await ask_all<void>(scheduler_, clients(place), ask);
  const AllAnswer all = all_of(place, answers);
  if (all.done > 0) co_return success();
  co_return all.error;
}

// ---- takeover ----

Task<Result<FencedKey>> Copies::fence(KeyPlace place, Epoch token) {
  const auto ask = [&](NodeClient& node) { return node.fence(place.key, token); };
  auto answers =
      co_await ask_all<net::FenceAnswer>(scheduler_, clients(place), ask, patience(place));
  bool one_may_come = false;
  for (const auto& answer : answers) {
    if (!answer && answer.error() == Errc::stale_token) co_return Errc::stale_token;
    if (!answer && severity(answer.error()) == 1) one_may_come = true;
  }
  const std::vector<bool> believed = believed_of(place, answers);
  if (std::find(believed.begin(), believed.end(), true) != believed.end()) {
    co_return co_await settle_fenced(std::move(place), token, std::move(answers));
  }
  // The record names this key: that it is absent everywhere is damage, never emptiness (I9).
  const Error first = answers.front() ? Error(Errc::unknown) : answers.front().error();
  if (answers.size() == 1) co_return first == Errc::not_found ? Error(Errc::unknown) : first;
  co_return one_may_come ? Errc::unavailable : Errc::unknown;
}

Task<Result<FencedKey>> Copies::settle_fenced(KeyPlace place,
                                              Epoch token,
                                              std::vector<Result<net::FenceAnswer>> answers) {
  const std::vector<bool> believed = believed_of(place, answers);
  const std::vector<NodeClient*> nodes = clients(place);
  FencedKey key;
  key.length = choose_end(answers, believed);
  NodeClient* whole = nullptr;
  for (std::size_t i = 0; i < answers.size(); ++i) {
    if (!believed[i]) continue;
    key.sealed = key.sealed || answers[i]->sealed;
    if (answers[i]->length == key.length) whole = nodes[i];
  }
  for (std::size_t i = 0; i < answers.size(); ++i) {
    bool is_whole = believed[i];
    // A longer one is cut when it is sealed.
    if (is_whole && answers[i]->length.last_sequence < key.length.last_sequence) {
      const auto completed =
          co_await copy_tail(*whole, *nodes[i], place.key, token, answers[i]->length, key.length);
      if (!completed && completed.error() == Errc::stale_token) co_return completed.error();
      VMS_LOG(warning,
              "disk",
              "key " << place.key.hex() << ": a copy ended at record "
                     << answers[i]->length.last_sequence.value << ", another at "
                     << key.length.last_sequence.value << ": "
                     << (completed ? "completed" : to_string(completed.error())));
      is_whole = completed.has_value();
    }
    if (is_whole) {
      ++key.believed;
    } else {
      key.away.push_back(i < place.copies.size() ? place.copies[i].node : nodes_.home().node());
    }
  }
  co_return key;
}

// ---- any copy ----

std::vector<NodeId> Copies::candidates(KeyId key) {
  std::vector<NodeId> order;
  const auto add = [&order](NodeId node) {
    if (std::find(order.begin(), order.end(), node) == order.end()) order.push_back(node);
  };
  const auto found = found_.find(key);
  if (found != found_.end()) add(found->second);
  ring::PlaceRequest request;
  request.key = key;
  request.copies = kCopiesMost;
  request.zones = ring::Zones::fill_up;
  for (const NodeId node : nodes_.ring().place(request)) add(node);
  for (const NodeId node : nodes_.members()) add(node);
  return order;
}

/// The first copy that serves. When none does: the worst trouble of a copy, and "no such key" only
/// when every member said so.
template <class T, class Ask>
Task<Result<T>> Copies::ask_any(KeyId key, Ask ask) {
  if (nodes_.members().size() <= 1) co_return co_await ask(nodes_.home());
  Error worst{Errc::not_found};
  for (const NodeId id : candidates(key)) {
    NodeClient* const node = nodes_.find(id);
    Result<T> answer(Errc::unavailable);
    if (node != nullptr) answer = co_await ask(*node);
    if (answer) {
      if (found_.size() >= kRememberedMax) found_.clear();
      found_[key] = id;
      co_return std::move(answer);
    }
    const Error& error = answer.error();
    if (is_final(error)) co_return error;
    if (error == Errc::not_found) continue;
    if (worst == Errc::not_found || severity(error) > severity(worst)) worst = error;
  }
  co_return worst;
}

Task<Result<net::ReadBlocks>> Copies::read(std::vector<net::ReadRange> ranges) {
  const KeyId key = ranges.front().address.key();
  const auto ask = [&ranges](NodeClient& node) { return node.read(ranges); };
  co_return co_await ask_any<net::ReadBlocks>(key, ask);
}

Task<Result<net::LogBytes>> Copies::read_log(KeyId key,
                                             std::uint64_t log_offset,
                                             std::uint32_t bytes_max,
                                             Epoch token) {
  const auto ask = [=](NodeClient& node) {
    return read_log_at(node, key, log_offset, bytes_max, token);
  };
  co_return co_await ask_any<net::LogBytes>(key, ask);
}

Task<Result<std::unique_ptr<pb::KeyInfoReply>>> Copies::key_info(KeyId key) {
  const auto ask = [=](NodeClient& node) { return node.key_info(key); };
  co_return co_await ask_any<std::unique_ptr<pb::KeyInfoReply>>(key, ask);
}

}  // namespace vmstore::disk
