// SPDX-License-Identifier: Apache-2.0
#include "nbd-plugin/parameters.h"

#include <algorithm>

#include "base/units.h"

namespace vmstore::nbd_plugin {
namespace {

constexpr std::size_t kPrintableMax = 100;

std::string absolute(std::string_view path, std::string_view folder) {
  if (path.starts_with('/')) return std::string(path);
  return std::string(folder) + "/" + std::string(path);
}

}  // namespace

std::string set_parameter(Parameters& parameters,
                          std::string_view key,
                          std::string_view value,
                          std::string_view folder) {
  if (value.empty()) return std::string(key) + "= is empty";
  if (key == "endpoint") {
    parameters.endpoint = absolute_endpoint(value, folder);
  } else if (key == "disk") {
    if (!parse_disk_reference(value)) {
      return "disk=" + printable(value) + ": not a name of the form [GROUP/]NAME[@SNAP]";
    }
    parameters.disk = value;
  } else if (key == "run-dir") {
    parameters.run_folder = absolute(value, folder);
  } else if (key == "tls-ca") {
    parameters.tls.ca = absolute(value, folder);
  } else if (key == "tls-cert") {
    parameters.tls.certificate = absolute(value, folder);
  } else if (key == "tls-key") {
    parameters.tls.key = absolute(value, folder);
  } else {
    return "unknown parameter " + printable(key) +
           "; known are endpoint, disk, run-dir, tls-ca, tls-cert and tls-key";
  }
  return {};
}

std::string check_parameters(const Parameters& parameters) {
  if (!parameters.endpoint.empty()) return {};
  return "endpoint= is missing: the socket of the node, or HOST:PORT";
}

Result<std::string> choose_export(std::string_view configured, std::string_view asked) {
  if (asked.empty() && configured.empty()) return Errc::invalid_argument;
  if (asked.empty()) return std::string(configured);
  VMS_CHECK(parse_disk_reference(asked));
  if (!configured.empty() && asked != configured) return Errc::not_found;
  return std::string(asked);
}

std::string printable(std::string_view text) {
  std::string shown(text.substr(0, kPrintableMax));
  std::replace_if(
      shown.begin(), shown.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  if (text.size() > kPrintableMax) shown += "...";
  return shown;
}

}  // namespace vmstore::nbd_plugin
