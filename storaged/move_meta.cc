// SPDX-License-Identifier: Apache-2.0
#include "storaged/move_meta.h"

#include <array>
#include <memory>
#include <optional>
#include <utility>

#include "base/fault.h"
#include "base/log.h"
#include "base/thread_pool.h"
#include "meta/catalogue_log.h"
#include "meta/logged_store.h"
#include "meta/rebuild.h"
#include "meta/reconcile.h"
#include "meta/records.h"
#include "meta/rocks_store.h"
#include "meta/schema.h"
#include "net/block_on.h"
#include "net/etcd_root.h"
#include "net/io_thread.h"
#include "net/meta_etcd.h"
#include "storaged/aside.h"
#include "storaged/catalogue_place.h"
#include "storaged/identity.h"

namespace vmstore::storaged {
namespace {

constexpr unsigned kRebuildBits = 32;  // of a catalogue's number: how often it was rebuilt
using Kind = CataloguePlace::Kind;

Result<meta::pb::StoreRecord> store_record(const meta::Image& image) {
  const auto found = image.entries.find(std::string(meta::kStoreKey));
  if (found == image.entries.end()) return Errc::corrupt;
  return meta::decode<meta::pb::StoreRecord>(found->second.value);
}

/// The node's calls to that etcd, on a thread of their own.
class Etcd {
 public:
  explicit Etcd(net::EtcdOptions options) : options_(std::move(options)) {}

  [[nodiscard]] Result<net::EtcdRoot> root() {
    return net::block_on(io_, root_task(io_, options_));
  }
  [[nodiscard]] Result<void> fill(const net::etcd::Head& head,
                                  const meta::Image& image,
                                  std::optional<std::string> instead_of) {
    return net::block_on(io_, fill_task(io_, options_, head, image, std::move(instead_of)));
  }
  /// The catalogue that is there as a whole.
  [[nodiscard]] Result<meta::Image> image() {
    VMS_TRY(auto store, net::block_on(io_, net::MetaEtcd::open(io_, options_)));
    auto image = net::block_on(io_, meta::read_image(*store));
    net::block_on(io_, end_task(std::move(store)));
    return image;
  }

 private:
  static Task<Result<net::EtcdRoot>> root_task(net::IoThread& io, net::EtcdOptions options) {
    net::EtcdCalls calls(io, std::move(options));
    co_return co_await net::read_etcd_root(calls);
  }
  static Task<Result<void>> fill_task(net::IoThread& io,
                                      net::EtcdOptions options,
                                      net::etcd::Head head,
                                      const meta::Image& image,
                                      std::optional<std::string> instead_of) {
    net::EtcdCalls calls(io, std::move(options));
    co_return co_await net::fill_etcd_catalogue(calls, head, image, std::move(instead_of));
  }
  static Task<void> end_task(std::unique_ptr<net::MetaEtcd> store) { co_await store->close(); }

