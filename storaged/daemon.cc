// SPDX-License-Identifier: Apache-2.0
#include "storaged/daemon.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <future>
#include <optional>
#include <utility>

#include "base/limits.h"
#include "base/log.h"
#include "base/posix_files.h"
#include "base/thread_pool.h"
#include "meta/logged_store.h"
#include "meta/records.h"
#include "meta/rocks_store.h"
#include "meta/schema.h"
#include "net/asio_transport.h"
#include "net/block_on.h"
#include "net/etcd_root.h"
#include "net/io_thread.h"
#include "net/meta_etcd.h"
#include "net/tls_listener.h"
#include "storaged/ballast.h"
#include "storaged/catalogue_place.h"
#include "storaged/descriptors.h"
#include "storaged/http.h"
#include "storaged/node.h"
#include "storaged/remembered_store.h"

namespace vmstore::storaged {
namespace {

constexpr std::size_t kWorkers = 8;  // blocking reads, syncs, RocksDB: more than cores, they wait
constexpr std::size_t kJournalWorkers = 1;
constexpr std::chrono::seconds kPageTime{2};   // a node silent for longer is not healthy
constexpr std::chrono::seconds kEtcdWait{20};  // of a start: machines come up in any order
constexpr std::chrono::seconds kEtcdPause{1};
constexpr ::mode_t kFolderMode = 0700;
constexpr std::uint64_t kReservePercent = 2;
constexpr std::uint64_t kReserveBytesMax = limits::kGiB;
constexpr std::uint64_t kReserveBytesMin = 16 * limits::kMiB;  // but no more than a 32nd of all

Result<void> open_data_folder(const Config& config, std::unique_ptr<PosixFiles>& files) {
  const bool may_make = config.create || !config.join.is_none();
  if (may_make && ::mkdir(config.data_folder.c_str(), kFolderMode) != 0 && errno != EEXIST) {
    const Error error = last_os_error();
    VMS_LOG(error, "node", config.data_folder << ": cannot be made: " << to_string(error));
    return error;
  }
  auto opened = PosixFiles::open_folder(config.data_folder);
  if (!opened) {
    VMS_LOG(error, "node", config.data_folder << ": " << to_string(opened.error()));
    return opened.error();
  }
  files = std::move(*opened);
  return success();
}

Result<void> check_punching(PosixFiles& files, bool allowed_without) {
  const auto probed = files.probe_hole_punching();
  if (probed) return success();
  if (probed.error() == Errc::no_space) {
    VMS_LOG(warning, "node", "the data folder's file system is full: free some space there");
    return success();  // what is there could be allocated and punched once
  }
  if (probed.error() == Errc::unsupported && allowed_without) {
    VMS_LOG(warning, "node", "the file system cannot punch holes: freed space is not given back");
    return success();
  }
  VMS_LOG(error,
          "node",
          "the data folder's file system cannot allocate or punch ("
              << to_string(probed.error())
              << "); use XFS or ext4, or --allow-no-punching if space does not matter");
  return probed;
}

/// What is kept back from clients: room to finish what was acknowledged and to free things.
std::uint64_t default_reserve(Files& files) {
  const auto space = files.space();
  if (!space) return 0;
  const std::uint64_t least = std::min(kReserveBytesMin, space->total_bytes / 32);
  return std::clamp(space->total_bytes / 100 * kReservePercent, least, kReserveBytesMax);
}

/// The value of `ask` on the node's thread, or nothing when the node does not answer in time. The
/// answer of a node that comes too late is dropped.
template <class T>
std::optional<T> ask_node(Scheduler& scheduler, std::function<Task<T>()> ask) {
  const auto promise = std::make_shared<std::promise<T>>();
  auto future = promise->get_future();
  struct Asking {
    static Task<void> run(std::function<Task<T>()> question,
                          std::shared_ptr<std::promise<T>> answer) {
      answer->set_value(co_await question());
    }
  };
  scheduler.post(
      [&scheduler, ask = std::move(ask), promise] { scheduler.spawn(Asking::run(ask, promise)); });
  if (future.wait_for(kPageTime) != std::future_status::ready) return std::nullopt;
  return future.get();
}

Task<Result<std::unique_ptr<net::MetaEtcd>>> open_or_make(net::IoThread& io,
                                                          net::EtcdOptions options,
                                                          bool may_make,
                                                          std::uint64_t tag) {
  auto opened = co_await net::MetaEtcd::open(io, options);
  if (!may_make || opened.has_value() || opened.error() != Errc::not_found) co_return opened;
  {
    net::EtcdCalls calls(io, options);
    net::etcd::Head head;
    head.base = meta::kFirstRevision;
    head.tag = tag;
    VMS_CO_CHECK(co_await net::make_etcd_catalogue(calls, head));
  }
  co_return co_await net::MetaEtcd::open(io, options);
}

/// Waits for an etcd that is not there yet. A new store (`may_make`) gets its catalogue.
Task<Result<std::unique_ptr<net::MetaEtcd>>> open_etcd_task(net::IoThread& io,
                                                            net::EtcdOptions options,
                                                            bool may_make,
                                                            std::uint64_t tag) {
  const TimePoint deadline = io.now() + kEtcdWait;
  while (true) {
    auto opened = co_await open_or_make(io, options, may_make, tag);
    if (opened) co_return opened;
    const Error error = opened.error();
    const bool may_come =
        error == Errc::unavailable || error == Errc::timed_out || error == Errc::disconnected;
    if (!may_come || io.now() >= deadline) co_return error;
    VMS_LOG(warning, "node", "waiting for etcd: " << to_string(error));
    co_await sleep_for(io, kEtcdPause);
  }
}

Task<bool> ready_now(Node& node) {
  co_return node.is_ready();
}

}  // namespace

struct Daemon::State {
  explicit State(Config given) : config(std::move(given)), random(Random::from_system()) {}
  Config config;
  Random random;
  std::unique_ptr<PosixFiles> files;
  std::unique_ptr<DataFolder> folder;
  std::unique_ptr<Ballast> ballast;
  std::unique_ptr<net::IoThread> io;
  std::unique_ptr<ThreadPool> pool;
  std::unique_ptr<ThreadPool> journal_pool;
  std::unique_ptr<meta::RocksStore> rocks;  // one of these two
  std::unique_ptr<net::MetaEtcd> etcd;
  std::unique_ptr<meta::LoggedStore> meta;
  std::shared_ptr<const net::TlsContext> tls;  // none: unix sockets only
  std::unique_ptr<net::AsioDialer> dialer;     // to other nodes; none: there are none
  std::unique_ptr<Node> node;
  std::vector<std::unique_ptr<net::Listener>> listeners;
  std::string endpoint;  // where they listen
  std::unique_ptr<HttpServer> http;
  bool stopping = false;
  bool stopped = false;

