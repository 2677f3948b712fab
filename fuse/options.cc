// SPDX-License-Identifier: Apache-2.0
#include "fuse/options.h"

#include <array>
#include <optional>
#include <string_view>

#include "base/units.h"

namespace vmstore::fuse {
namespace {

struct Flag {
  std::string_view name;
  bool Options::*to;
};
constexpr std::array kFlags{
    Flag{"--foreground", &Options::foreground},
    Flag{"-f", &Options::foreground},
    Flag{"--allow-other", &Options::allow_other},
    Flag{"--read-only", &Options::read_only},
    Flag{"--help", &Options::help},
    Flag{"--version", &Options::version},
};

struct Setting {
  std::string_view name;
  std::string Options::*to;
  bool is_path;
};
constexpr std::array kSettings{
    Setting{"--endpoint", &Options::endpoint, false},
    Setting{"-E", &Options::endpoint, false},
    Setting{"--run-dir", &Options::run_folder, true},
    Setting{"--log-file", &Options::log_file, true},
    Setting{"--tls-ca", &Options::tls_ca, true},
    Setting{"--tls-cert", &Options::tls_certificate, true},
    Setting{"--tls-key", &Options::tls_key, true},
};

std::string absolute(std::string_view path, const std::string& folder) {
  if (path.starts_with('/')) return std::string(path);
  return folder + "/" + std::string(path);
}

const Flag* flag_of(std::string_view argument) {
  for (const Flag& flag : kFlags) {
    if (flag.name == argument) return &flag;
  }
  return nullptr;
}

const Setting* setting_of(std::string_view name) {
  for (const Setting& setting : kSettings) {
    if (setting.name == name) return &setting;
  }
  return nullptr;
}

}  // namespace

std::string parse_options(const std::vector<std::string>& arguments,
                          const std::string& folder,
                          Options& options) {
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string_view argument = arguments[i];
    if (const Flag* flag = flag_of(argument)) {
      options.*(flag->to) = true;
      continue;
    }
    if (!argument.starts_with('-')) {
      if (!options.mount_point.empty()) return "more than one folder given";
      options.mount_point = absolute(argument, folder);
      continue;
    }
    const auto equals = argument.find('=');
    const Setting* setting = setting_of(argument.substr(0, equals));
    if (setting == nullptr) return "unknown option " + std::string(argument);
    std::string_view value;
    if (equals != std::string_view::npos) {
      value = argument.substr(equals + 1);
    } else if (i + 1 < arguments.size()) {
      value = arguments[++i];
    }
    if (value.empty()) return std::string(setting->name) + " needs a value";
    options.*(setting->to) =
        setting->is_path ? absolute(value, folder) : absolute_endpoint(value, folder);
  }
  if (options.help || options.version) return {};
  if (options.endpoint.empty()) return "--endpoint is missing: the node's socket, or HOST:PORT";
  if (options.mount_point.empty()) return "the folder to mount on is missing";
  return {};
}

std::string help_text() {
  return "Usage: vmstore-fuse --endpoint ADDRESS [OPTIONS] FOLDER\n"
         "Shows the disks of a VMStore as files: NAME.raw, GROUP/NAME.raw, .snap/NAME@SNAP.raw.\n"
         "\n"
         "  -E, --endpoint ADDRESS\n"
         "                      the node: path of a unix socket, or HOST:PORT; or several nodes\n"
         "                      of the store, with commas\n"
         "  --run-dir FOLDER    folder on tmpfs for batch files (default: found by itself)\n"
         "  --tls-ca FILE, --tls-cert FILE, --tls-key FILE\n"
         "                      for a node on TCP: the store's authority, our certificate, its\n"
         "                      key\n"
         "  --read-only         no file can be written\n"
         "  --allow-other       other users may enter, as the modes of the files say\n"
         "  --log-file FILE     where messages go once it runs in the background\n"
         "  -f, --foreground    stay in the foreground\n"
         "  --version, --help\n";
}

std::string mount_options(const Options& options) {
  std::string text = "fsname=vmstore,subtype=vmstore,default_permissions";
  if (options.allow_other) text += ",allow_other";
  if (options.read_only) text += ",ro";
  return text;
}

}  // namespace vmstore::fuse