  net::IoThread io_{"meta-move"};
  net::EtcdOptions options_;
};

Result<net::EtcdOptions> options_of(const std::string& urls) {
  net::EtcdOptions options;
  VMS_TRY(options.endpoints, net::parse_etcd_urls(urls));
  return options;
}

/// The catalogue of RocksDB and of its log, after they were made to agree.
Result<meta::Image> embedded_image(PosixFiles& files, const std::string& path) {
  net::IoThread io("meta-move");
  ThreadPool pool(1);
  const std::string folder = path + "/" + std::string(kMetaFolder);
  VMS_TRY(auto rocks, net::block_on(io, meta::RocksStore::open(io, pool, folder, {})));
  meta::LoggedStore::Parts parts{io, pool, files, std::string(kCatalogueFile), *rocks, rocks.get()};
  auto logged = net::block_on(io, meta::LoggedStore::open(std::move(parts), meta::LogStart::need));
  if (logged) net::block_on(io, (*logged)->close());
  VMS_CHECK(net::block_on(io, rocks->close()));
  if (!logged) return logged.error();
  return meta::CatalogueLog::load(files, std::string(kCatalogueFile));
}

Result<meta::Rebuilt> plan(const DataFolder& folder, meta::Image image, std::uint32_t salt) {
  const std::array<meta::LogSource, 1> sources{
      meta::LogSource{folder.identity().node.hex(), std::move(image)}};
  return meta::plan_rebuild(sources, salt);
}

bool same_content(const meta::Image& a, const meta::Image& b) {
  if (a.entries.size() != b.entries.size()) return false;
  for (const auto& [key, entry] : a.entries) {
    const auto found = b.entries.find(key);
    if (found == b.entries.end() || found->second.value != entry.value) return false;
  }
  return true;
}

/// Etcd has the catalogue of that number: the folder's log becomes a copy of it, and the folder
/// says where it is.
Result<void> settle_in(Files& files, Etcd& etcd, std::uint64_t number) {
  VMS_TRY(const meta::Image image, etcd.image());
  VMS_TRY(const auto record, store_record(image));
  if (record.catalogue() != number) return Errc::foreign_store;
  VMS_CHECK(meta::CatalogueLog::create(files, std::string(kCatalogueFile), image));
  VMS_FAULT("meta.move.logged");
  VMS_CHECK(set_meta_folder_aside(files));
  VMS_FAULT("meta.move.set_aside");
  VMS_CHECK(write_place(files, CataloguePlace{Kind::etcd}));
  VMS_LOG(info,
          "meta",
          "the catalogue is in etcd: " << image.entries.size() << " entries, revision "
                                       << image.revision);
  return success();
}

/// From here on nobody serves the folder until all is done.
Result<void> move_to(Files& files,
                     Etcd& etcd,
                     const meta::Rebuilt& rebuilt,
                     std::optional<std::string> instead_of) {
  const std::uint64_t number = rebuilt.catalogue;
  VMS_CHECK(write_place(files, CataloguePlace{Kind::moving, number}));
  VMS_FAULT("meta.move.marked");
  const std::string kept = std::string(kCatalogueFile) + ".old";
  VMS_CHECK(meta::CatalogueLog::create(files, kept, rebuilt.before));
  const net::etcd::Head head{rebuilt.image.revision, number};
  const auto filled = etcd.fill(head, rebuilt.image, std::move(instead_of));
  if (!filled) {
    VMS_LOG(error, "meta", "etcd: " << to_string(filled.error()) << "; run the same again");
    return filled;
  }
  VMS_FAULT("meta.move.filled");
  VMS_TRY(const meta::Image there, etcd.image());
  if (!same_content(there, rebuilt.image)) {
    VMS_LOG(error, "meta", "what etcd has is not what it was given");
    return Errc::unknown;
  }
  return settle_in(files, etcd, number);
}

std::uint32_t salt_of(const CataloguePlace& place, Random& random) {
  return static_cast<std::uint32_t>(place.kind == Kind::moving ? place.catalogue : random.u64());
}

/// What a move that was cut short has left to do; empty: it has to begin anew, with its number.
Result<bool> go_on(Files& files, Etcd& etcd, const CataloguePlace& place) {
  if (place.kind != Kind::moving) return false;
  VMS_TRY(const net::EtcdRoot root, etcd.root());
  if (!root.head || root.making) return false;
  const auto head = net::etcd::decode_head(*root.head);
  if (!head || head->tag != place.catalogue) return false;
  VMS_CHECK(settle_in(files, etcd, place.catalogue));
  return true;
}

/// Whether that etcd's catalogue may be replaced by what the log has; its head.
Result<std::optional<std::string>> may_replace(Etcd& etcd,
                                               const net::EtcdRoot& root,
                                               const meta::Image& log) {
  if (!root.head) return std::optional<std::string>();
  VMS_TRY(const meta::Image there, etcd.image());
  VMS_TRY(const auto ours, store_record(log));
  const auto theirs = store_record(there);
  if (!theirs || meta::from_pb<StoreId>(theirs->id()) != meta::from_pb<StoreId>(ours.id())) {
    VMS_LOG(error, "meta", "that etcd has the catalogue of another store; nothing was changed");
    return Errc::foreign_store;
  }
  const std::uint64_t their_rebuilds = theirs->catalogue() >> kRebuildBits;
  const std::uint64_t our_rebuilds = ours.catalogue() >> kRebuildBits;
  if (their_rebuilds > our_rebuilds ||
      (their_rebuilds == our_rebuilds && theirs->catalogue() != ours.catalogue())) {
    VMS_LOG(error, "meta", "that catalogue was rebuilt since this node's log; nothing was changed");
    return Errc::foreign_store;
  }
  if (their_rebuilds < our_rebuilds) return root.head;
  if (there.revision >= log.revision) {
    VMS_CHECK(meta::reconcile(log, there));
    VMS_LOG(error, "meta", "etcd has all that this node's log has; nothing was changed");
    return Errc::exists;
  }
  VMS_LOG(info,
          "meta",
          "etcd is at revision " << there.revision << ", this node's log at " << log.revision);
  return root.head;
}

}  // namespace

Result<void> migrate_catalogue(PosixFiles& files,
                               const std::string& path,
                               const std::string& etcd_urls,
                               Random& random) {
  VMS_TRY(auto options, options_of(etcd_urls));
  VMS_TRY(const auto folder, DataFolder::open(files, DataFolder::Missing::refuse, random));
  VMS_TRY(const auto place, read_place(files));
  if (place.kind == Kind::etcd) {
    VMS_LOG(error, "meta", "the catalogue of this folder is in etcd already");
    return Errc::exists;
  }
  Etcd etcd(std::move(options));
  VMS_TRY(const bool done, go_on(files, etcd, place));
  if (done) return success();
  VMS_TRY(const net::EtcdRoot root, etcd.root());
  if (root.head || (root.making && place.kind != Kind::moving)) {
    VMS_LOG(error, "meta", "that etcd has a catalogue already; nothing was changed");
    return Errc::exists;
  }
  VMS_TRY(auto image, embedded_image(files, path));
  VMS_TRY(const auto rebuilt, plan(*folder, std::move(image), salt_of(place, random)));
  return move_to(files, etcd, rebuilt, std::nullopt);
}

Result<void> rebuild_in_etcd(PosixFiles& files, const std::string& etcd_urls, Random& random) {
  VMS_TRY(auto options, options_of(etcd_urls));
  VMS_TRY(const auto folder, DataFolder::open(files, DataFolder::Missing::refuse, random));
  VMS_TRY(const auto place, read_place(files));
  if (place.kind == Kind::embedded) return check_place(place, true, false);
  Etcd etcd(std::move(options));
  VMS_TRY(const bool done, go_on(files, etcd, place));
  if (done) return success();
  auto log = meta::CatalogueLog::load(files, std::string(kCatalogueFile));
  if (!log) {
    VMS_LOG(error, "meta", "this node's log of the catalogue: " << to_string(log.error()));
    return log.error();
  }
  VMS_TRY(const net::EtcdRoot root, etcd.root());
  VMS_TRY(auto instead_of, may_replace(etcd, root, *log));
  VMS_TRY(const auto rebuilt, plan(*folder, std::move(*log), salt_of(place, random)));
  return move_to(files, etcd, rebuilt, std::move(instead_of));
}

}  // namespace vmstore::storaged
