// SPDX-License-Identifier: Apache-2.0
#include "base/fault.h"

#include <unistd.h>

#include <charconv>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

namespace vmstore::fault {
namespace detail {
std::atomic<bool> armed{false};
namespace {
Handler& handler() {
  static Handler instance;  // the one mutable global: a test switch, off in production
  return instance;
}
}  // namespace
void reached(std::string_view point) {
  if (handler()) handler()(point);
}
}  // namespace detail

void set_handler(Handler handler) {
  detail::handler() = std::move(handler);
  detail::armed = static_cast<bool>(detail::handler());
}

void install_from_environment() {
  const char* const value = std::getenv("VMSTORE_FAULT");
  if (value == nullptr) return;
  const std::string text(value);
  const auto equals = text.find('=');
  std::string point = text.substr(0, equals);
  std::uint64_t hits = 1;
  bool valid = equals != std::string::npos && text.substr(equals + 1) == "kill";
  if (const auto colon = point.find(':'); colon != std::string::npos) {
    const char* const end = point.data() + point.size();
    const auto [parsed, error] = std::from_chars(point.data() + colon + 1, end, hits);
    valid = valid && error == std::errc() && parsed == end && hits > 0;
    point.resize(colon);
  }
  if (!valid || point.empty()) {
    std::fprintf(stderr, "VMSTORE_FAULT: want POINT[:HITS]=kill, got '%s'\n", value);
    std::exit(2);
  }
  const auto left = std::make_shared<std::atomic<std::uint64_t>>(hits);
  set_handler([point, left](std::string_view reached) {
    if (reached == point && left->fetch_sub(1) == 1) ::kill(::getpid(), SIGKILL);
  });
}

}  // namespace vmstore::fault
