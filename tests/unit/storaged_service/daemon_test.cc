// SPDX-License-Identifier: Apache-2.0
// The daemon with its real seams: threads, RocksDB, a folder, a unix socket.
#include "storaged/daemon.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/posix_files.h"
#include "meta/backup.h"
#include "meta/catalogue_log.h"
#include "meta/records.h"
#include "meta/schema.h"
#include "net/asio_transport.h"
#include "net/block_on.h"
#include "net/io_thread.h"
#include "net/rpc_peer.h"
#include "net/tls_authority.h"
#include "storaged/descriptors.h"
#include "storaged/gc.h"
#include "storaged/key_files.h"
#include "storaged/rebuild_meta.h"
#include "wire/messages.h"
#include "wire/vmstore.pb.h"

namespace vmstore::storaged {
namespace {

/// One connection that said hello.
class Caller {
 public:
  explicit Caller(const std::string& endpoint, std::shared_ptr<const net::TlsContext> tls = nullptr)
      : io_("caller"), dialer_(io_, std::move(tls)) {
    auto connection = net::block_on(io_, dialer_.dial(net::Endpoint{endpoint}));
    EXPECT_TRUE(connection) << to_string(connection.error());
    if (!connection) return;
    peer_ = std::make_unique<net::RpcPeer>(io_, std::move(*connection), refuse_all);
    io_.post([this] { io_.spawn(serve()); });
    pb::HelloRequest hello;
    hello.set_version_min(1);
    hello.set_version_max(1);
    greeted_ = call<pb::HelloReply>(wire::Opcode::hello, hello);
  }
  ~Caller() {
    if (peer_) io_.post([this] { peer_->close(); });
    io_.stop();
  }
  Caller(const Caller&) = delete;
  Caller& operator=(const Caller&) = delete;

  template <class Reply, class Request>
  Result<Reply> call(wire::Opcode opcode, const Request& request) {
    const auto frame = net::block_on(io_, peer_->call(opcode, wire::serialize(request)));
    if (!frame) return frame.error();
    return wire::parse<Reply>(frame->control);
  }
  [[nodiscard]] const Result<pb::HelloReply>& greeted() const noexcept { return greeted_; }

 private:
  static Task<net::Answer> refuse_all(wire::Frame /*frame*/) {
    net::Answer answer;
    answer.status = Errc::unsupported;
    co_return answer;
  }
  Task<void> serve() { static_cast<void>(co_await peer_->run()); }
  net::IoThread io_;
  net::AsioDialer dialer_;
  std::unique_ptr<net::RpcPeer> peer_;
  Result<pb::HelloReply> greeted_ = Errc::unknown;
};

class DaemonTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/vmstored-test-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    root_ = name;
    config_.data_folder = root_ + "/data";
    config_.listen = "unix:" + root_ + "/sock";
    config_.journal_bytes = 8 << 20;
    config_.create = true;
    config_.allow_without_punching = true;  // whatever /tmp is
    config_.log_level = LogLevel::error;
  }
  void TearDown() override { std::filesystem::remove_all(root_); }
  Result<void> rebuild() {
    VMS_TRY(const auto files, PosixFiles::open_folder(config_.data_folder));
    Random random(1);
    return rebuild_catalogue(*files, config_.data_folder, random);
  }
  Errc restore(bool accept_loss) {
    const auto files = PosixFiles::open_folder(config_.data_folder);
    EXPECT_TRUE(files);
    Random random(1);
    const std::string file = root_ + "/backup";
    const auto done = restore_catalogue(**files, config_.data_folder, file, accept_loss, random);
    return done ? Errc::ok : done.error().code;
  }
  /// A backup of the stopped node's catalogue, and of what else is to be in it.
  void write_backup(const std::vector<meta::BackupEntry>& more = {}) {
    const auto files = PosixFiles::open_folder(config_.data_folder);
    ASSERT_TRUE(files);
    const auto image = meta::CatalogueLog::load(**files, "catalogue");
    ASSERT_TRUE(image);
    const auto entry = image->entries.find(std::string(meta::kStoreKey));
    ASSERT_NE(entry, image->entries.end());
    const auto store = meta::decode<meta::pb::StoreRecord>(entry->second.value);
    ASSERT_TRUE(store);
    std::vector<meta::BackupEntry> entries = more;
    for (const auto& [key, known] : image->entries) entries.push_back({key, known.value});
    const auto by_key = [](const auto& a, const auto& b) { return a.key < b.key; };
    std::sort(entries.begin(), entries.end(), by_key);
    meta::BackupWriter writer;
    std::ofstream out(root_ + "/backup");
    out << writer.begin(meta::from_pb<StoreId>(store->id()).hex(), "now");
    out << writer.entries(entries) << writer.end(image->revision);
  }
  [[nodiscard]] std::string in_folder(const std::string& name) const {
    return config_.data_folder + "/" + name;
  }
  Errc put_name(Caller& caller, const std::string& name) {
    pb::MetaTxnRequest request;
    auto* const op = request.add_then_ops();
    op->set_key("/name/" + name);
    op->set_put(std::string(16, 'x'));
    const auto reply = caller.call<pb::MetaTxnReply>(wire::Opcode::meta_txn, request);
    return reply ? Errc::ok : reply.error().code;
  }
  bool has_name(Caller& caller, const std::string& name) {
    pb::MetaGetRequest request;
    request.set_key("/name/" + name);
    const auto reply = caller.call<pb::MetaGetReply>(wire::Opcode::meta_get, request);
    EXPECT_TRUE(reply);
    return reply && reply->found();
  }
  std::string root_;
  Config config_;
};

