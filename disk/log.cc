// SPDX-License-Identifier: Apache-2.0
// Steps of docs/protocol/ownership.pml: adopt, new_key, begin_key, acknowledge.
#include "disk/log.h"

#include <algorithm>
#include <utility>

#include "base/fault.h"
#include "base/limits.h"
#include "base/log.h"
#include "meta/records.h"

namespace vmstore::disk {
namespace {

constexpr std::uint64_t kFlightBytesMax = 4 * limits::kMiB;
constexpr std::size_t kFlightsMax = 64;
constexpr std::size_t kSlowRollsMost = 3;
constexpr Duration kSlowRollsIn = std::chrono::minutes(10);
/// A silent node may look alive on a connection that nothing was asked on since.
constexpr Duration kAwayAvoided = std::chrono::seconds(10);
constexpr Duration kTroublePause = std::chrono::milliseconds(100);
constexpr Duration kConnectLook = std::chrono::seconds(1);
constexpr Duration kAnnounceDelay = std::chrono::seconds(1);
constexpr std::uint64_t kLogBytesPerBlock = 256;  // header, run and sum of a 4 KiB record, rounded

constexpr std::int64_t kCreditBlocksMin = limits::kCreditBytesMin / kBlockBytes;
constexpr std::uint64_t kReserveBlocksMost = limits::kGiB / kBlockBytes;
constexpr Duration kRollAgainPauseMost = std::chrono::seconds(5);
constexpr Duration kRollPause = std::chrono::milliseconds(200);  // before a credit asks again

bool connection_lost(const Error& error) noexcept {
  return net::is_connection_trouble(error) || error == Errc::closing;
}

/// The key takes nothing more, whoever asks; another key may.
bool is_key_trouble(const Error& error) noexcept {
  const bool passing = error == Errc::no_space || error == Errc::busy;
  const bool ours = error == Errc::stale_token || error == Errc::invalid_argument;
  return !connection_lost(error) && !passing && !ours;
}

}  // namespace

struct Log::Flight {
  enum class State { queued, sending, done, failed };
  LogItem item;
  State state = State::queued;
  Placement place;
  std::uint64_t log_bytes = 0;
  std::vector<std::byte> record;
  Error error;
  std::vector<NodeId> away;  // that did not answer
  std::vector<NodeId> slow;  // of these
  bool placed = false;
};

Log::Log(Scheduler& scheduler, Copies& copies, OwnedRecord& record, std::uint64_t roll_bytes)
    : scheduler_(scheduler),
      copies_(copies),
      record_(record),
      roll_bytes_(roll_bytes),
      gate_(scheduler),
      changed_(scheduler),
      credit_mutex_(scheduler) {}

Log::~Log() = default;

void Log::begin(const LogStart& start) {
  last_sequence_ = start.last_sequence;
  committed_ = start.last_sequence.value;
  last_key_ = start.last_key;
  last_length_ = start.last_length;
  root_ = start.root;
  begins_here_ = record_.get().log_from().key() == 0;
  if (start.open_key) {
    place_ = *start.open_key;
    key_ = place_.key;
    adopt_length_ = start.open_length;
    length_ = start.open_length;
    committed_length_ = start.open_length;
    reserved_ = length_.blocks;
  }
}

LogPosition Log::end() const noexcept {
  if (!key_.is_none()) return {key_, length_.log_bytes, last_sequence_.next()};
  return {last_key_, last_length_.log_bytes, last_sequence_.next()};
}

// ---- becoming the writer ----

Task<Result<void>> Log::start_writing(BootId boot, bool has_batch_file) {
  VMS_CO_TRY(const auto pass, gate_.enter());
  VMS_ASSERT(!writing_);
  boot_ = boot;
  has_batch_file_ = has_batch_file;
  if (adopt_length_) {
    VMS_CO_CHECK(co_await adopt_open_key());
  } else {
    VMS_CO_CHECK(co_await open_new_key());
  }
  writing_ = true;
  co_return success();
}

CopyCount Log::copy_count() const noexcept {
  CopyCount count;
  count.wanted = std::max(1U, record_.get().copies());
  count.least = std::clamp(record_.get().min_copies(), 1U, count.wanted);
  return count;
}

Task<Result<void>> Log::adopt_open_key() {
  const auto fenced = co_await copies_.fence(place_, record_.epoch());
  // The record names this key: its absence is damage, never emptiness (I9).
  if (!fenced) co_return fenced.error();
  if (fenced->length != *adopt_length_) {
    VMS_LOG(error,
            "log",
            "key " << key_.hex() << " is not as it was released: " << fenced->length.log_bytes
                   << " log bytes instead of " << adopt_length_->log_bytes);
    co_return Errc::unknown;
  }
  // Sealed: a rollback died, or was refused, before the record said so; nothing is lost. A copy
  // that is away would be left behind by the next append: the key ends as it was released.
  if (fenced->sealed || !fenced->away.empty()) {
    VMS_CO_CHECK(co_await open_new_key());
    adopt_length_.reset();
    co_return success();
  }
  const auto become_writer = [this](meta::pb::DiskRecord& record) {
    auto* const writer = record.mutable_writer();
    writer->set_epoch(record_.epoch().value);
    *writer->mutable_boot_id() = meta::to_pb(boot_);
    writer->set_has_batch_file(has_batch_file_);
    record.mutable_open_key()->set_token(record_.epoch().value);
  };
  VMS_CO_CHECK(co_await change_record(become_writer));
  adopt_length_.reset();
  own_keys_.push_back(key_);
  co_return success();
}

/// What cannot be told is asked for again, by whoever wanted to write: nothing was written yet.
Task<Result<void>> Log::change_record(OwnedRecord::Change change) {
  const auto changed = co_await record_.change(std::move(change));
  if (!changed && changed.error() == Errc::unknown) co_return Errc::timed_out;
  co_return changed;
}

void Log::name_end(meta::pb::DiskRecord& record) const {
  LogPosition end_position = end();
  BlockIndex blocks = length_.blocks;
  const auto open_key = KeyId::make(record.open_key().key());
  const auto named = open_key ? perhaps_named_.find(*open_key) : perhaps_named_.end();
  if (named != perhaps_named_.end()) {
    const KeyLength& length = named->second;
    end_position = {*open_key, length.log_bytes, length.last_sequence.next()};
    blocks = length.blocks;
  } else if (!writing_) {
    return;
  }
  *record.mutable_log_end() = meta::to_pb(end_position);
  record.set_open_blocks(blocks.value);
}

Task<Result<KeyPlace>> Log::create_next_key(KeyLength& length) {
  if (!can_do_without({})) co_return Errc::unavailable;
  // A number that was tried is not tried again, whatever came of it: a copy may lie somewhere.
  std::uint64_t first = range_first_ != 0 ? range_first_ : record_.get().key_range_first();
  std::uint64_t next = range_first_ != 0 ? range_next_ : record_.get().key_range_next();
  for (std::uint64_t tried = 0; tried <= 2 * limits::kKeyRangeSize; ++tried) {
    if (first == 0 || next >= limits::kKeyRangeSize) {
      VMS_CO_TRY(first, co_await copies_.nodes().home().draw_keys(limits::kKeyRangeSize));
      next = 0;
    }
    const auto key = KeyId::make(first + next);
    if (!key || !key->is_usable()) co_return Errc::corrupt;
    ++next;
    range_first_ = first;
    range_next_ = next;
    const auto remember = [first, next](meta::pb::DiskRecord& record) {
      record.set_key_range_first(first);
      record.set_key_range_next(static_cast<std::uint32_t>(next));
    };
    remember_range_ = remember;
    wire::RecordHeader header;
    header.kind = wire::RecordKind::key_header;
    header.disk = record_.id();
    header.key = *key;
    header.epoch = record_.epoch();
    header.sequence = Sequence(committed_.load()).next();
    header.committed = Sequence(committed_.load());
    header.wall_time = scheduler_.wall_now();
    header.predecessor = key_.is_none() ? last_key_ : key_;
    header.predecessor_length = key_.is_none() ? last_length_ : committed_length_;
    std::vector<std::byte> encoded = wire::encode_record(header);
    length = KeyLength();
    length.last_sequence = header.committed;
    length.log_bytes = encoded.size();
    auto created = co_await copies_.create(
        *key, record_.id(), record_.epoch(), std::move(encoded), copy_count());
    // A dead session of this disk may have created it and never named it: never reuse it.
    if (!created && created.error() == Errc::exists) continue;
    if (!created) co_return created.error();
    VMS_FAULT("disk.key_created");
    co_return std::move(created);
  }
  co_return Errc::exists;
}

Task<Result<void>> Log::open_new_key() {
  KeyLength length;
  VMS_CO_TRY(const KeyPlace made, co_await create_next_key(length));
  const KeyId key = made.key;
  const KeyId old_key = key_;
  const KeyLength old_length = committed_length_;
  if (!old_key.is_none()) {
    const auto sealed = co_await copies_.seal(place_, record_.epoch(), old_length, gone_);
    // The record below seals it for everybody; the copies' own flags may come later. Where there
    // is but one node it is asked again rather than left without.
    if (sealed.error == Errc::stale_token) co_return sealed.error;
    if (connection_lost(sealed.error) && !can_do_without(sealed.away)) co_return sealed.error;
  }
  const auto name_key = [&](meta::pb::DiskRecord& record) {
    remember_range_(record);
    auto* const place = record.mutable_open_key();
    place->Clear();
    put_place(made, *place);
    place->set_first_sequence(length.last_sequence.next().value);
    place->set_token(record_.epoch().value);
    if (!old_key.is_none()) {
      record.mutable_last_sealed()->set_key(old_key.value());
      *record.mutable_last_sealed_length() = meta::to_pb(old_length);
    }
    // Also over the key of an attempt whose answer never came: nothing leads from this one to it.
    if (begins_here_) {
      const LogPosition from{key, length.log_bytes, length.last_sequence.next()};
      *record.mutable_log_from() = meta::to_pb(from);
    }
    auto* const writer = record.mutable_writer();
    writer->set_epoch(record_.epoch().value);
    *writer->mutable_boot_id() = meta::to_pb(boot_);
    writer->set_has_batch_file(has_batch_file_);
  };
  perhaps_named_[key] = length;
  VMS_CO_CHECK(co_await change_record(name_key));
  VMS_FAULT("disk.key_named");
  perhaps_named_.clear();
  begins_here_ = false;
  const std::int64_t old_room =
      static_cast<std::int64_t>(reserved_.value) - static_cast<std::int64_t>(length_.blocks.value);
  key_ = key;
  place_ = made;
  gone_.clear();
  length_ = length;
  committed_length_ = length;
  last_sequence_ = length.last_sequence;
  reserved_ = BlockIndex();
  credit_.fetch_sub(old_room);
  own_keys_.push_back(key);
  co_return success();
}

// ---- appending ----

void Log::append(LogItem item) {
  auto flight = std::make_shared<Flight>();
  flight->item = std::move(item);
  queue_.push_back(std::move(flight));
  start_pump();
}

void Log::start_pump() {
  if (pump_running_ || stopping_ || failure_ || still_) return;
  pump_running_ = true;
  scheduler_.spawn(pump());
}

Task<void> Log::pump() {
  const auto pass = gate_.enter();
  while (pass && !stopping_ && !failure_ && !still_) {
    if (troubled_) {
      co_await resolve_trouble();
    } else if (queue_.empty() && !roll_wanted_) {
      break;
    } else if (flight_bytes_ >= kFlightBytesMax || flights_.size() >= kFlightsMax ||
               (must_roll() && !flights_.empty())) {
      static_cast<void>(co_await changed_.wait_pulse());
    } else if (must_roll()) {
      static_cast<void>(co_await roll_until_done());
    } else {
      const auto flight = queue_.front();
      queue_.pop_front();
      flights_.push_back(flight);
      flight_bytes_ += flight->item.blocks.size();
      launch(flight);
    }
  }
  pump_running_ = false;
  changed_.pulse();
}

Task<void> Log::hold_still() {
  still_ = true;
  changed_.pulse();
  while (pump_running_) static_cast<void>(co_await changed_.wait_pulse());
}

void Log::go_on() {
  still_ = false;
  start_pump();
}

bool Log::must_roll() const noexcept {
  return roll_wanted_ || length_.blocks.value * kBlockBytes >= roll_bytes_ ||
         length_.log_bytes >= roll_bytes_;
}

void Log::place(Flight& flight) {
  wire::RecordHeader& header = flight.item.header;
  flight.place.key = key_;
  flight.place.sequence = header.sequence;
  flight.place.log_offset = length_.log_bytes;
  flight.place.data_offset = length_.blocks;
  header.disk = record_.id();
  header.key = key_;
  header.epoch = record_.epoch();
  header.committed = Sequence(committed_.load());
  header.wall_time = scheduler_.wall_now();
  header.root = root_;
  header.data_offset = length_.blocks;
  if (flight.item.on_place) flight.item.on_place(flight.place, flight.item);
  VMS_ASSERT(header.sequence == last_sequence_.next());
  flight.record = wire::encode_record(header);
  flight.log_bytes = flight.record.size();
  const auto blocks = header.block_count();
  length_.log_bytes += flight.log_bytes;
  length_.blocks.value += blocks;
  length_.last_sequence = header.sequence;
  last_sequence_ = header.sequence;
  flight.place.end = {key_, length_.log_bytes, header.sequence.next()};
  flight.place.data_end = length_.blocks;
  replay_bytes_ += flight.log_bytes;
  if (!flight.placed) outstanding_.fetch_sub(static_cast<std::int64_t>(blocks));
  // A record placed a second time takes room of the new key that nobody had taken before.
  if (flight.placed) credit_.fetch_sub(static_cast<std::int64_t>(blocks));
  flight.placed = true;
}

void Log::launch(const std::shared_ptr<Flight>& flight) {
  if (flight->state == Flight::State::queued) place(*flight);
  flight->state = Flight::State::sending;
  scheduler_.spawn(send(flight));
}

Task<void> Log::send(std::shared_ptr<Flight> flight) {
  const auto pass = gate_.enter();
  if (!pass) co_return;
  const Placement& place = flight->place;
  Copies::Append where;
  where.token = record_.epoch();
  where.sequence = place.sequence;
  where.log_offset = place.log_offset;
  where.data_offset = place.data_offset;
  where.committed = Sequence(committed_.load());
  where.may_be_given_up = may_roll_for_slowness();
  const auto outcome = co_await copies_.append(place_, where, flight->record, flight->item.blocks);
  if (outcome.is_ok()) {
    flight->state = Flight::State::done;
  } else {
    flight->state = Flight::State::failed;
    flight->error = outcome.error;
    flight->away = outcome.away;
    flight->slow = outcome.slow;
    troubled_ = true;
  }
  advance();
  if (troubled_) start_pump();
  changed_.pulse();
}

void Log::advance() {
  if (failure_) return;
  while (!flights_.empty() && flights_.front()->state == Flight::State::done) {
    const auto flight = flights_.front();
    flights_.pop_front();
    flight_bytes_ -= flight->item.blocks.size();
    committed_length_.last_sequence = flight->place.sequence;
    committed_length_.log_bytes = flight->place.end.log_offset;
    committed_length_.blocks = flight->place.data_end;
    if (flight->item.on_commit) flight->item.on_commit(flight->place);
    committed_ = flight->place.sequence.value;
    roll_again_pause_ = Duration(0);
  }
  if (!announcing_ && committed_.load() > announced_.value && !stopping_) {
    announcing_ = true;
    scheduler_.spawn(announce_committed());
  }
}

Task<void> Log::announce_committed() {
  const auto pass = gate_.enter();
  // Again when something was committed meanwhile, or the node was away; a refusal of this key is
  // final, and the next commit is announced by itself.
  bool again = true;
  while (pass && again) {
    static_cast<void>(co_await changed_.wait_until(scheduler_.now() + kAnnounceDelay));
    const Sequence newest(committed_.load());
    if (stopping_ || failure_ || newest <= announced_) break;
    const auto told = co_await copies_.committed(place_, record_.epoch(), newest);
    if (told.is_ok()) announced_ = newest;
    again = told.is_ok() || connection_lost(told.error);
  }
  announcing_ = false;
}

// ---- trouble ----

/// Whether a new key can be made without these nodes (DESIGN 4.7).
bool Log::can_do_without(const std::vector<NodeId>& away) {
  std::vector<NodeId> gone = copies_.nodes().unreachable();
  gone.insert(gone.end(), away.begin(), away.end());
  const auto& members = copies_.nodes().members();
  const auto lives = [&gone](NodeId node) {
    return std::find(gone.begin(), gone.end(), node) == gone.end();
  };
  const auto alive = std::count_if(members.begin(), members.end(), lives);
  return static_cast<std::size_t>(alive) >= copy_count().least;
}

/// A slow store must not be rolled to pieces, and where nobody can take a copy's place it is waited
/// for (DESIGN 4.7).
bool Log::may_roll_for_slowness() {
  while (!slow_rolls_.empty() && slow_rolls_.front() + kSlowRollsIn <= scheduler_.now()) {
    slow_rolls_.pop_front();
  }
  if (place_.copies.size() <= 1 || slow_rolls_.size() >= kSlowRollsMost) return false;
  return can_do_without({place_.copies.front().node});
}

bool Log::any_sending() const noexcept {
  return std::any_of(flights_.begin(), flights_.end(), [](const auto& flight) {
    return flight->state == Flight::State::sending;
  });
}

Task<void> Log::resolve_trouble() {
  while (any_sending()) static_cast<void>(co_await changed_.wait_pulse());
  advance();
  const auto first = std::find_if(flights_.begin(), flights_.end(), [](const auto& flight) {
    return flight->state == Flight::State::failed;
  });
  troubled_ = false;
  if (first == flights_.end() || failure_ || stopping_) co_return;
  const Error error = (*first)->error;
  if (error == Errc::stale_token) {
    fail(error);
    co_return;
  }
  const bool is_away = connection_lost(error);
  if (is_away && !can_do_without((*first)->away)) {
    // Bounded, so that a stop is seen.
    const auto connected =
        co_await copies_.nodes().home().wait_connected(scheduler_.now() + kConnectLook);
    if (!connected && !connection_lost(connected.error())) {
      fail(connected.error());
      co_return;
    }
    if (connected && copies_.nodes().members().size() > 1)
      co_await sleep_for(scheduler_, kTroublePause);
  } else if (error == Errc::no_space || error == Errc::busy) {
    co_await sleep_for(scheduler_, kTroublePause);  // acknowledged data waits, it never fails
  } else {
    VMS_LOG(warning,
            "log",
            "append to key " << key_.hex() << " failed: " << to_string(error)
                             << "; rolling to a new key");
    for (const NodeId node : (*first)->away) copies_.avoid(node, kAwayAvoided);
    for (const NodeId node : (*first)->slow) copies_.avoid(node, kSlowRollsIn);
    if (!(*first)->slow.empty()) slow_rolls_.push_back(scheduler_.now());
    gone_ = (*first)->away;
    // A new key may fail as well, when it is the node or its disk: not key after key at full speed.
    if (roll_again_pause_ != Duration(0)) co_await sleep_for(scheduler_, roll_again_pause_);
    roll_again_pause_ =
        std::clamp<Duration>(2 * roll_again_pause_, kTroublePause, kRollAgainPauseMost);
    if (!co_await roll_until_done()) {
      troubled_ = true;
      co_return;
    }
  }
  if (stopping_ || failure_) co_return;
  // Copy: a flight that fails at once changes the deque's states, never its members.
  const auto again = flights_;
  for (const auto& flight : again) {
    if (flight->state != Flight::State::done) launch(flight);
  }
}

Task<bool> Log::roll_until_done() {
  while (!stopping_ && !failure_ && !still_) {
    const auto rolled = co_await open_new_key();
    if (rolled) {
      // What was placed in the old key and not committed is placed again, same sequences.
      for (const auto& flight : flights_) flight->state = Flight::State::queued;
      roll_wanted_ = false;
      roll_error_.reset();
      changed_.pulse();
      co_return true;
    }
    roll_error_ = rolled.error();
    if (rolled.error() == Errc::stale_token || rolled.error() == Errc::conflict) {
      fail(Errc::stale_token);
    } else if (connection_lost(rolled.error())) {
      static_cast<void>(
          co_await copies_.nodes().home().wait_connected(scheduler_.now() + kConnectLook));
    }
    if (!failure_) co_await sleep_for(scheduler_, kTroublePause);
  }
  co_return false;
}

void Log::fail(const Error& error) {
  if (failure_) return;
  failure_ = error;
  failed_ = true;
  VMS_LOG(warning, "log", "disk " << record_.id().hex() << ": writing ended: " << to_string(error));
  if (on_failure_) on_failure_(error);
  changed_.pulse();
}

Task<Result<void>> Log::wait_committed(Sequence sequence, std::optional<TimePoint> deadline) {
  VMS_CO_TRY(const auto pass, gate_.enter());
  while (Sequence(committed_.load()) < sequence) {
    if (failure_) co_return *failure_;
    if (stopping_) co_return Errc::closing;
    if (deadline && scheduler_.now() >= *deadline) co_return Errc::timed_out;
    static_cast<void>(co_await changed_.wait_pulse(deadline));
  }
  co_return success();
}

// ---- credit ----

bool Log::take_credit(std::int64_t blocks) noexcept {
  std::int64_t have = credit_.load();
  do {
    if (have < blocks) return false;
  } while (!credit_.compare_exchange_weak(have, have - blocks));
  outstanding_.fetch_add(blocks);
  return true;
}

void Log::force_credit(std::int64_t blocks) noexcept {
  credit_.fetch_sub(blocks);
  outstanding_.fetch_add(blocks);
}

void Log::give_credit(std::int64_t blocks) noexcept {
  outstanding_.fetch_sub(blocks);
  credit_.fetch_add(blocks);
}

Task<Result<void>> Log::refill_credit(std::int64_t blocks_wanted) {
  VMS_CO_TRY(const auto pass, gate_.enter());
  const auto lock = co_await credit_mutex_.lock();
  const std::int64_t have = credit_.load();
  if (have >= blocks_wanted || !writing_) co_return success();
  if (failure_) co_return *failure_;
  const KeyId key = key_;
  const auto more = static_cast<std::uint64_t>(blocks_wanted - have);
  // The node promises no more than so far ahead; what is owed beyond that is placed meanwhile.
  const std::uint64_t most = committed_length_.blocks.value + kReserveBlocksMost;
  const BlockIndex data{std::min({reserved_.value + more, most, BlockIndex::kEnd - 1})};
  const std::uint64_t log_bytes =
      length_.log_bytes + static_cast<std::uint64_t>(blocks_wanted) * kLogBytesPerBlock;
  auto granted = co_await copies_.reserve(place_, record_.epoch(), data, log_bytes);
  if (!granted && granted.error() == Errc::no_space && have < kCreditBlocksMin && key == key_) {
    // Where room is short, the least that lets a writer go on (DESIGN 4.3).
    const auto owed = static_cast<std::uint64_t>(kCreditBlocksMin - have);
    const BlockIndex little{std::min(data.value, reserved_.value + owed)};
    granted = co_await copies_.reserve(
        place_, record_.epoch(), little, length_.log_bytes + owed * kLogBytesPerBlock);
  }
  if (key != key_) co_return success();  // rolled meanwhile: the next attempt asks for the new key
  if (!granted && is_key_trouble(granted.error())) co_return co_await wait_rolled(key);
  if (!granted) co_return granted.error();
  if (granted->blocks.value > reserved_.value) {
    credit_.fetch_add(static_cast<std::int64_t>(granted->blocks.value - reserved_.value));
    reserved_ = granted->blocks;
  } else {
    static_cast<void>(co_await changed_.wait_pulse(scheduler_.now() + kRollPause));
  }
  co_return success();
}

/// `key` takes nothing more: it is being rolled, or it failed at the node, and then it is rolled
/// now.
Task<Result<void>> Log::wait_rolled(KeyId key) {
  roll_wanted_ = true;
  start_pump();
  const TimePoint deadline = scheduler_.now() + kRollPause;
  while (key == key_ && !stopping_ && !failure_ && scheduler_.now() < deadline) {
    static_cast<void>(co_await changed_.wait_pulse(deadline));
  }
  if (failure_) co_return *failure_;
  if (key == key_ && roll_error_ && *roll_error_ == Errc::no_space) co_return *roll_error_;
  co_return success();
}

void Log::stop() noexcept {
  stopping_ = true;
  gate_.shut();
  changed_.set();
}

Task<void> Log::wait_stopped() {
  co_await gate_.close();
}

}  // namespace vmstore::disk
