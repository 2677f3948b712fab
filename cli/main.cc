// SPDX-License-Identifier: Apache-2.0
// vmstore: the command line.
#include <iostream>

#include "base/log.h"
#include "cli/app.h"
#include "cli/interrupt.h"

int main(int argc, char** argv) {
  using vmstore::disk::Client;
  vmstore::cli::install_interrupt_handlers();
  vmstore::set_log_level(vmstore::LogLevel::error);
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  return vmstore::cli::run_command(arguments, Client::connect, std::cout, std::cerr);
}