  [[nodiscard]] Result<void> check_store_to_join();
  [[nodiscard]] Result<void> open_folder();
  [[nodiscard]] Result<void> open_rocks();
  [[nodiscard]] Result<void> open_etcd(bool may_make);
  [[nodiscard]] Result<void> settle_new_in_etcd();
  [[nodiscard]] Result<void> open_catalogue();
  [[nodiscard]] Result<void> start_node();
  [[nodiscard]] Result<void> listen();
  [[nodiscard]] Result<void> serve_http();
  [[nodiscard]] Result<void> listen_at(const std::string& where);
  [[nodiscard]] Result<void> load_tls(StoreId store);
  [[nodiscard]] Task<void> accept(net::Listener& listener);
  [[nodiscard]] Task<void> close_listeners();
};

/// Before a folder becomes a node of it: it is the store that was named, in an etcd that has it.
Result<void> Daemon::State::check_store_to_join() {
  VMS_CHECK(open_etcd(false));
  VMS_TRY(const auto found, net::block_on(*io, etcd->get(std::string(meta::kStoreKey))));
  if (!found.entry) {
    VMS_LOG(error, "node", "that etcd has no store yet; nothing was changed");
    return Errc::not_found;
  }
  const auto record = meta::decode<meta::pb::StoreRecord>(found.entry->value);
  if (!record) {
    VMS_LOG(error, "node", "the catalogue's store record: " << to_string(record.error()));
    return record.error();
  }
  const auto store = meta::from_pb<StoreId>(record->id());
  if (store == config.join) return success();
  VMS_LOG(error,
          "node",
          "that etcd has the catalogue of store " << store.hex() << ", not of " << config.join.hex()
                                                  << "; nothing was changed");
  return Errc::foreign_store;
}

/// The data folder, with the store that was there before if one is remembered.
Result<void> Daemon::State::open_folder() {
  const bool remembers = !config.store_file.empty();
  std::optional<std::string> expected;
  if (remembers) {
    auto remembered = remembered_store(config.store_file, config.data_folder);
    if (!remembered) {
      VMS_LOG(error, "node", config.store_file << ": " << to_string(remembered.error()));
      return remembered.error();
    }
    expected = *remembered;
  }
  if (expected) config.create = false;
  const bool joins = !config.join.is_none() && !expected;
  const bool may_make = config.create || joins;
  const auto missing = may_make ? DataFolder::Missing::create : DataFolder::Missing::refuse;
  Result<void> opened = open_data_folder(config, files);
  if (opened) {
    // First, so that a folder that is to join never gets a catalogue of its own.
    const auto settle = [&] {
      return joins ? write_place(*files, CataloguePlace{CataloguePlace::Kind::etcd}) : success();
    };
    auto taken = DataFolder::open(*files, missing, random, config.join, settle);
    if (taken) folder = std::move(*taken);
    if (!taken) opened = taken.error();
  }
  if (!opened) {
    if (expected) {
      VMS_LOG(error,
              "node",
              config.store_file << " remembers store " << *expected << " in " << config.data_folder
                                << ": mount it again; if it is gone for good, remove that file");
    }
    return opened;
  }
  const StoreId found = folder->identity().store;
  if (expected && found.hex() != *expected) {
    VMS_LOG(error,
            "node",
            config.data_folder << " holds store " << found.hex() << ", but " << config.store_file
                               << " remembers store " << *expected << "; nothing was changed");
    return Errc::foreign_store;
  }
  if (!config.join.is_none() && found != config.join) {
    VMS_LOG(error,
            "node",
            config.data_folder << " holds store " << found.hex() << ", not " << config.join.hex()
                               << "; nothing was changed");
    return Errc::foreign_store;
  }
  return remembers ? remember_store(config.store_file, config.data_folder, found) : success();
}

/// RocksDB's folder, made when the store is new. One that is missing otherwise was lost: a new one
/// would be an empty catalogue over a full store.
Result<void> Daemon::State::open_rocks() {
  const std::string path = config.data_folder + "/" + std::string(kMetaFolder);
  meta::RocksOptions options;
  options.make_room = [this](bool failed) { ballast->make_room(failed); };
  auto opened = net::block_on(*io, meta::RocksStore::open(*io, *pool, path, options));
  const bool absent =
      !opened && (opened.error() == Errc::not_found || opened.error() == Errc::unknown);
  if (absent && folder->is_new()) {
    VMS_CHECK(files->make_folder(kMetaFolder));
    VMS_CHECK(files->sync_folder(""));
    opened = net::block_on(*io, meta::RocksStore::create(*io, *pool, path, options));
  }
  if (!opened) {
    VMS_LOG(error, "node", "catalogue " << path << ": " << to_string(opened.error()));
    if (!folder->is_new()) {
      VMS_LOG(error,
              "node",
              "`vmstored --rebuild-meta` makes the catalogue anew from the folder's own log; "
              "nothing was changed");
    }
    return opened.error();
  }
  rocks = std::move(*opened);
  return success();
}

/// `may_make`: a catalogue for a new store, where none is.
Result<void> Daemon::State::open_etcd(bool may_make) {
  if (etcd) return success();
  net::EtcdOptions options;
  VMS_TRY(options.endpoints, net::parse_etcd_urls(config.etcd));
  auto opened = net::block_on(*io, open_etcd_task(*io, options, may_make, random.u64()));
  if (opened) {
    etcd = std::move(*opened);
    return success();
  }
  VMS_LOG(error, "node", "catalogue in etcd " << config.etcd << ": " << to_string(opened.error()));
  if (opened.error() == Errc::not_found) {
    VMS_LOG(error,
            "node",
            "that etcd has no catalogue: if it was wiped, `vmstore meta rebuild` makes it anew "
            "from this node's log; nothing was changed");
    return Errc::unknown;
  }
  return opened.error();
}

/// Before anything of a new store is in etcd: that no other store is there. From then on the folder
/// is served with etcd only.
Result<void> Daemon::State::settle_new_in_etcd() {
  VMS_TRY(const auto found, net::block_on(*io, etcd->get(std::string(meta::kStoreKey))));
  if (found.entry) {
    VMS_TRY(const auto record, meta::decode<meta::pb::StoreRecord>(found.entry->value));
    const auto store = meta::from_pb<StoreId>(record.id());
    if (store != folder->identity().store) {
      VMS_LOG(error,
              "node",
              "that etcd has the catalogue of store " << store.hex() << "; nothing was changed");
      return Errc::foreign_store;
    }
  }
  return write_place(*files, CataloguePlace{CataloguePlace::Kind::etcd});
}

Result<void> Daemon::State::open_catalogue() {
  VMS_TRY(const CataloguePlace place, read_place(*files));
  VMS_CHECK(check_place(place, !config.etcd.empty(), folder->is_new()));
  if (config.etcd.empty()) {
    VMS_CHECK(open_rocks());
  } else {
    // One that is to join, or was settled, has its catalogue there already.
    const bool may_make = folder->is_new() && place.kind == CataloguePlace::Kind::embedded;
    VMS_CHECK(open_etcd(may_make));
    if (folder->is_new()) VMS_CHECK(settle_new_in_etcd());
  }
  meta::MetaStore* const backend = rocks ? static_cast<meta::MetaStore*>(rocks.get()) : etcd.get();
  meta::LoggedStore::Parts parts{
      *io, *pool, *files, std::string(kCatalogueFile), *backend, rocks.get()};
  parts.make_room = [this](bool failed) { ballast->make_room(failed); };
  const auto start = folder->is_new() ? meta::LogStart::make_missing : meta::LogStart::need;
  auto logged = net::block_on(*io, meta::LoggedStore::open(std::move(parts), start));
  if (!logged) {
    VMS_LOG(error,
            "node",
            "the catalogue and its log do not agree (" << to_string(logged.error())
                                                       << "); nothing is served");
    if (etcd) {
      VMS_LOG(error,
              "node",
              "if that etcd was put back from a backup, `vmstore meta rebuild` makes its catalogue "
              "anew from this node's log");
    }
    return logged.error();
  }
  meta = std::move(*logged);
  return success();
}

Result<void> Daemon::State::start_node() {
  NodeOptions options;
  options.journal_bytes = config.journal_bytes;
  options.reserve_bytes =
      config.reserve_bytes != 0 ? config.reserve_bytes : default_reserve(*files);
  const std::uint64_t descriptors = raise_descriptor_limit();
  options.open_keys_max = open_keys_for(descriptors);
  VMS_LOG(info,
          "node",
          "up to " << descriptors << " descriptors: the files of " << options.open_keys_max
                   << " keys stay open");
  options.own_uid = ::geteuid();
  options.data_folder = config.data_folder;
  options.version = VMSTORE_VERSION;
  options.collect_by_itself = config.collect_by_itself;
  options.journal_pool = journal_pool.get();
  if (!config.etcd.empty()) {  // else nobody can join
    options.address = announced_address(config);
    options.certificate = tls ? tls->own().person : "";
    options.zone = config.zone;
    options.weight = config.weight;
    dialer = std::make_unique<net::AsioDialer>(*io, tls);
  }
  const NodeParts parts{*io, *pool, *files, *folder, *meta, random, ballast.get(), dialer.get()};
  node = std::make_unique<Node>(parts, std::move(options));
  const auto started = net::block_on(*io, node->start());
  if (!started) VMS_LOG(error, "node", "cannot start: " << to_string(started.error()));
  return started;
}

/// The node's own certificate: one of another store would turn everybody away.
Result<void> Daemon::State::load_tls(StoreId store) {
  if (tls || config.tls.empty()) return success();
  VMS_TRY(tls, net::TlsContext::load(config.tls));
  const std::string& file = config.tls.certificate;
  if (tls->own().store != store) {
    VMS_LOG(error, "node", file << " is of another store, " << tls->own().store.hex());
    return Errc::foreign_store;
  }
  if (tls->own().role != net::Role::node) {
    VMS_LOG(error, "node", file << " is not a node's: " << net::role_name(tls->own().role));
    return Errc::invalid_argument;
  }
  return success();
}

Result<void> Daemon::State::listen_at(const std::string& where) {
  std::unique_ptr<net::Listener> opened;
  std::string at = where;
  if (unix_path(where)) {
    VMS_TRY(opened, net::AsioListener::listen(*io, net::Endpoint{where}, net::ListenOptions()));
  } else {
    VMS_TRY(auto secured, net::TlsListener::listen(*io, net::Endpoint{where}, tls));
    at = secured->endpoint().text;
    opened = std::move(secured);
  }
  listeners.push_back(std::move(opened));
  endpoint += (endpoint.empty() ? "" : ",") + at;
  return success();
}

Result<void> Daemon::State::listen() {
  for (const std::string& where : listen_endpoints(config.listen)) {
    const auto listening = listen_at(where);
    if (listening) continue;
    VMS_LOG(error, "node", "cannot listen on " << where << ": " << to_string(listening.error()));
    return listening;
  }
  io->post([this] {
    for (const auto& listener : listeners) io->spawn(accept(*listener));
  });
  return success();
}

Task<void> Daemon::State::accept(net::Listener& listener) {
  while (!stopping) {
    auto connection = co_await listener.accept();
    if (connection) {
      node->serve(std::move(*connection));
    } else if (!stopping) {
      // Out of descriptors, most likely: the sessions there are go on.
      VMS_LOG(warning, "node", "accept: " << to_string(connection.error()));
      co_await sleep_for(*io, std::chrono::milliseconds(100));
    }
  }
}

Task<void> Daemon::State::close_listeners() {
  stopping = true;
  for (const auto& listener : listeners) listener->close();
  co_return;
}

Result<void> Daemon::State::serve_http() {
  if (config.http.empty()) return success();
  HttpPages pages;
  pages.metrics = [this] {
    return ask_node<std::string>(*io, [this] { return node->metrics_text(); });
  };
  pages.ready = [this] {
    return ask_node<bool>(*io, [this] { return ready_now(*node); }).value_or(false);
  };
  pages.healthy = [this] {
    return ask_node<bool>(*io, [this] { return ready_now(*node); }).has_value();
  };
  auto started = HttpServer::start(config.http, std::move(pages));
  if (!started) {
    VMS_LOG(error,
            "node",
            "cannot serve http on '" << config.http << "' (loopback or unix sockets only): "
                                     << to_string(started.error()));
    return started.error();
  }
  http = std::move(*started);
  return success();
}

Daemon::Daemon(Config config) : state_(std::make_unique<State>(std::move(config))) {}

Daemon::~Daemon() {
  stop();
}

Result<void> Daemon::start() {
  State& s = *state_;
  s.io = std::make_unique<net::IoThread>("vmstored");
  if (!s.config.join.is_none()) {
    VMS_CHECK(s.load_tls(s.config.join));
    VMS_CHECK(s.check_store_to_join());
  }
  VMS_CHECK(s.open_folder());
  VMS_CHECK(check_punching(*s.files, s.config.allow_without_punching));
  s.ballast = std::make_unique<Ballast>(*s.files);
  s.ballast->make_room(false);  // the start writes, too: its count, RocksDB's tables and log
  VMS_CHECK(s.load_tls(s.folder->identity().store));
  s.pool = std::make_unique<ThreadPool>(kWorkers);
  s.journal_pool = std::make_unique<ThreadPool>(kJournalWorkers);
  VMS_CHECK(s.open_catalogue());
  VMS_CHECK(s.start_node());
  VMS_CHECK(s.listen());
  return s.serve_http();
}

void Daemon::stop() {
  State& s = *state_;
  if (std::exchange(s.stopped, true)) return;
  s.http.reset();
  if (s.io) {
    net::block_on(*s.io, s.close_listeners());
    if (s.node) net::block_on(*s.io, s.node->stop());
    if (s.meta) net::block_on(*s.io, s.meta->close());
    if (s.etcd) net::block_on(*s.io, s.etcd->close());
    if (s.rocks) ignore(net::block_on(*s.io, s.rocks->close()), "logged where it failed");
  }
  s.journal_pool.reset();
  s.pool.reset();
  if (s.io) s.io->stop();
  s.listeners.clear();
  s.node.reset();
  s.dialer.reset();
  s.meta.reset();
  s.rocks.reset();
  s.etcd.reset();
  s.io.reset();
}

const std::string& Daemon::endpoint() const noexcept {
  return state_->endpoint;
}

std::string Daemon::http() const {
  return state_->http ? state_->http->where() : std::string();
}

}  // namespace vmstore::storaged
