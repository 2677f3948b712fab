// SPDX-License-Identifier: Apache-2.0
// cert init, issue: the authority of a store and the certificates of nodes and people.
//
// Invariants: no file is ever replaced; a key is 0600 from its first moment; what could not be
// finished is removed again.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "base/units.h"
#include "cli/process.h"
#include "cli/verbs.h"
#include "net/tls_authority.h"

namespace vmstore::cli {
namespace {

constexpr const char* kAuthority = "ca";
constexpr int kAuthorityDays = 3650;
constexpr int kCertificateDays = 365;
constexpr int kDaysMax = 36500;
constexpr std::chrono::minutes kClockSkew{5};  // of a node that is a little behind
constexpr ::mode_t kFolderMode = 0700;
constexpr ::mode_t kKeyMode = 0600;
constexpr ::mode_t kCertificateMode = 0644;

struct CertOptions {
  std::string folder;
  std::string store;
  std::string name;
  std::string role;
  std::vector<std::string> hosts;
  std::vector<std::string> disks;
  int days = 0;
};

std::string path_of(const std::string& folder, const std::string& name, const char* kind) {
  return folder + "/" + name + kind;
}

net::Validity validity_of(int days) {
  const auto now = std::chrono::time_point_cast<Duration>(std::chrono::system_clock::now());
  return {now - kClockSkew, now + std::chrono::hours(24) * days};
}

std::string text_of(WallTime time) {
  return format_time(static_cast<std::uint64_t>(time.time_since_epoch().count()));
}

/// A file that was not there, until keep() removed again at the end.
class NewFile {
 public:
  explicit NewFile(std::string path) : path_(std::move(path)) {}
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;
  ~NewFile() {
    if (made_) ::unlink(path_.c_str());
  }
  [[nodiscard]] Answer<void> write(const std::string& text, ::mode_t mode) {
    const UniqueFd fd(::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
    if (fd.get() < 0) {
      return Failure::from(last_os_error(), path_, errno == EEXIST ? "give another name" : "");
    }
    made_ = true;
    std::string_view rest = text;
    while (!rest.empty()) {
      const ssize_t done = ::write(fd.get(), rest.data(), rest.size());
      if (done < 0 && errno == EINTR) continue;
      if (done < 0) return Failure::from(last_os_error(), path_);
      rest.remove_prefix(static_cast<std::size_t>(done));
    }
    if (::fsync(fd.get()) != 0) return Failure::from(last_os_error(), path_);
    return {};
  }
  void keep() noexcept { made_ = false; }

 private:
  std::string path_;
  bool made_ = false;
};

Answer<void> sync_folder(const std::string& folder) {
  const UniqueFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() < 0 || ::fsync(fd.get()) != 0) return Failure::from(last_os_error(), folder);
  return {};
}

Answer<void> write_pair(const std::string& folder,
                        const std::string& name,
                        const net::CertificatePair& pair) {
  NewFile key(path_of(folder, name, ".key"));
  NewFile certificate(path_of(folder, name, ".pem"));
  VMS_CHECK(key.write(pair.key, kKeyMode));
  VMS_CHECK(certificate.write(pair.certificate, kCertificateMode));
  VMS_CHECK(sync_folder(folder));
  key.keep();
  certificate.keep();
  return {};
}

Answer<std::string> read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (!file.is_open()) {
    return Failure::from(last_os_error(), path, "make an authority with: vmstore cert init DIR");
  }
  return text;
}

Answer<void> check_days(int days) {
  if (days >= 1 && days <= kDaysMax) return {};
  return Failure::usage("--days is 1 to " + std::to_string(kDaysMax));
}

/// The store that the authority is for: named, or that of the node we talk to.
Answer<StoreId> choose_store(Context& context, const CertOptions& options) {
  std::string text = options.store;
  if (text.empty()) {
    VMS_TRY(disk::Client * client, context.client());
    VMS_TRY(const disk::NodeStatus status, about(client->node_status(), context.endpoint()));
    text = status.store;
  }
  const auto store = StoreId::parse(text);
  if (!store || store->is_none()) {
    return Failure::usage("no store has the id '" + text + "'", "--store takes 32 hex digits");
  }
  return *store;
}

Answer<void> init(Context& context, const CertOptions& options) {
  VMS_CHECK(check_days(options.days));
  VMS_TRY(const StoreId store, choose_store(context, options));
  const std::string certificate = path_of(options.folder, kAuthority, ".pem");
  const net::Validity validity = validity_of(options.days);
  json::object fields{{"action", "cert init"},
                      {"store", store.hex()},
                      {"certificate", certificate},
                      {"key", path_of(options.folder, kAuthority, ".key")},
                      {"valid_until", text_of(validity.until)}};
  if (context.options().dry_run) {
    fields["dry_run"] = true;
    context.output().done("would make the authority of store " + store.hex() + ", " + certificate,
                          std::move(fields));
    return {};
  }
  if (::mkdir(options.folder.c_str(), kFolderMode) != 0 && errno != EEXIST) {
    return Failure::from(last_os_error(), options.folder);
  }
  VMS_TRY(const net::CertificatePair pair,
          about(net::make_authority(store, validity), certificate));
  VMS_CHECK(write_pair(options.folder, kAuthority, pair));
  context.output().done("made the authority of store " + store.hex() + ": " + certificate +
                            ", valid until " + text_of(validity.until) +
                            "; who has its key can be anybody in this store",
                        std::move(fields));
  return {};
}

Answer<net::CertificateRequest> request_of(const CertOptions& options) {
  net::CertificateRequest request;
  const auto role = net::parse_role(options.role);
  if (!role) {
    return Failure::usage("no role '" + options.role + "'",
                          "--role node, admin, client or read-only");
  }
  if (!is_valid_name_part(options.name) || options.name == kAuthority) {
    return Failure::usage("'" + options.name + "' cannot be a certificate's name",
                          "a-z, 0-9, '.', '_' and '-', and not " + std::string(kAuthority));
  }
  const bool is_node = *role == net::Role::node;
  if (is_node && options.hosts.empty()) {
    return Failure::usage("a node's certificate names its addresses", "--host ADDRESS");
  }
  if (!is_node && !options.hosts.empty()) {
    return Failure::usage("only a node is dialled: --host is for --role node");
  }
  if (*role != net::Role::client && !options.disks.empty()) {
    return Failure::usage("only a client is for some disks: --disks is for --role client");
  }
  const bool good_disks = options.disks.size() <= net::kDiskPatternsMax &&
                          std::all_of(options.disks.begin(),
                                      options.disks.end(),
                                      [](const auto& each) { return net::is_disk_pattern(each); });
  if (!good_disks) {
    return Failure::usage("no disk's name can be like that, or they are too many",
                          "--disks 'GROUP/*', up to " + std::to_string(net::kDiskPatternsMax));
  }
  request.name.role = *role;
  request.name.disks = options.disks;
  request.name.person = options.name;
  request.hosts = options.hosts;
  request.validity = validity_of(options.days);
  return request;
}

Answer<void> issue(Context& context, const CertOptions& options) {
  VMS_CHECK(check_days(options.days));
  VMS_TRY(net::CertificateRequest request, request_of(options));
  net::CertificatePair authority;
  const std::string authority_file = path_of(options.folder, kAuthority, ".pem");
  VMS_TRY(authority.certificate, read_text(authority_file));
  VMS_TRY(authority.key, read_text(path_of(options.folder, kAuthority, ".key")));
  VMS_TRY(request.name.store,
          about(net::store_of_authority(authority.certificate), authority_file));
  VMS_TRY(const net::CertificatePair pair,
          about(net::issue_certificate(authority, request),
                authority_file,
                "is it `cert init`'s own, and each --host a name or an IP address?"));
  VMS_TRY(const WallTime until, about(net::end_of_certificate(pair.certificate), options.name));
  const std::string certificate = path_of(options.folder, options.name, ".pem");
  json::object fields{{"action", "cert issue"},
                      {"name", options.name},
                      {"role", std::string(net::role_name(request.name.role))},
                      {"store", request.name.store.hex()},
                      {"disks", json::array(options.disks.begin(), options.disks.end())},
                      {"certificate", certificate},
                      {"key", path_of(options.folder, options.name, ".key")},
                      {"valid_until", text_of(until)}};
  if (context.options().dry_run) {
    fields["dry_run"] = true;
    context.output().done("would write " + certificate, std::move(fields));
    return {};
  }
  VMS_CHECK(write_pair(options.folder, options.name, pair));
  context.output().done(
      "wrote " + certificate + ", " + options.role + ", valid until " + text_of(until),
      std::move(fields));
  return {};
}

}  // namespace

