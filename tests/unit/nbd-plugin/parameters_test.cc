// SPDX-License-Identifier: Apache-2.0
#include "nbd-plugin/parameters.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

namespace vmstore::nbd_plugin {
namespace {

std::string set(Parameters& parameters, std::string_view key, std::string_view value) {
  return set_parameter(parameters, key, value, "/home/op");
}

TEST(Parameters, TakesAllThree) {
  Parameters parameters;
  EXPECT_EQ(set(parameters, "endpoint", "/run/vmstore/vmstored.sock"), "");
  EXPECT_EQ(set(parameters, "disk", "lab/web@v1"), "");
  EXPECT_EQ(set(parameters, "run-dir", "/run/vmstore"), "");
  EXPECT_EQ(check_parameters(parameters), "");
  EXPECT_EQ(parameters.endpoint, "/run/vmstore/vmstored.sock");
  EXPECT_EQ(parameters.disk, "lab/web@v1");
  EXPECT_EQ(parameters.run_folder, "/run/vmstore");
}

TEST(Parameters, PathsOutliveTheChangeOfFolder) {
  Parameters parameters;
  EXPECT_EQ(set(parameters, "endpoint", "./node.sock"), "");
  EXPECT_EQ(set(parameters, "run-dir", "run"), "");
  EXPECT_EQ(parameters.endpoint, "/home/op/./node.sock");
  EXPECT_EQ(parameters.run_folder, "/home/op/run");
  EXPECT_EQ(set(parameters, "tls-ca", "tls/ca.pem"), "");
  EXPECT_EQ(set(parameters, "tls-cert", "/tls/web.pem"), "");
  EXPECT_EQ(set(parameters, "tls-key", "web.key"), "");
  EXPECT_EQ(parameters.tls.ca, "/home/op/tls/ca.pem");
  EXPECT_EQ(parameters.tls.certificate, "/tls/web.pem");
  EXPECT_EQ(parameters.tls.key, "/home/op/web.key");
}

TEST(Parameters, EndpointsAreMadeAbsolute) {
  for (const auto& [typed, meant] : {std::pair("/n.sock", "/n.sock"),
                                     std::pair("unix:/n.sock", "/n.sock"),
                                     std::pair("unix:n.sock", "/home/op/n.sock"),
                                     std::pair("n.sock", "/home/op/n.sock"),
                                     std::pair("[::1]:7000", "[::1]:7000"),
                                     std::pair("tcp://[::1]:7000", "tcp://[::1]:7000"),
                                     std::pair("localhost:7000", "localhost:7000")}) {
    Parameters parameters;
    EXPECT_EQ(set(parameters, "endpoint", typed), "");
    EXPECT_EQ(parameters.endpoint, meant);
  }
}

TEST(Parameters, HostAndPortIsNoPath) {
  Parameters parameters;
  EXPECT_EQ(set(parameters, "endpoint", "node1.example:7000"), "");
  EXPECT_EQ(parameters.endpoint, "node1.example:7000");
}

TEST(Parameters, UnknownKeysEmptyValuesAndBadNamesAreRefused) {
  Parameters parameters;
  EXPECT_NE(set(parameters, "name", "web"), "");
  EXPECT_NE(set(parameters, "endpoint", ""), "");
  EXPECT_NE(set(parameters, "disk", "../etc/passwd"), "");
  EXPECT_NE(set(parameters, "disk", "web@"), "");
  EXPECT_TRUE(parameters.disk.empty());
  EXPECT_NE(check_parameters(parameters), "");
}

TEST(ExportName, EmptyMeansTheConfiguredDisk) {
  EXPECT_EQ(choose_export("web@v1", "").value(), "web@v1");
}

TEST(ExportName, ConfiguredDiskIsTheOnlyOne) {
  EXPECT_EQ(choose_export("web", "web").value(), "web");
  EXPECT_EQ(choose_export("web", "db").error(), Errc::not_found);
  EXPECT_EQ(choose_export("web", "web@v1").error(), Errc::not_found);
}

TEST(ExportName, WithoutConfiguredDiskTheClientSaysIt) {
  EXPECT_EQ(choose_export("", "lab/web").value(), "lab/web");
  EXPECT_EQ(choose_export("", "").error(), Errc::invalid_argument);
}

TEST(ExportName, HostileNamesAreRefusedBeforeTheyAreUsed) {
  const std::string nul("web\0db", 6);
  const std::string long_name(4097, 'a');
  for (const std::string& name : {std::string(".."),
                                  std::string("../web"),
                                  std::string("web/.."),
                                  std::string("/web"),
                                  std::string("a/b/c"),
                                  std::string("web@v1@v2"),
                                  std::string("web\n"),
                                  std::string("%2e%2e"),
                                  std::string("\xc3\x28"),
                                  std::string("$(id)"),
                                  std::string("'; drop"),
                                  std::string("Web"),
                                  std::string(" web"),
                                  nul,
                                  long_name}) {
    EXPECT_EQ(choose_export("", name).error(), Errc::invalid_argument) << printable(name);
    EXPECT_EQ(choose_export("web", name).error(), Errc::invalid_argument) << printable(name);
  }
}

TEST(ExportName, IsPrintedHarmlessly) {
  EXPECT_EQ(printable("a\x1b[31m\n"), "a?[31m?");
  EXPECT_EQ(printable(std::string(5000, 'x')).size(), 103U);
}

}  // namespace
}  // namespace vmstore::nbd_plugin
