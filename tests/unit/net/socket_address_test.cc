// SPDX-License-Identifier: Apache-2.0
#include "net/socket_address.h"

#include <gtest/gtest.h>

namespace vmstore::net {
namespace {

Errc error_of(const std::string& text) {
  const auto address = parse_endpoint({text});
  return address ? Errc::ok : address.error().code;
}

TEST(Endpoint, UnixPathsWithAndWithoutPrefix) {
  EXPECT_EQ(parse_endpoint({"unix:/run/vmstore/socket"})->path, "/run/vmstore/socket");
  EXPECT_EQ(parse_endpoint({"/run/vmstore/socket"})->path, "/run/vmstore/socket");
  EXPECT_EQ(endpoint_of(*parse_endpoint({"/a"})).text, "unix:/a");
}

TEST(Endpoint, LoopbackAddressesKeepTheirText) {
  for (const char* text : {"127.0.0.1:7", "127.255.0.9:65535", "[::1]:80"}) {
    const auto address = parse_endpoint({text});
    ASSERT_TRUE(address) << text;
    EXPECT_FALSE(address->is_unix());
    EXPECT_EQ(endpoint_of(*address).text, text);
  }
  EXPECT_EQ(endpoint_of(*parse_endpoint({"localhost:5"})).text, "127.0.0.1:5");
  EXPECT_EQ(endpoint_of(*parse_endpoint({"tcp://127.0.0.1:5"})).text, "127.0.0.1:5");
  EXPECT_EQ(host_of(*parse_endpoint({"[::1]:80"})), "::1");
}

TEST(Endpoint, WithTlsAnyAddressIsWithinReachButNoName) {
  for (const char* text : {"0.0.0.0:1", "192.0.2.1:7", "[2001:db8::1]:1"}) {
    EXPECT_EQ(endpoint_of(*parse_endpoint({text}, Reach::everywhere)).text, text);
  }
  EXPECT_EQ(parse_endpoint({"node1.example:7"}, Reach::everywhere).error(), Errc::unsupported);
}

TEST(Endpoint, WhatIsNotLoopbackNeedsTls) {
  for (const char* text : {"0.0.0.0:1",
                           "192.168.1.1:1",
                           "128.0.0.1:1",
                           "[::]:1",
                           "[2001:db8::1]:1",
                           "[::ffff:127.0.0.1]:1",
                           "node1.example:7",
                           "localhost.example:1"}) {
    EXPECT_EQ(error_of(text), Errc::unsupported) << text;
  }
}

TEST(Endpoint, WhatIsNoAddressIsRefused) {
  const std::string long_path = "/" + std::string(107, 'x');  // and its final NUL
  for (const std::string& text : {std::string(),
                                  std::string("unix:"),
                                  std::string("unix:relative"),
                                  std::string("host"),
                                  std::string(":1"),
                                  std::string("127.0.0.1:"),
                                  std::string("127.0.0.1:65536"),
                                  std::string("127.0.0.1:1x"),
                                  std::string("[::1:1"),
                                  std::string("[zz]:1"),
                                  long_path,
                                  std::string("/a\0b", 4)}) {
    EXPECT_NE(error_of(text), Errc::ok) << text;
  }
  EXPECT_EQ(error_of(long_path), Errc::invalid_argument);
  EXPECT_EQ(error_of("/" + std::string(106, 'x')), Errc::ok);
}

}  // namespace
}  // namespace vmstore::net
