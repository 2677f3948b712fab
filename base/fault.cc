// SPDX-License-Identifier: Apache-2.0
#include "base/fault.h"

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <unistd.h>

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
  if (equals == std::string::npos || text.substr(equals + 1) != "kill") {
    std::fprintf(stderr, "VMSTORE_FAULT: want POINT[:HITS]=kill, got '%s'\n", value);
    std::exit(2);
  }
  std::string point = text.substr(0, equals);
  long hits = 1;
  if (const auto colon = point.find(':'); colon != std::string::npos) {
    hits = std::strtol(point.c_str() + colon + 1, nullptr, 10);
    point.resize(colon);
  }
  const auto left = std::make_shared<std::atomic<long>>(hits);
  set_handler([point, left](std::string_view reached) {
    if (reached == point && left->fetch_sub(1) == 1) ::kill(::getpid(), SIGKILL);
  });
}

}  // namespace vmstore::fault