void add_cert_verbs(VerbBook& book) {
  const VerbBook::Text about_group{"Certificates: who may use a store over TCP",
                                   "cert init /etc/vmstore/tls",
                                   "cert issue /etc/vmstore/tls web --role client"};
  CLI::App& group = book.group("cert", about_group);

  const VerbBook::Text about_init{"Make the authority of a store: DIR/ca.pem and DIR/ca.key",
                                  "cert init /etc/vmstore/tls",
                                  "cert init tls --store 0123456789abcdef0123456789abcdef"};
  CLI::App& init_verb = book.verb(group, "init", about_init);
  const auto for_init = std::make_shared<CertOptions>();
  for_init->days = kAuthorityDays;
  init_verb.add_option("dir", for_init->folder, "Folder, made if it is not there")->required();
  init_verb.add_option("--store", for_init->store, "Id of the store; default: the node's at -E");
  init_verb.add_option("--days", for_init->days, "How long it is valid")->capture_default_str();
  book.action(init_verb, [for_init](Context& context) { return init(context, *for_init); });

  const VerbBook::Text about_issue{"Sign a certificate: DIR/NAME.pem and DIR/NAME.key",
                                   "cert issue tls node1 --role node --host 192.0.2.1",
                                   "cert issue tls web --role client --days 30"};
  CLI::App& issue_verb = book.verb(group, "issue", about_issue);
  const auto for_issue = std::make_shared<CertOptions>();
  for_issue->days = kCertificateDays;
  issue_verb.add_option("dir", for_issue->folder, "Folder of `cert init`")->required();
  issue_verb.add_option("name", for_issue->name, "Name of its files, and in it")->required();
  issue_verb.add_option("--role", for_issue->role, "node, admin, client or read-only")->required();
  issue_verb.add_option("--host", for_issue->hosts, "Of a node: its addresses and host names");
  issue_verb.add_option("--disks", for_issue->disks, "Of a client: disks it may change, 'GROUP/*'");
  issue_verb.add_option("--days", for_issue->days, "How long it is valid")->capture_default_str();
  book.action(issue_verb, [for_issue](Context& context) { return issue(context, *for_issue); });
}

}  // namespace vmstore::cli
