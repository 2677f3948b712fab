// SPDX-License-Identifier: Apache-2.0
#include "cli/program.h"

#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <iostream>

#include "cli/interrupt.h"

namespace vmstore::cli {

Answer<void> become_program(const std::vector<std::string>& argv,
                            const std::vector<std::pair<std::string, std::string>>& environment) {
  // What would be inherited across exec and is ours alone.
  limit_time(std::chrono::milliseconds(0));
  std::signal(SIGPIPE, SIG_DFL);
  for (const auto& [name, value] : environment) setenv(name.c_str(), value.c_str(), 1);
  std::cout.flush();
  std::cerr.flush();
  std::vector<std::string> words = argv;
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  execv(pointers[0], pointers.data());
  return Failure::from(last_os_error(), argv[0]);
}

}  // namespace vmstore::cli