TEST(Descriptors, OpenKeysFollowTheLimit) {
  EXPECT_EQ(open_keys_for(524288), 512U);
  EXPECT_EQ(open_keys_for(1024), 96U);
  EXPECT_EQ(open_keys_for(160), 15U);
  EXPECT_EQ(open_keys_for(0), 4U);
}

TEST_F(DaemonTest, TakesTheDescriptorsItMayHave) {
  struct rlimit before {};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  struct rlimit low = before;
  low.rlim_cur = std::min<rlim_t>(before.rlim_max, 512);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &low), 0);
  Daemon daemon(config_);
  ASSERT_TRUE(daemon.start());
  struct rlimit now {};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &now), 0);
  EXPECT_EQ(now.rlim_cur, before.rlim_max);
  ::setrlimit(RLIMIT_NOFILE, &before);
}

TEST_F(DaemonTest, ServesAndKeepsTheCatalogueAcrossRestarts) {
  StoreId store;
  {
    Daemon daemon(config_);
    ASSERT_TRUE(daemon.start());
    Caller caller(config_.listen);
    ASSERT_TRUE(caller.greeted()) << to_string(caller.greeted().error());
    EXPECT_TRUE(caller.greeted()->same_host());
    store = wire::get_id<StoreId>(caller.greeted()->store_id());
    EXPECT_EQ(put_name(caller, "a"), Errc::ok);
  }
  config_.create = false;
  Daemon daemon(config_);
  ASSERT_TRUE(daemon.start());
  Caller caller(config_.listen);
  ASSERT_TRUE(caller.greeted());
  EXPECT_EQ(wire::get_id<StoreId>(caller.greeted()->store_id()), store);
  EXPECT_EQ(caller.greeted()->start_count(), 2U);
  EXPECT_TRUE(has_name(caller, "a"));
}

/// The files of a certificate, in `root`; what it says in reply to questions of openssl is in
/// tls_session_test.
net::TlsFiles write_certificate(const std::string& root,
                                const net::CertificatePair& authority,
                                StoreId store,
                                net::Role role) {
  const auto now = std::chrono::time_point_cast<Duration>(std::chrono::system_clock::now());
  net::CertificateRequest request;
  request.name = {store, role, {}, "test"};
  if (role == net::Role::node) request.hosts = {"127.0.0.1"};
  request.validity = {now - 1h, now + 1h};
  const auto pair = net::issue_certificate(authority, request);
  EXPECT_TRUE(pair);
  const std::string stem = root + "/" + std::string(net::role_name(role));
  net::TlsFiles files{root + "/ca.pem", stem + ".pem", stem + ".key"};
  std::ofstream(files.ca) << authority.certificate;
  std::ofstream(files.certificate) << pair->certificate;
  std::ofstream(files.key) << pair->key;
  std::filesystem::permissions(files.key, std::filesystem::perms::owner_read);
  return files;
}

TEST_F(DaemonTest, ServesOverTlsWhatTheCertificateAllowsBesideItsUnixSocket) {
  StoreId store;
  {
    Daemon daemon(config_);
    ASSERT_TRUE(daemon.start());
    Caller caller(config_.listen);
    store = wire::get_id<StoreId>(caller.greeted()->store_id());
  }
  const auto now = std::chrono::time_point_cast<Duration>(std::chrono::system_clock::now());
  const auto authority = net::make_authority(store, {now - 1h, now + 2h});
  ASSERT_TRUE(authority);
  const std::string unix_socket = config_.listen;
  config_.listen += ",127.0.0.1:0";
  config_.tls = write_certificate(root_, *authority, store, net::Role::node);
  Daemon daemon(config_);
  ASSERT_TRUE(daemon.start());
  const std::string tcp = daemon.endpoint().substr(unix_socket.size() + 1);

  for (const net::Role role : {net::Role::admin, net::Role::read_only}) {
    const auto context = net::TlsContext::load(write_certificate(root_, *authority, store, role));
    ASSERT_TRUE(context);
    Caller remote(tcp, *context);
    ASSERT_TRUE(remote.greeted()) << to_string(remote.greeted().error());
    EXPECT_FALSE(remote.greeted()->same_host());
    EXPECT_FALSE(has_name(remote, "a"));
    const bool may = role == net::Role::admin;
    EXPECT_EQ(put_name(remote, net::role_name(role) == "admin" ? "b" : "c"),
              may ? Errc::ok : Errc::permission);
  }
  Caller local(unix_socket);
  ASSERT_TRUE(local.greeted());
  EXPECT_TRUE(has_name(local, "b"));
  EXPECT_FALSE(has_name(local, "c"));
}

