// SPDX-License-Identifier: Apache-2.0
#include "cli/program.h"

#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <iostream>

#include "cli/interrupt.h"
#include "cli/process.h"

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

namespace {

std::string last_line(std::string_view text) {
  while (text.ends_with('\n')) text.remove_suffix(1);
  return std::string(text.substr(text.rfind('\n') + 1));
}

}  // namespace

Answer<void> hand_over(Output& output,
                       const std::string& action,
                       const std::vector<std::string>& argv,
                       const std::vector<std::pair<std::string, std::string>>& environment) {
  if (!output.for_programs()) return become_program(argv, environment);
  for (const auto& [name, value] : environment) setenv(name.c_str(), value.c_str(), 1);
  VMS_TRY(const CapturedRun run, run_and_capture(argv));
  if (run.exit_code == 0) {
    output.done({}, {{"action", action}});
    return {};
  }
  const bool is_ours = run.exit_code > 0 && run.exit_code <= int(ExitCode::partly_failed);
  std::string said = last_line(run.err);
  if (said.empty()) said = argv[0] + " ended with " + std::to_string(run.exit_code);
  return Failure::make(
      is_ours ? static_cast<ExitCode>(run.exit_code) : ExitCode::failed, action, std::move(said));
}

}  // namespace vmstore::cli
