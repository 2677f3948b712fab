// SPDX-License-Identifier: Apache-2.0
#include "fuse/options.h"

#include <gtest/gtest.h>

namespace vmstore::fuse {
namespace {

std::string parse(const std::vector<std::string>& arguments, Options& options) {
  return parse_options(arguments, "/home/op", options);
}

TEST(FuseOptions, TakesThemAll) {
  Options options;
  EXPECT_EQ(parse({"--endpoint=/run/n.sock",
                   "--run-dir",
                   "/run/v",
                   "--log-file=log",
                   "-f",
                   "--allow-other",
                   "--read-only",
                   "/mnt"},
                  options),
            "");
  EXPECT_EQ(options.endpoint, "/run/n.sock");
  EXPECT_EQ(options.run_folder, "/run/v");
  EXPECT_EQ(options.log_file, "/home/op/log");
  EXPECT_EQ(options.mount_point, "/mnt");
  EXPECT_TRUE(options.foreground && options.allow_other && options.read_only);
}

TEST(FuseOptions, PathsOutliveTheChangeOfFolder) {
  Options options;
  EXPECT_EQ(parse({"-E", "run/n.sock", "disks"}, options), "");
  EXPECT_EQ(options.endpoint, "/home/op/run/n.sock");
  EXPECT_EQ(options.mount_point, "/home/op/disks");
  const std::vector<std::string> tls{
      "-E=[::1]:7", "--tls-ca=ca", "--tls-cert", "/c", "--tls-key=k"};
  Options secured = options;
  EXPECT_EQ(parse(tls, secured), "");
  EXPECT_EQ(secured.tls_ca, "/home/op/ca");
  EXPECT_EQ(secured.tls_certificate, "/c");
  EXPECT_EQ(secured.tls_key, "/home/op/k");
}

TEST(FuseOptions, HostAndPortIsNoPath) {
  Options options;
  EXPECT_EQ(parse({"-E", "node1:7000", "/mnt"}, options), "");
  EXPECT_EQ(options.endpoint, "node1:7000");
}

TEST(FuseOptions, NobodyElseGetsInUnlessAsked) {
  Options options;
  EXPECT_EQ(mount_options(options).find("allow_other"), std::string::npos);
  EXPECT_NE(mount_options(options).find("default_permissions"), std::string::npos);
  options.allow_other = true;
  EXPECT_NE(mount_options(options).find("allow_other"), std::string::npos);
  EXPECT_NE(mount_options(options).find("default_permissions"), std::string::npos);
}

TEST(FuseOptions, MistakesAreRefused) {
  for (const std::vector<std::string>& arguments : {std::vector<std::string>{},
                                                    {"/mnt"},
                                                    {"-E", "/n"},
                                                    {"-E"},
                                                    {"-E", "/n", "/a", "/b"},
                                                    {"-E", "/n", "--wrong", "/a"},
                                                    {"--endpoint=", "/a"},
                                                    {"-E", "/n", "-o", "dev", "/a"}}) {
    Options options;
    EXPECT_NE(parse(arguments, options), "");
  }
}

TEST(FuseOptions, HelpNeedsNothingElse) {
  Options options;
  EXPECT_EQ(parse({"--help"}, options), "");
  EXPECT_TRUE(options.help);
}

}  // namespace
}  // namespace vmstore::fuse