TEST_F(DaemonTest, ACertificateThatNobodyWouldTakeEndsTheStart) {
  ASSERT_TRUE(Daemon(config_).start());
  const auto now = std::chrono::time_point_cast<Duration>(std::chrono::system_clock::now());
  const StoreId other{1, 2};
  const auto authority = net::make_authority(other, {now - 1h, now + 2h});
  config_.listen = "127.0.0.1:0";
  config_.tls = write_certificate(root_, *authority, other, net::Role::node);
  EXPECT_EQ(Daemon(config_).start().error(), Errc::foreign_store);
  config_.tls.key = root_ + "/nothing";
  EXPECT_EQ(Daemon(config_).start().error(), Errc::not_found);
}

TEST_F(DaemonTest, SecondDaemonOnTheFolderIsRefused) {
  Daemon first(config_);
  ASSERT_TRUE(first.start());
  Config other = config_;
  other.listen = "unix:" + root_ + "/other";
  Daemon second(other);
  EXPECT_EQ(second.start().error(), Errc::busy);
  Caller caller(config_.listen);
  EXPECT_TRUE(caller.greeted());
}

TEST_F(DaemonTest, FolderIsMadeOnlyWhenAsked) {
  config_.create = false;
  EXPECT_FALSE(Daemon(config_).start());
  EXPECT_FALSE(std::filesystem::exists(config_.data_folder));
  std::filesystem::create_directory(config_.data_folder);
  EXPECT_EQ(Daemon(config_).start().error(), Errc::not_found);
  EXPECT_TRUE(std::filesystem::is_empty(config_.data_folder));
}

// An unmounted file system leaves an empty folder: "I do not know" is not "empty".
TEST_F(DaemonTest, I9_a_folder_that_held_a_store_never_gets_a_new_one) {
  config_.store_file = root_ + "/remembered";
  ASSERT_TRUE(Daemon(config_).start());
  const std::string away = root_ + "/away";
  std::filesystem::rename(config_.data_folder, away);
  EXPECT_FALSE(Daemon(config_).start());
  EXPECT_FALSE(std::filesystem::exists(config_.data_folder));
  std::filesystem::create_directory(config_.data_folder);
  EXPECT_EQ(Daemon(config_).start().error(), Errc::not_found);
  EXPECT_TRUE(std::filesystem::is_empty(config_.data_folder));
  // Another store there is not served.
  Config other = config_;
  other.store_file.clear();
  ASSERT_TRUE(Daemon(other).start());
  EXPECT_EQ(Daemon(config_).start().error(), Errc::foreign_store);
  std::filesystem::remove_all(config_.data_folder);
  std::filesystem::rename(away, config_.data_folder);
  EXPECT_TRUE(Daemon(config_).start());
}

TEST_F(DaemonTest, ADamagedMemoryOfTheStoreIsNotNoMemory) {
  config_.store_file = root_ + "/remembered";
  const std::string id(32, 'a');
  for (const std::string& text : {std::string(), id, id + "\n", "x" + id + "\n/data\n"}) {
    std::ofstream(config_.store_file) << text;
    EXPECT_EQ(Daemon(config_).start().error(), Errc::corrupt) << text;
    EXPECT_FALSE(std::filesystem::exists(config_.data_folder));
  }
  // What is known of another folder says nothing about this one.
  std::ofstream(config_.store_file) << id << "\n/srv/other\n";
  EXPECT_TRUE(Daemon(config_).start());
}

TEST_F(DaemonTest, C14_lost_metadata_is_refused_and_rebuilt) {
  {
    Daemon daemon(config_);
    ASSERT_TRUE(daemon.start());
    Caller caller(config_.listen);
    EXPECT_EQ(put_name(caller, "kept"), Errc::ok);
  }
  for (int loss = 0; loss < 2; ++loss) {
    std::filesystem::remove_all(config_.data_folder + "/meta");
    EXPECT_FALSE(Daemon(config_).start());
    EXPECT_FALSE(std::filesystem::exists(config_.data_folder + "/meta"));
    ASSERT_TRUE(rebuild());
    Daemon daemon(config_);
    ASSERT_TRUE(daemon.start());
    Caller caller(config_.listen);
    EXPECT_TRUE(has_name(caller, "kept"));
    EXPECT_EQ(put_name(caller, "later"), Errc::ok);
  }
}

