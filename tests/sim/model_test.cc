// SPDX-License-Identifier: Apache-2.0
// The whole store against an oracle, seed after seed.
//
//   model_test                     the seeds of the test suite
//   model_test --seeds=1000        that many, beginning with --first=1
//   model_test --seed=17           that one, with what happened
//   model_test --fresh --seeds=50  seeds that nobody tried before
#include "tests/sim/model.h"

#include <gtest/gtest.h>

#include <charconv>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>

#include "base/log.h"
#include "base/random.h"

namespace vmstore::sim {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t kSeeds = 60;
#else
constexpr std::uint64_t kSeeds = 1000;
#endif

struct Arguments {
  std::uint64_t first = 1;
  std::uint64_t seeds = kSeeds;
  std::optional<std::uint64_t> only;
};

Arguments& arguments() {
  static Arguments instance;
  return instance;
}

struct Outcome {
  std::optional<std::string> failure;
  std::uint64_t trace_hash = 0;
  Model::Counters counters;
};

Outcome run_seed(std::uint64_t seed, bool verbose) {
  Model model(seed, verbose);
  Outcome outcome;
  outcome.failure = model.run();
  outcome.trace_hash = model.trace_hash();
  outcome.counters = model.counters();
  return outcome;
}

TEST(Model, EverySeedKeepsThePromises) {
  const bool one = arguments().only.has_value();
  const std::uint64_t first = one ? *arguments().only : arguments().first;
  const std::uint64_t count = one ? 1 : arguments().seeds;
  Model::Counters total;
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    const Outcome outcome = run_seed(seed, one);
    EXPECT_FALSE(outcome.failure) << *outcome.failure << "\n  again: model_test --seed=" << seed;
    total.requests += outcome.counters.requests;
    total.node_deaths += outcome.counters.node_deaths;
    total.client_deaths += outcome.counters.client_deaths;
    total.power_cuts += outcome.counters.power_cuts;
  }
  std::printf(
      "model: %llu seeds (%llu..%llu), %llu requests, %llu node deaths, %llu client deaths, "
      "%llu power cuts\n",
      static_cast<unsigned long long>(count),
      static_cast<unsigned long long>(first),
      static_cast<unsigned long long>(first + count - 1),
      static_cast<unsigned long long>(total.requests),
      static_cast<unsigned long long>(total.node_deaths),
      static_cast<unsigned long long>(total.client_deaths),
      static_cast<unsigned long long>(total.power_cuts));
}

TEST(Model, ASeedIsOneRun) {
  // --seed=N asks for that one run and what happened in it; the suite gives no arguments.
  if (arguments().only) GTEST_SKIP();
  for (std::uint64_t seed = arguments().first; seed < arguments().first + 10; ++seed) {
    EXPECT_EQ(run_seed(seed, false).trace_hash, run_seed(seed, false).trace_hash) << seed;
  }
}

std::optional<std::uint64_t> number_after(std::string_view argument, std::string_view name) {
  if (!argument.starts_with(name)) return std::nullopt;
  argument.remove_prefix(name.size());
  std::uint64_t number = 0;
  const char* const end = argument.data() + argument.size();
  const auto [parsed, error] = std::from_chars(argument.data(), end, number);
  if (error != std::errc() || parsed != end) return std::nullopt;
  return number;
}

}  // namespace
}  // namespace vmstore::sim

int main(int argc, char** argv) {
  using vmstore::sim::arguments;
  ::testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (const auto seed = vmstore::sim::number_after(argument, "--seed=")) {
      arguments().only = seed;
    } else if (const auto seeds = vmstore::sim::number_after(argument, "--seeds=")) {
      arguments().seeds = *seeds;
    } else if (const auto first = vmstore::sim::number_after(argument, "--first=")) {
      arguments().first = *first;
    } else if (argument == "--fresh") {
      arguments().first = vmstore::system_seed() >> 16;
    } else {
      std::fprintf(stderr, "model_test: unknown argument %s\n", argv[i]);
      return 2;
    }
  }
  vmstore::set_log_level(arguments().only ? vmstore::LogLevel::debug : vmstore::LogLevel::error);
  return RUN_ALL_TESTS();
}
