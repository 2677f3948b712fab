// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim_store.h"

#include <sys/mman.h>

#include <utility>

#include "base/assert.h"
#include "base/limits.h"

namespace vmstore::sim {

// ---- node ----

struct SimNode::Process {
  Process(World& world, SimNode& owner)
      : scheduler(world, "node"),
        pool(world, owner.options_.delay),
        meta(scheduler, owner.catalogue_),
        dialer(owner.network_.dialer(scheduler)),
        random(world.random().u64()) {}

  VirtualScheduler scheduler;
  SimWorkerPool pool;
  meta::MemStore meta;
  std::unique_ptr<net::Dialer> dialer;
  Random random;
  std::unique_ptr<storaged::DataFolder> folder;
  std::unique_ptr<net::Listener> listener;
  std::unique_ptr<storaged::Node> node;
  bool ready = false;
};

SimNode::SimNode(World& world, SimNetwork& network, SimNodeOptions options)
    : world_(world),
      network_(network),
      options_(std::move(options)),
      files_(options_.capacity_bytes, world.random().u64()),
      catalogue_(options_.catalogue ? options_.catalogue : std::make_shared<meta::MemCatalogue>()) {
}

SimNode::~SimNode() {
  if (process_ != nullptr) bury(Death::kill);
}

VirtualScheduler& SimNode::process() {
  return process_->scheduler;
}
storaged::Node& SimNode::node() {
  return *process_->node;
}
bool SimNode::is_ready() const {
  return process_ != nullptr && process_->ready && !is_dead();
}
bool SimNode::is_dead() const {
  return process_ != nullptr && process_->scheduler.is_frozen();
}

void SimNode::start() {
  VMS_ASSERT(process_ == nullptr);
  failure_.reset();
  process_ = std::make_unique<Process>(world_, *this);
  Process* const process = process_.get();
  process->scheduler.on_freeze([this] { files_.freeze(); });
  process->scheduler.post([this, process] { boot(*process); });
}

/// A process that was killed in the middle of this says nothing any more.
void SimNode::note_failure(Process& process, const Error& error) {
  if (!process.scheduler.is_frozen()) failure_ = error;
}

void SimNode::boot(Process& process) {
  auto folder = storaged::DataFolder::open(
      files_, storaged::DataFolder::Missing::create, process.random, options_.join);
  if (!folder) {
    note_failure(process, folder.error());
    return;
  }
  process.folder = std::move(*folder);
  storaged::NodeOptions options;
  options.journal_bytes = options_.journal_bytes;
  options.reserve_bytes = options_.reserve_bytes;
  options.serve_network_peers = true;
  options.collect_by_itself = options_.collect_by_itself;
  options.address = options_.address;
  const storaged::NodeParts parts{process.scheduler,
                                  process.pool,
                                  files_,
                                  *process.folder,
                                  process.meta,
                                  process.random,
                                  nullptr,
                                  process.dialer.get()};
  process.node = std::make_unique<storaged::Node>(parts, options);
  process.scheduler.spawn(serve(process));
}

Task<void> SimNode::serve(Process& process) {
  const auto started = co_await process.node->start();
  if (!started) {
    note_failure(process, started.error());
    co_return;
  }
  process.listener = network_.listen(process.scheduler, options_.endpoint);
  process.ready = true;
  for (;;) {
    auto connection = co_await process.listener->accept();
    if (!connection) co_return;
    process.node->serve(std::move(*connection));
  }
}

void SimNode::stop() {
  VMS_ASSERT(is_ready());
  process_->listener->close();
  run(process_->scheduler, process_->node->stop());
  bury(Death::kill);
}

void SimNode::set_delay(const WorkDelay& delay) {
  process_->pool.set_delay(delay);
}

void SimNode::bury(Death death) {
  VMS_ASSERT(process_ != nullptr);
  process_->scheduler.kill();
  process_.reset();
  if (death == Death::power) {
    files_.crash(world_.random());
  } else {
    files_.restart();
  }
}

// ---- batch files ----

struct SimBatchHome::Memory {
  Memory() = default;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() {
    if (bytes != nullptr) ::munmap(bytes, limits::kBatchFileBytes);
  }
  std::byte* bytes = nullptr;   // null: no space taken yet
  std::uint64_t locked_in = 0;  // generation of the process that holds it
};

class SimBatchHandle final : public disk::BatchHandle {
 public:
  SimBatchHandle(SimBatchHome& home, DiskId disk, std::shared_ptr<SimBatchHome::Memory> memory)
      : home_(home), disk_(disk), memory_(std::move(memory)), generation_(home.generation_) {
    memory_->locked_in = generation_;
  }
  ~SimBatchHandle() override {
    if (memory_->locked_in == generation_) memory_->locked_in = 0;
  }
  [[nodiscard]] bool is_new() const noexcept override { return memory_->bytes == nullptr; }
  [[nodiscard]] Result<void> allocate() override {
    if (!home_.room_) return Errc::no_space;
    // Untouched pages of it cost nothing, unlike those of a vector.
    void* const bytes = ::mmap(nullptr,
                               limits::kBatchFileBytes,
                               PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS,
                               -1,
                               0);
    VMS_ASSERT(bytes != MAP_FAILED);
    memory_->bytes = static_cast<std::byte*>(bytes);
    return success();
  }
  [[nodiscard]] MutableBytes memory() const noexcept override {
    return {memory_->bytes, limits::kBatchFileBytes};
  }
  [[nodiscard]] Result<void> remove() override {
    const auto found = home_.files_.find(disk_);
    const bool is_ours = found != home_.files_.end() && found->second == memory_;
    if (!home_.frozen_ && is_ours) home_.files_.erase(found);
    return success();
  }
  [[nodiscard]] Result<std::string> set_aside() override {
    VMS_CHECK(remove());
    return std::string("aside");
  }

