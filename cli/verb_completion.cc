// SPDX-License-Identifier: Apache-2.0
// completion bash: completes verbs, options and the names of disks that exist now.
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <map>
#include <set>

#include "cli/verbs.h"

namespace vmstore::cli {
namespace {

/// "ls restore purge" for "trash".
std::map<std::string, std::set<std::string>> words_by_verb(const VerbBook& book) {
  std::map<std::string, std::set<std::string>> words;
  for (const std::string& name : book.names()) {
    const auto space = name.find(' ');
    words[""].insert(name.substr(0, space));
    if (space != std::string::npos) words[name.substr(0, space)].insert(name.substr(space + 1));
  }
  return words;
}

std::string joined(const std::set<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

constexpr const char* kGlobalFlags =
    "--endpoint --tls-ca --tls-cert --tls-key --run-dir --format --json --no-header --bytes "
    "--columns --sort --dry-run --yes --quiet --verbose --progress --color --timeout --help";

std::string bash_script(const VerbBook& book) {
  const auto words = words_by_verb(book);
  std::string cases;
  for (const auto& [verb, nested] : words) {
    if (!verb.empty()) cases += "    " + verb + ") words=\"" + joined(nested) + "\" ;;\n";
  }
  return "# bash completion for vmstore: source <(vmstore completion bash)\n"
         "_vmstore() {\n"
         "  local word=${COMP_WORDS[COMP_CWORD]} verb= nested= i words=\n"
         "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
         "    case ${COMP_WORDS[i]} in\n"
         "      -*) ;;\n"
         "      *) if [[ -z $verb ]]; then verb=${COMP_WORDS[i]}; "
         "elif [[ -z $nested ]]; then nested=${COMP_WORDS[i]}; fi ;;\n"
         "    esac\n"
         "  done\n"
         "  if [[ $word == -* ]]; then\n"
         "    COMPREPLY=($(compgen -W \"" +
         std::string(kGlobalFlags) +
         "\" -- \"$word\"))\n"
         "    return\n"
         "  fi\n"
         "  case $verb in\n"
         "    '') words=\"" +
         joined(words.at("")) + "\" ;;\n" + cases +
         "  esac\n"
         "  if [[ -n $words && -z $nested ]]; then\n"
         "    COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
         "    return\n"
         "  fi\n"
         "  case $verb in\n"
         "    import | mount | umount) COMPREPLY=($(compgen -f -- \"$word\")) ;;\n"
         "    *) COMPREPLY=($(compgen -W \"$(vmstore ls -H -o name --timeout 2s 2>/dev/null)\" "
         "-- \"$word\")) ;;\n"
         "  esac\n"
         "}\n"
         "complete -F _vmstore vmstore\n";
}

}  // namespace

void add_completion_verbs(VerbBook& book) {
  CLI::App& group = book.group("completion",
                               {"Completion for shells.",
                                "completion bash > ~/.local/share/bash-completion/"
                                "completions/vmstore",
                                "completion bash"});
  CLI::App& bash = book.verb(group,
                             "bash",
                             {"Prints the completion of bash, live names included.",
                              "completion bash > ~/.local/share/bash-completion/"
                              "completions/vmstore",
                              "completion bash"});
  book.action(bash, [&book](Context& context) -> Answer<void> {
    context.output().text("script", bash_script(book));
    return {};
  });
}

}  // namespace vmstore::cli
