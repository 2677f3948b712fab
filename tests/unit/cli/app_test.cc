// SPDX-License-Identifier: Apache-2.0
// The command line as a whole: help, flags, exit codes, how failures are told.
#include "cli/app.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "tests/unit/cli/fake_client.h"

namespace vmstore::cli {
namespace {

using test::FakeStore;
using test::Ran;
using test::run;

std::vector<std::string> all_verbs() {
  return all_verb_names();
}

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

TEST(Help, EveryVerbBeginsWithTwoExamples) {
  FakeStore store;
  for (const std::string& verb : all_verbs()) {
    if (verb == "bench boot-storm") continue;  // its help is that of the program it starts
    std::vector<std::string> arguments = words_of(verb);
    arguments.emplace_back("--help");
    const Ran ran = run(store, arguments);
    EXPECT_EQ(ran.exit_code, 0) << verb;
    EXPECT_TRUE(ran.out.starts_with("Examples:\n  vmstore ")) << verb << "\n" << ran.out;
    const auto second = ran.out.find("\n  vmstore ", 12);
    EXPECT_NE(second, std::string::npos) << verb;
  }
  EXPECT_TRUE(store.calls.empty());
}

TEST(Help, ExamplesAreCommandLinesThatParse) {
  // Every example of a verb that exists is made of that verb's own words.
  FakeStore store;
  const std::vector<std::string> verbs = all_verbs();
  for (const std::string& verb : verbs) {
    if (verb == "bench boot-storm") continue;
    std::vector<std::string> arguments = words_of(verb);
    arguments.emplace_back("--help");
    const std::string out = run(store, arguments).out;
    EXPECT_NE(out.find("vmstore " + verb), std::string::npos) << verb;
  }
}

TEST(Help, UsageNamesTheVerbOnce) {
  FakeStore store;
  for (const std::string& verb : all_verbs()) {
    if (verb == "bench boot-storm") continue;
    std::vector<std::string> arguments = words_of(verb);
    arguments.emplace_back("--help");
    const std::string out = run(store, arguments).out;
    EXPECT_NE(out.find("\nUsage: vmstore " + verb + " [OPTIONS]"), std::string::npos) << out;
  }
  const std::string out = run(store, {"--help"}).out;
  EXPECT_NE(out.find("\nUsage: vmstore [OPTIONS]"), std::string::npos) << out;
}

TEST(Help, RootNamesEveryVerb) {
  FakeStore store;
  const Ran ran = run(store, {"--help"});
  EXPECT_EQ(ran.exit_code, 0);
  for (const std::string& verb : all_verbs()) {
    EXPECT_NE(ran.out.find(words_of(verb).front()), std::string::npos) << verb;
  }
}

TEST(Version, IsPrinted) {
  FakeStore store;
  const Ran ran = run(store, {"--version"});
  EXPECT_EQ(ran.exit_code, 0);
  EXPECT_TRUE(ran.out.starts_with("vmstore ")) << ran.out;
}

TEST(Usage, UnknownVerbNamesTheNearest) {
  FakeStore store;
  const Ran ran = run(store, {"snpashot", "web@s"});
  EXPECT_EQ(ran.exit_code, 2);
  EXPECT_NE(ran.err.find("no verb 'snpashot' (closest: snapshot)"), std::string::npos) << ran.err;
  EXPECT_EQ(ran.out, "");
}

TEST(Usage, UnknownNestedVerbToo) {
  FakeStore store;
  const Ran ran = run(store, {"trash", "restor", "web"});
  EXPECT_EQ(ran.exit_code, 2);
  EXPECT_NE(ran.err.find("closest: restore"), std::string::npos) << ran.err;
}

TEST(Usage, UnknownOptionNamesTheNearest) {
  FakeStore store;
  const Ran ran = run(store, {"resize", "web", "1G", "--allow-shrnk"});
  EXPECT_EQ(ran.exit_code, 2);
  EXPECT_NE(ran.err.find("closest: --allow-shrink"), std::string::npos) << ran.err;
}

TEST(Usage, MissingArgumentsAreUsage) {
  FakeStore store;
  EXPECT_EQ(run(store, {}).exit_code, 2);
  EXPECT_EQ(run(store, {"create", "web"}).exit_code, 2);
  EXPECT_EQ(run(store, {"trash"}).exit_code, 2);
  EXPECT_EQ(run(store, {"ls", "--format", "yaml"}).exit_code, 2);
  EXPECT_EQ(run(store, {"ls", "--color", "blue"}).exit_code, 2);
  EXPECT_EQ(run(store, {"ls", "--timeout", "soon"}).exit_code, 2);
  EXPECT_EQ(run(store, {"ls", "--run-dir", "relative"}).exit_code, 2);
}

TEST(Usage, WithJsonAFailureOfParsingIsJsonToo) {
  FakeStore store;
  for (const std::vector<std::string>& flags :
       {std::vector<std::string>{"--json"}, {"--format", "json"}, {"--format=jsonl"}}) {
    std::vector<std::string> arguments{"crate", "web", "1G"};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    const Ran ran = run(store, arguments);
    EXPECT_EQ(ran.exit_code, 2);
    EXPECT_TRUE(ran.err.starts_with("{\"output_version\":1,\"error\":{")) << ran.err;
    EXPECT_EQ(std::count(ran.err.begin(), ran.err.end(), '\n'), 1);
  }
}

TEST(GlobalFlags, StandBeforeOrBehindTheVerb) {
  FakeStore store;
  store.add("web", 512);
  EXPECT_EQ(run(store, {"-H", "ls", "-o", "name"}).out, "web\n");
  EXPECT_EQ(run(store, {"ls", "-H", "-o", "name"}).out, "web\n");
  EXPECT_EQ(run(store, {"snap", "ls", "-H"}).exit_code, 0);
}

TEST(GlobalFlags, SortTakesAColumnThatBeginsWithADash) {
  FakeStore store;
  store.add("a", 512);
  store.add("b", 1024);
  EXPECT_EQ(run(store, {"ls", "-s", "-size", "-o", "name,size", "-H", "--bytes"}).out,
            "b\t1024\na\t512\n");
}

TEST(ExitCodes, FollowTheErrorOfTheStore) {
  const std::vector<std::pair<Errc, int>> expected{{Errc::not_found, 3},
                                                   {Errc::exists, 4},
                                                   {Errc::busy, 5},
                                                   {Errc::stale_token, 5},
                                                   {Errc::timed_out, 6},
                                                   {Errc::unavailable, 6},
                                                   {Errc::unknown, 6},
                                                   {Errc::disconnected, 6},
                                                   {Errc::no_space, 7},
                                                   {Errc::corrupt, 8},
                                                   {Errc::io_error, 1},
                                                   {Errc::unsupported, 1},
                                                   {Errc::interrupted, 130}};
  for (const auto& [code, exit_code] : expected) {
    FakeStore store;
    store.add("web", 512);
    store.failures["snapshot"] = code;
    const Ran ran = run(store, {"snapshot", "web@s"});
    EXPECT_EQ(ran.exit_code, exit_code) << errc_name(code);
    EXPECT_NE(ran.err.find("web"), std::string::npos) << errc_name(code);
  }
}

TEST(ExitCodes, EveryErrorHasOne) {
  for (const Errc code : all_errcs()) {
    const int exit_code = static_cast<int>(exit_code_of(code));
    EXPECT_EQ(exit_code == 0, code == Errc::ok) << errc_name(code);
    EXPECT_TRUE(exit_code <= 9 || exit_code == 130);
  }
}

TEST(Unreachable, SaysHowToGetANode) {
  FakeStore store;
  store.failures["connect"] = Errc::timed_out;
  const Ran ran = run(store, {"ls", "-E", "/nonexistent/vmstored.sock"});
  EXPECT_EQ(ran.exit_code, 6);
  EXPECT_NE(ran.err.find("/nonexistent/vmstored.sock"), std::string::npos);
  EXPECT_NE(ran.err.find("vmstore up"), std::string::npos);
}

TEST(ManPage, NamesEveryVerbAndExitCode) {
  std::ifstream file(SOURCE_DIR "/docs/man/vmstore.pod");
  ASSERT_TRUE(file);
  std::stringstream text;
  text << file.rdbuf();
  for (const std::string& verb : all_verbs()) {
    EXPECT_NE(text.str().find("=item B<" + verb + ">"), std::string::npos) << verb;
  }
  for (const char* code : {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "130"}) {
    EXPECT_NE(text.str().find("=item B<" + std::string(code) + ">"), std::string::npos) << code;
  }
}

TEST(Completion, KnowsEveryVerb) {
  FakeStore store;
  const Ran ran = run(store, {"completion", "bash"});
  EXPECT_EQ(ran.exit_code, 0);
  for (const std::string& verb : all_verbs()) {
    EXPECT_NE(ran.out.find(words_of(verb).back()), std::string::npos) << verb;
  }
}

}  // namespace
}  // namespace vmstore::cli