 private:
  SimBatchHome& home_;
  DiskId disk_;
  std::shared_ptr<SimBatchHome::Memory> memory_;
  std::uint64_t generation_;
};

SimBatchHome::~SimBatchHome() = default;

Result<std::unique_ptr<disk::BatchHandle>> SimBatchHome::open(StoreId /*store*/,
                                                              DiskId disk,
                                                              bool create) {
  auto found = files_.find(disk);
  if (found == files_.end()) {
    if (!create || frozen_) return Errc::not_found;
    found = files_.emplace(disk, std::make_shared<Memory>()).first;
  }
  if (found->second->locked_in == generation_) return Errc::busy;
  return std::unique_ptr<disk::BatchHandle>(
      std::make_unique<SimBatchHandle>(*this, disk, found->second));
}

void SimBatchHome::freeze() {
  frozen_ = true;
  if (world_.current() == nullptr) return;  // none of its instructions runs after this one
  captured_ = true;
  for (const auto& [disk, memory] : files_) {
    if (memory->bytes == nullptr) continue;
    at_death_[disk].assign(memory->bytes, memory->bytes + limits::kBatchFileBytes);
  }
}

void SimBatchHome::forget_process() {
  for (auto file = files_.begin(); captured_ && file != files_.end();) {
    const auto here = file++;
    const auto before = at_death_.find(here->first);
    if (before != at_death_.end()) {
      std::copy(before->second.begin(), before->second.end(), here->second->bytes);
    } else if (here->second->bytes != nullptr) {
      files_.erase(here);  // made by a dead process
    }
  }
  at_death_.clear();
  ++generation_;
  frozen_ = false;
  captured_ = false;
}

void SimBatchHome::lose_power() {
  files_.clear();
}

// ---- host ----

struct SimHost::Process {
  Process(World& world, SimHost& owner)
      : scheduler(world, "client"),
        dialer(owner.network_.dialer(scheduler)),
        node(scheduler, *dialer, client_options(owner)),
        nodes(scheduler, *dialer, node, client_options(owner)),
        session(scheduler, nodes, owner.batches_, session_options(world, owner)),
        admin(session) {}

  static net::ClientOptions client_options(const SimHost& owner) {
    net::ClientOptions options;
    options.endpoint.text = owner.node_.endpoint();
    options.program = "sim";
    options.boot = owner.boot_;
    return options;
  }
  static disk::SessionOptions session_options(World& world, const SimHost& owner) {
    disk::SessionOptions options;
    options.boot = owner.boot_;
    options.seed = world.random().u64();
    options.page_cache_bytes = owner.options_.page_cache_bytes;
    options.block_cache_bytes = owner.options_.block_cache_bytes;
    return options;
  }

  VirtualScheduler scheduler;
  std::unique_ptr<net::Dialer> dialer;
  net::NodeClient node;
  net::NodePool nodes;
  disk::Session session;
  disk::Admin admin;
  bool ready = false;
};

SimHost::SimHost(World& world, SimNetwork& network, SimNode& node, SimHostOptions options)
    : world_(world),
      network_(network),
      node_(node),
      options_(options),
      boot_(world.random().id128<BootId>()),
      batches_(world) {}

SimHost::~SimHost() {
  if (process_ != nullptr) bury(Death::kill);
}

VirtualScheduler& SimHost::process() {
  return process_->scheduler;
}
disk::Session& SimHost::session() {
  return process_->session;
}
disk::Admin& SimHost::admin() {
  return process_->admin;
}
bool SimHost::is_ready() const {
  return process_ != nullptr && process_->ready && !is_dead();
}
bool SimHost::is_dead() const {
  return process_ != nullptr && process_->scheduler.is_frozen();
}

void SimHost::start() {
  VMS_ASSERT(process_ == nullptr);
  process_ = std::make_unique<Process>(world_, *this);
  process_->scheduler.on_freeze([this] { batches_.freeze(); });
  process_->node.start();
  process_->scheduler.spawn(connect(*process_));
}

Task<void> SimHost::connect(Process& process) {
  const auto started = co_await process.session.start(std::nullopt);
  process.ready = started.has_value();
}

Task<void> SimHost::disconnect(Process& process) {
  co_await process.session.stop();
  co_await process.node.stop();
}

void SimHost::stop() {
  VMS_ASSERT(is_ready());
  run(process_->scheduler, disconnect(*process_));
  bury(Death::kill);
}

void SimHost::bury(Death death) {
  VMS_ASSERT(process_ != nullptr);
  process_->scheduler.kill();
  process_.reset();
  batches_.forget_process();
  if (death == Death::kill) return;
  batches_.lose_power();
  boot_ = world_.random().id128<BootId>();
}

}  // namespace vmstore::sim
