// SPDX-License-Identifier: Apache-2.0
// Model: the processes and their deaths.
#include "tests/sim/model.h"

#include <cstdio>
#include <utility>

#include "tests/sim/model_await.h"

namespace vmstore::sim {
namespace {

constexpr Duration kStuck = std::chrono::minutes(10);

SimNodeOptions node_options(const Swarm& swarm, Random& random) {
  SimNodeOptions options;
  if (swarm.space_is_short) {
    options.capacity_bytes = (40 + random.below(32)) * limits::kMiB;
    options.reserve_bytes = 16 * limits::kMiB;
  }
  options.journal_bytes = (random.one_in(2) ? 1 : 8) * limits::kMiB;
  if (random.one_in(4)) options.delay = WorkDelay::none();
  if (random.one_in(8)) options.delay.slow_one_in = 50;
  return options;
}

SimHostOptions host_options(Random& random) {
  SimHostOptions options;
  if (random.one_in(2)) {  // so small that everything is read again
    options.page_cache_bytes = 16 * limits::kKiB;
    options.block_cache_bytes = 16 * limits::kKiB;
  }
  return options;
}

NetworkDelay network_delay(Random& random) {
  NetworkDelay delay;
  if (random.one_in(4)) delay.slow_one_in = 100;
  return delay;
}

}  // namespace

Swarm draw_swarm(Random& random) {
  Swarm swarm;
  const auto draw = [&](std::uint64_t percent) { return random.below(100) < percent; };
  swarm.same_host = draw(50);
  swarm.node_dies = draw(50);
  swarm.client_dies = draw(60);
  swarm.power_fails = draw(50);
  swarm.connections_break = draw(30);
  swarm.batch_room = draw(85);
  swarm.snapshots = draw(60);
  swarm.clones = draw(50);
  swarm.resizes = draw(40);
  swarm.rollbacks = draw(40);
  swarm.removals = draw(40);
  swarm.collections = draw(50);
  swarm.space_is_short = draw(8);
  constexpr std::uint64_t kSizes[] = {1, 4, 64, 64, 256, 1024, 4096};
  swarm.disk_blocks_max = kSizes[random.below(std::size(kSizes))];
  swarm.steps = 20 + random.below(80);
  return swarm;
}

Model::Model(std::uint64_t seed, bool verbose)
    : seed_(seed),
      verbose_(verbose),
      world_(seed),
      swarm_(draw_swarm(world_.random())),
      network_(world_, network_delay(world_.random())),
      supervisor_(world_, "supervisor"),
      node_(world_, network_, node_options(swarm_, world_.random())),
      host_(world_, network_, node_, host_options(world_.random())),
      points_(world_) {
  network_.set_same_host(swarm_.same_host);
  host_.batches().set_room(swarm_.batch_room);
}

Model::~Model() {
  if (host_.is_running()) bury_client(Death::kill);
}

std::uint64_t Model::trace_hash() const {
  return Random(world_.trace_hash() ^ const_cast<Model*>(this)->node_.files().history_hash()).u64();
}

void Model::fail(const std::string& text) {
  if (failed()) return;
  failure_ = text;
  say("FAILED: " + text);
}

void Model::say(const std::string& text) const {
  if (!verbose_) return;
  const auto now = std::chrono::duration_cast<std::chrono::microseconds>(
      world_.now().time_since_epoch() - std::chrono::hours(1));
  std::fprintf(stderr, "%12.6f %s\n", static_cast<double>(now.count()) / 1e6, text.c_str());
}

bool Model::drive(const std::function<bool()>& done, const char* what) {
  const TimePoint deadline = world_.now() + kStuck;
  const auto event = [&] {
    return done() || host_.is_dead() || node_.is_dead() || node_.failure().has_value();
  };
  while (!failed() && !given_up_) {
    const Duration left = deadline - world_.now();
    if (left <= Duration(0) || !world_.run_until(event, left)) {
      // Without space what was acknowledged waits for it, for ever if need be.
      if (!swarm_.space_is_short) fail(std::string("stuck: ") + what);
      given_up_ = true;
      return false;
    }
    if (node_.failure()) {
      fail("the node cannot start: " + to_string(*node_.failure()));
      return false;
    }
    if (node_.is_dead()) {
      revive_node();
      continue;
    }
    if (host_.is_dead()) return false;
    return true;
  }
  return false;
}

void Model::revive_node() {
  const Death death = swarm_.power_fails && random().one_in(2) ? Death::power : Death::kill;
  ++counters_.node_deaths;
  if (death == Death::power) ++counters_.power_cuts;
  say(std::string("node died at ") + points_.fired_at() +
      (death == Death::power ? ", power cut" : ", killed"));
  cancel_deaths();
  node_.bury(death);
  world_.run_for(world_.random_duration(Duration(0), std::chrono::seconds(2)));
  node_.start();
  if (!nothing_dies_ && random().one_in(4))
    points_.arm(node_.process(), "", 1 + random().below(30));
}

/// Lets something die during what comes next.
void Model::plan_death() {
  if (!swarm_.node_dies && !swarm_.client_dies) return;
  const bool node = swarm_.node_dies && (!swarm_.client_dies || random().one_in(2));
  if (node ? !node_.is_ready() : !host_.is_ready()) return;
  cancel_deaths();
  VirtualScheduler& victim = node ? node_.process() : host_.process();
  switch (random().below(3)) {
    case 0:
      points_.arm(victim, "", 1 + random().below(20));
      break;
    case 1:
      if (node) {
        node_.files().freeze_at_change(1 + random().below(40), [&victim] { victim.freeze(); });
        break;
      }
      [[fallthrough]];
    default: {
      const Duration when = world_.random_duration(Duration(0), std::chrono::milliseconds(20));
      death_timer_ = supervisor_.start_timer(world_.now() + when, [this, node] {
        death_timer_.reset();
        if (node && node_.is_running()) node_.process().freeze();
        if (!node && host_.is_running()) host_.process().freeze();
      });
      break;
    }
  }
}

void Model::cancel_deaths() {
  points_.disarm();
  node_.files().cancel_freeze();
  if (death_timer_) supervisor_.cancel_timer(*death_timer_);
  death_timer_.reset();
}

void Model::bury_client(Death death) {
  host_.process().kill();
  for (auto& [name, disk] : disks_) {
    if (disk.open == nullptr) continue;
    disk.open.reset();
    disk.clean = false;
    const bool loses = death == Death::power || disk.options.bulk;
    disk.died = loses ? Death::power : disk.died.value_or(Death::kill);
  }
  host_.bury(death);
  if (death == Death::kill) return;
  for (auto& [name, disk] : disks_) {
    if (disk.died) disk.died = Death::power;  // a batch file that waited for its next session
  }
}

void Model::revive_client() {
  while (!failed() && !given_up_ && !host_.is_ready()) {
    restart_client();
    if (!drive([this] { return host_.is_ready(); }, "connecting")) continue;
    find_out();
  }
}

void Model::restart_client() {
  Death death = swarm_.power_fails && random().one_in(2) ? Death::power : Death::kill;
  ++counters_.client_deaths;
  if (death == Death::power) ++counters_.power_cuts;
  say(std::string("client died at ") + points_.fired_at() +
      (death == Death::power ? ", power cut" : ", killed"));
  cancel_deaths();
  bury_client(death);
  if (death == Death::power && !nothing_dies_ && random().one_in(3) && node_.is_running()) {
    say("and the node with it");
    node_.process().freeze();  // everything in one room
  }
  host_.start();
  if (!nothing_dies_ && random().one_in(4))
    points_.arm(host_.process(), "", 1 + random().below(20));
}

bool Model::start_all() {
  node_.start();
  if (!drive([this] { return node_.is_ready(); }, "starting the node")) return false;
  host_.start();
  return drive([this] { return host_.is_ready(); }, "connecting");
}

std::optional<std::string> Model::run() {
  say("seed " + std::to_string(seed_));
  if (start_all()) {
    create_disk();
    for (std::uint64_t i = 0; i < swarm_.steps && !failed() && !given_up_; ++i) {
      if (!host_.is_ready()) {
        revive_client();
        continue;
      }
      if (random().one_in(12)) plan_death();
      step();
    }
    if (!given_up_) leave_nothing();
  }
  return failure_;
}

}  // namespace vmstore::sim
