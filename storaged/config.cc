// SPDX-License-Identifier: Apache-2.0
#include "storaged/config.h"

#include <toml++/toml.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <numeric>
#include <sstream>
#include <vector>

#include "base/units.h"
#include "net/etcd_calls.h"
#include "net/socket_address.h"

namespace vmstore::storaged {
namespace {

constexpr int kExitUsage = 2;
constexpr const char* kDefaultFile = "/etc/vmstore/vmstore.toml";
constexpr std::string_view kUnixPrefix = "unix:";
constexpr std::string_view kSection = "node";
constexpr std::string_view kEtcdPrefix = "etcd=";
constexpr std::uint32_t kWeightMax = 1000;

constexpr const char* kDescription =
    "vmstored - the storage node of VMStore\n\n"
    "Examples:\n"
    "  vmstored --create --data /var/lib/vmstore          make a store and serve it\n"
    "  vmstored -d /var/lib/vmstore --http 127.0.0.1:9650   serve it, with metrics\n"
    "  vmstored -d DIR --join STORE --meta etcd=URL --listen ADDRESS:PORT --tls-...   one more "
    "node\n";

Result<LogLevel> parse_level(std::string_view text) {
  if (text == "debug") return LogLevel::debug;
  if (text == "info") return LogLevel::info;
  if (text == "warning") return LogLevel::warning;
  if (text == "error") return LogLevel::error;
  return Errc::invalid_argument;
}

/// A setting that has a name in the file and a flag: its text goes into the config, or it is wrong.
struct Setting {
  std::string_view name;
  bool (*apply)(const std::string& text, Config& config);
};

bool apply_size(const std::string& text, std::uint64_t& into) {
  const auto size = parse_size(text);
  if (size) into = *size;
  return size.has_value();
}

bool is_tcp(std::string_view endpoint) {
  if (unix_path(endpoint)) return false;
  const net::Endpoint address{std::string(endpoint)};
  return net::parse_endpoint(address, net::Reach::everywhere).has_value();
}

/// An address that others can dial: no wildcard, and a port.
bool can_be_dialled(std::string_view endpoint) {
  if (!is_tcp(endpoint)) return false;
  const net::Endpoint text{std::string(endpoint)};
  const auto address = net::parse_endpoint(text, net::Reach::everywhere);
  const std::string host = net::host_of(*address);
  return host != "0.0.0.0" && host != "::" && !net::endpoint_of(*address).text.ends_with(":0");
}

bool apply_weight(const std::string& text, Config& config) {
  std::uint32_t weight = 0;
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, weight);
  if (parsed.ec != std::errc() || parsed.ptr != end || weight > kWeightMax) return false;
  config.weight = weight;
  return true;
}

bool are_endpoints(std::string_view listen) {
  const auto all = listen_endpoints(listen);
  return !all.empty() && std::all_of(all.begin(), all.end(), [](const std::string& each) {
    return unix_path(each).has_value() || is_tcp(each);
  });
}

constexpr std::array kSettings{
    Setting{"data",
            [](const std::string& text, Config& config) {
              config.data_folder = text;
              return !text.empty();
            }},
    Setting{"listen",
            [](const std::string& text, Config& config) {
              config.listen = text;
              return are_endpoints(text);
            }},
    Setting{"announce",
            [](const std::string& text, Config& config) {
              config.announce = text;
              return can_be_dialled(text);
            }},
    Setting{"zone",
            [](const std::string& text, Config& config) {
              config.zone = text;
              return is_valid_name_part(text);
            }},
    Setting{"weight", apply_weight},
    Setting{"http",
            [](const std::string& text, Config& config) {
              config.http = text == "off" ? "" : text;
              return !text.empty();
            }},
    Setting{"meta",
            [](const std::string& text, Config& config) {
              const bool is_etcd = text.starts_with(kEtcdPrefix);
              config.etcd = is_etcd ? text.substr(kEtcdPrefix.size()) : "";
              return is_etcd ? net::parse_etcd_urls(config.etcd).has_value() : text == "rocksdb";
            }},
    Setting{"journal_size",
            [](const std::string& text, Config& config) {
              return apply_size(text, config.journal_bytes);
            }},
    Setting{"reserve",
            [](const std::string& text, Config& config) {
              return apply_size(text, config.reserve_bytes);
            }},
    Setting{"log_level",
            [](const std::string& text, Config& config) {
              const auto level = parse_level(text);
              if (level) config.log_level = *level;
              return level.has_value();
            }},
    Setting{"gc",
            [](const std::string& text, Config& config) {
              config.collect_by_itself = text == "auto";
              return text == "auto" || text == "manual";
            }},
    Setting{"tls_ca",
            [](const std::string& text, Config& config) {
              config.tls.ca = text;
              return !text.empty();
            }},
    Setting{"tls_cert",
            [](const std::string& text, Config& config) {
              config.tls.certificate = text;
              return !text.empty();
            }},
    Setting{"tls_key",
            [](const std::string& text, Config& config) {
              config.tls.key = text;
              return !text.empty();
            }},
};

/// How the command line has the settings, in their order.
struct FlagText {
  const char* flags;
  const char* type;
  const char* help;
};
constexpr std::array<FlagText, kSettings.size()> kFlags{{
    {"-d,--data", "DIR", "Data folder"},
    {"-l,--listen",
     "ENDPOINT,...",
     "Where to serve: unix:PATH, and with TLS ADDRESS:PORT (default: vmstored.sock in the data "
     "folder)"},
    {"--announce",
     "ADDRESS:PORT",
     "Where the other nodes and the clients of the store reach this node (default: the first TCP "
     "address of --listen)"},
    {"--zone", "NAME", "Copies of a block go to different zones: a rack, a room"},
    {"--weight", "NUMBER", "This node's share of the keys, beside the others (default 1)"},
    {"--http",
     "ADDRESS",
     "Health and metrics: loopback HOST:PORT (port 0: any free one), unix:PATH or off"},
    {"--meta",
     "PLACE",
     "Where the catalogue is: rocksdb (in the data folder; the default) or "
     "etcd=http://HOST:PORT[,http://HOST:PORT...]"},
    {"--journal-size", "SIZE", "Size of the journal of a new store (default 256M)"},
    {"--reserve", "SIZE", "Space kept for acknowledged data and for freeing"},
    {"--log-level", "LEVEL", "debug, info, warning or error"},
    {"--gc", "MODE", "Garbage collection: auto or manual"},
    {"--tls-ca", "FILE", "Certificate of the store's authority"},
    {"--tls-cert", "FILE", "This node's certificate"},
    {"--tls-key", "FILE", "Its key"},
}};

const Setting* find_setting(std::string_view name) {
  const auto* const found = std::find_if(
      kSettings.begin(), kSettings.end(), [&](const Setting& s) { return s.name == name; });
  return found == kSettings.end() ? nullptr : found;
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

std::string_view nearest_setting(std::string_view name) {
  const auto* const found =
      std::min_element(kSettings.begin(), kSettings.end(), [&](const auto& a, const auto& b) {
        return edit_distance(name, a.name) < edit_distance(name, b.name);
      });
  return found->name;
}

FileProblem problem(const std::string& file,
                    const toml::source_region& at,
                    const std::string& what) {
  return {file + ":" + std::to_string(at.begin.line) + ": " + what};
}

std::optional<FileProblem> apply_section(const toml::table& section,
                                         const std::string& file,
                                         Config& config) {
  for (const auto& [key, node] : section) {
    const std::string name(key.str());
    const Setting* const setting = find_setting(name);
    if (setting == nullptr) {
      return problem(file,
                     key.source(),
                     "unknown key '" + name + "'; the nearest is '" +
                         std::string(nearest_setting(name)) + "'");
    }
    const auto text = node.value<std::string>();
    if (!text || !setting->apply(*text, config)) {
      return problem(file, node.source(), "bad value for '" + name + "'");
    }
  }
  return std::nullopt;
}

std::optional<FileProblem> apply_file(const std::filesystem::path& path, Config& config) {
  std::ifstream in(path);
  std::ostringstream text;
  text << in.rdbuf();
  if (!in) return FileProblem{path.string() + ": cannot be read"};
  return apply_config_text(text.str(), path.string(), config);
}

/// The file, then conf.d/*.toml beside it in the order of their names.
std::optional<FileProblem> apply_files(const std::string& file, bool must_exist, Config& config) {
  std::error_code error;
  const std::filesystem::path path(file);
  if (must_exist || std::filesystem::exists(path, error)) {
    if (auto wrong = apply_file(path, config)) return wrong;
  }
  std::vector<std::filesystem::path> more;
  for (const auto& entry :
       std::filesystem::directory_iterator(path.parent_path() / "conf.d", error)) {
    if (entry.path().extension() == ".toml") more.push_back(entry.path());
  }
  std::sort(more.begin(), more.end());
  for (const auto& each : more) {
    if (auto wrong = apply_file(each, config)) return wrong;
  }
  return std::nullopt;
}

/// What the command line and the environment say, as text.
struct Flags {
  std::string file;
  std::vector<std::pair<std::string_view, std::string>> settings;
};

int fail(const std::string& what) {
  std::cerr << "vmstored: " << what << "\n";
  return kExitUsage;
}

std::optional<std::string> check_join(const Config& config) {
  if (config.join.is_none()) return std::nullopt;
  if (config.create || config.rebuild_meta || config.migrate_meta || !config.restore_meta.empty()) {
    return "--join excludes --create, --rebuild-meta, --migrate-meta and --restore-meta";
  }
  if (config.etcd.empty()) return "--join needs the store's --meta etcd=URL[,URL...]";
  if (!config.tls.complete()) return "--join needs --tls-ca, --tls-cert and --tls-key";
  if (announced_address(config).empty()) {
    return "--join needs an address for the other nodes: --listen ADDRESS:PORT, and --announce if "
           "that is none that they can dial";
  }
  return std::nullopt;
}

std::optional<std::string> check(const Config& config) {
  if (config.data_folder.empty()) return "no data folder: give --data DIR";
  if (config.create && config.rebuild_meta) return "--create and --rebuild-meta exclude each other";
  if (config.migrate_meta && (config.create || config.rebuild_meta)) {
    return "--migrate-meta excludes --create and --rebuild-meta";
  }
  if (config.migrate_meta && config.etcd.empty()) {
    return "--migrate-meta needs --meta etcd=URL[,URL...]";
  }
  const bool restore = !config.restore_meta.empty();
  if (restore && !config.etcd.empty()) {
    return "a backup is restored into an etcd through a running node: vmstore meta restore FILE";
  }
  if (restore && config.migrate_meta) return "--restore-meta excludes --migrate-meta";
  if (restore && (config.create || config.rebuild_meta)) {
    return "--restore-meta excludes --create and --rebuild-meta";
  }
  if (config.accept_loss && !restore) return "--accept-loss belongs to --restore-meta";
  if (auto wrong = check_join(config)) return wrong;
  if (!config.tls.empty() && !config.tls.complete()) {
    return "TLS needs all of --tls-ca, --tls-cert and --tls-key";
  }
  for (const std::string& endpoint : listen_endpoints(config.listen)) {
    if (!is_tcp(endpoint) || config.tls.complete()) continue;
    return "cannot listen on '" + endpoint +
           "' without TLS: give --tls-ca, --tls-cert and --tls-key (vmstore cert issue)";
  }
  return std::nullopt;
}

bool serves(const Config& config) {
  return !config.rebuild_meta && !config.migrate_meta && config.restore_meta.empty();
}

/// What is no setting: how this one run behaves.
void add_modes(CLI::App& app, Config& config) {
  app.add_flag("--create", config.create, "Make a store if the data folder is empty");
  const auto parse_store = [&config](const std::string& text) {
    const auto store = StoreId::parse(text);
    if (!store || store->is_none()) throw CLI::ValidationError("--join", "32 hex digits");
    config.join = *store;
  };
  app.add_option_function<std::string>(
         "--join", parse_store, "Become a node of that store if the data folder is empty")
      ->type_name("STORE");
  app.add_option("--store-file",
                 config.store_file,
                 "File outside of the data folder that remembers its store: once written, no store "
                 "is made there and no other is served")
      ->type_name("FILE");
  app.add_flag("--rebuild-meta",
               config.rebuild_meta,
               "Rebuild the catalogue from the folder's own log, then exit; with --meta etcd=... "
               "in an etcd that has lost it");
  app.add_flag("--migrate-meta",
               config.migrate_meta,
               "Move the catalogue from the folder to the etcd of --meta, then exit");
  app.add_option("--restore-meta",
                 config.restore_meta,
                 "Make the catalogue from a backup (`vmstore meta backup`), then exit: for a store "
                 "that has lost it and the folder's own log")
      ->type_name("FILE");
  app.add_flag("--accept-loss",
               config.accept_loss,
               "With --restore-meta: although keys that the backup names are gone, or the folder "
               "has a catalogue");
  app.add_flag("--check-config", config.check_only, "Check the configuration, then exit");
  app.add_flag("--allow-no-punching",
               config.allow_without_punching,
               "Serve on a file system that cannot punch holes: freed space is not given back");
}

}  // namespace

std::optional<std::string> unix_path(std::string_view endpoint) {
  if (endpoint.starts_with(kUnixPrefix)) endpoint.remove_prefix(kUnixPrefix.size());
  constexpr std::size_t kPathMax = 100;  // sun_path is 108 bytes
  if (endpoint.empty() || endpoint.front() != '/' || endpoint.size() > kPathMax)
    return std::nullopt;
  return std::string(endpoint);
}

std::vector<std::string> listen_endpoints(std::string_view listen) {
  std::vector<std::string> endpoints;
  while (!listen.empty()) {
    const auto comma = std::min(listen.find(','), listen.size());
    endpoints.emplace_back(listen.substr(0, comma));
    listen.remove_prefix(std::min(comma + 1, listen.size()));
  }
  return endpoints;
}

std::string announced_address(const Config& config) {
  if (!config.announce.empty()) return config.announce;
  for (const std::string& endpoint : listen_endpoints(config.listen)) {
    if (can_be_dialled(endpoint)) return endpoint;
  }
  return {};
}

std::optional<FileProblem> apply_config_text(std::string_view text,
                                             const std::string& file,
                                             Config& config) {
  toml::table root;
  try {  // toml++ speaks in exceptions; they end here
    root = toml::parse(text, file);
  } catch (const toml::parse_error& error) {
    return problem(file, error.source(), std::string(error.description()));
  }
  constexpr std::array<std::string_view, 2> kSections{kSection, "client"};
  for (const auto& [key, node] : root) {
    const bool known = std::find(kSections.begin(), kSections.end(), key.str()) != kSections.end();
    if (!known || !node.is_table()) {
      return problem(file,
                     key.source(),
                     "unknown key '" + std::string(key.str()) + "'; there are [node] and [client]");
    }
    if (key.str() != kSection) continue;
    if (auto wrong = apply_section(*node.as_table(), file, config)) return wrong;
  }
  return std::nullopt;
}

Parsed parse_config(int argc, const char* const* argv) {
  Config config;
  CLI::App app(kDescription, "vmstored");
  app.set_version_flag("--version", std::string("vmstored ") + VMSTORE_VERSION);
  std::string file;
  const auto* const file_flag = app.add_option("-c,--config", file, "Configuration file (TOML)")
                                    ->envname("VMSTORE_CONFIG")
                                    ->type_name("FILE");
  std::array<std::string, kSettings.size()> texts;
  std::array<CLI::Option*, kSettings.size()> options{};
  for (std::size_t i = 0; i < kSettings.size(); ++i) {
    std::string variable = "VMSTORE_" + std::string(kSettings[i].name);
    std::transform(variable.begin(), variable.end(), variable.begin(), [](unsigned char c) {
      return static_cast<char>(std::toupper(c));
    });
    options[i] = app.add_option(kFlags[i].flags, texts[i], kFlags[i].help)
                     ->envname(variable)
                     ->type_name(kFlags[i].type);
  }
  add_modes(app, config);
  try {  // CLI11 speaks in exceptions; they end here
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return {std::nullopt, app.exit(error) == 0 ? 0 : kExitUsage};
  }
  const bool named = file_flag->count() > 0;
  if (const auto wrong = apply_files(named ? file : kDefaultFile, named, config)) {
    return {std::nullopt, fail(wrong->text)};
  }
  for (std::size_t i = 0; i < kSettings.size(); ++i) {
    if (options[i]->count() == 0) continue;
    if (!kSettings[i].apply(texts[i], config)) {
      return {std::nullopt, fail("bad value '" + texts[i] + "' for " + kFlags[i].flags)};
    }
  }
  if (const auto wrong = check(config)) return {std::nullopt, fail(*wrong)};
  // Who works on a folder and ends has no socket there: its path may be relative, and of any
  // length.
  if (!serves(config)) return {std::move(config), 0};
  if (config.listen.empty()) config.listen = "unix:" + config.data_folder + "/vmstored.sock";
  if (!are_endpoints(config.listen)) {
    return {std::nullopt,
            fail("cannot listen on '" + config.listen +
                 "': an absolute unix path of up to 100 characters is needed, or ADDRESS:PORT")};
  }
  return {std::move(config), 0};
}

}  // namespace vmstore::storaged
