// SPDX-License-Identifier: Apache-2.0
// The command line itself: global options, the book of verbs, help that begins with examples, and
// the one place where a Failure becomes an exit code.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cli/context.h"
#include "cli/failure.h"

namespace CLI {
class App;
}

namespace vmstore::cli {

/// What a verb does once its options are parsed.
using Action = std::function<Answer<void>(Context&)>;

/// Every verb registers itself here. OWNS: the parsed options' storage, through the actions.
class VerbBook {
 public:
  explicit VerbBook(CLI::App& root) : root_(root) {}

  struct Text {
    std::string about;
    std::string example;        // without "vmstore "
    std::string other_example;  // every help begins with two
  };
  /// A verb with its text; the caller adds options and positionals to what is returned.
  CLI::App& verb(const std::string& name, const Text& text) { return verb(root_, name, text); }
  CLI::App& verb(CLI::App& parent, const std::string& name, const Text& text);
  /// A verb that only has further words (trash ls).
  CLI::App& group(const std::string& name, const Text& text);
  void action(CLI::App& verb, Action action);

  /// The chosen verb's action, after parsing. REQUIRES: parsing went well.
  [[nodiscard]] const Action& chosen() const noexcept { return chosen_; }
  [[nodiscard]] const std::string& chosen_name() const noexcept { return chosen_name_; }
  /// Every verb as typed, "snap rollback", sorted.
  [[nodiscard]] std::vector<std::string> names() const;

 private:
  CLI::App& root_;
  std::map<std::string, CLI::App*> verbs_;
  Action chosen_;
  std::string chosen_name_;
};

/// Every verb there is, as typed, sorted.
[[nodiscard]] std::vector<std::string> all_verb_names();

/// Runs one command line. `arguments` are without the program's name.
int run_command(std::vector<std::string> arguments,
                const ConnectFunction& connect,
                std::ostream& out,
                std::ostream& err);

}  // namespace vmstore::cli