TEST_F(DaemonTest, RebuildSetsWhatIsThereAside) {
  {
    Daemon daemon(config_);
    ASSERT_TRUE(daemon.start());
    EXPECT_EQ(rebuild().error(), Errc::busy);
  }
  ASSERT_TRUE(rebuild());
  EXPECT_TRUE(std::filesystem::exists(config_.data_folder + "/meta.old"));
  ASSERT_TRUE(rebuild());
  EXPECT_TRUE(std::filesystem::exists(config_.data_folder + "/meta.old.1"));
  EXPECT_TRUE(Daemon(config_).start());
}

// "I cannot read it now" is not "there is none": what is there may be newer than the backup.
TEST_F(DaemonTest, I9_a_catalogue_that_cannot_be_read_is_not_replaced_by_a_backup) {
  ASSERT_TRUE(Daemon(config_).start());
  write_backup();
  const std::string format = in_folder("meta/format");
  std::filesystem::rename(in_folder("catalogue"), root_ + "/log");
  std::ofstream(format) << "vmstore metadata 9 complete\n";
  EXPECT_EQ(restore(false), Errc::newer_format);
  std::filesystem::remove_all(in_folder("meta"));
  std::filesystem::create_directory(in_folder("catalogue"));  // opening it fails
  EXPECT_NE(restore(false), Errc::ok);
  EXPECT_FALSE(std::filesystem::exists(in_folder("meta")));
  EXPECT_FALSE(std::filesystem::exists(in_folder("catalogue.old")));
  EXPECT_EQ(restore(true), Errc::ok);
  EXPECT_TRUE(std::filesystem::exists(in_folder("catalogue.old")));
  EXPECT_TRUE(Daemon(config_).start());
}

TEST_F(DaemonTest, ADamagedOrMissingCatalogueIsReplacedByABackup) {
  ASSERT_TRUE(Daemon(config_).start());
  write_backup();
  std::filesystem::remove_all(in_folder("meta"));
  std::filesystem::resize_file(in_folder("catalogue"), 20);
  EXPECT_EQ(restore(false), Errc::ok);
  EXPECT_TRUE(std::filesystem::exists(in_folder(std::string(kGcHoldFile))));
  std::filesystem::remove_all(in_folder("meta"));
  std::filesystem::remove(in_folder("catalogue"));
  EXPECT_EQ(restore(false), Errc::ok);
  EXPECT_TRUE(Daemon(config_).start());
}

TEST_F(DaemonTest, RestoreNeedsEveryFileOfAKey) {
  ASSERT_TRUE(Daemon(config_).start());
  meta::pb::DiskRecord disk;
  *disk.mutable_id() = meta::to_pb(DiskId{1, 2});
  disk.set_name("web");
  disk.set_size_bytes(4096);
  disk.set_copies(1);
  disk.set_min_copies(1);
  disk.mutable_open_key()->set_key(20);
  write_backup({{meta::disk_key(DiskId{1, 2}), meta::encode(disk)}});
  std::filesystem::remove_all(in_folder("meta"));
  std::filesystem::remove(in_folder("catalogue"));
  const KeyId key = *KeyId::make(20);
  for (const auto kind : {KeyFileKind::log, KeyFileKind::sums, KeyFileKind::data}) {
    EXPECT_EQ(restore(false), Errc::not_found);
    std::ofstream(in_folder(key_path(key, kind))) << "x";
  }
  EXPECT_EQ(restore(false), Errc::ok);
  std::filesystem::remove_all(in_folder("keys/05"));
  EXPECT_EQ(restore(true), Errc::not_found);
}

TEST_F(DaemonTest, MetricsAreServedWhereItSays) {
  config_.http = "127.0.0.1:0";
  Daemon daemon(config_);
  ASSERT_TRUE(daemon.start());
  EXPECT_TRUE(daemon.http().starts_with("127.0.0.1:"));
  EXPECT_NE(daemon.http(), "127.0.0.1:0");
  config_.http = "0.0.0.0:0";
  config_.data_folder = root_ + "/other";
  config_.listen = "unix:" + root_ + "/other.sock";
  EXPECT_EQ(Daemon(config_).start().error(), Errc::invalid_argument);
}

TEST_F(DaemonTest, DescriptorsOfAKeyArePassedToItsHost) {
  Daemon daemon(config_);
  ASSERT_TRUE(daemon.start());
  Caller caller(config_.listen);
  pb::KeyFilesRequest request;
  request.set_key(16);
  const auto reply = caller.call<pb::KeyFilesReply>(wire::Opcode::key_files, request);
  EXPECT_EQ(reply.error(), Errc::not_found);
}

}  // namespace
}  // namespace vmstore::storaged
