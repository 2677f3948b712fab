// SPDX-License-Identifier: Apache-2.0
// cert init and cert issue: the files they make, and those they leave alone.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "cli/json.h"
#include "net/tls_authority.h"
#include "net/tls_context.h"
#include "tests/unit/cli/fake_client.h"

namespace vmstore::cli {
namespace {

using test::FakeStore;
using test::Ran;
using test::run;

constexpr const char* kStore = "00000000000000010000000000000002";

class Cert : public testing::Test {
 protected:
  Cert() {
    std::string pattern = (std::filesystem::temp_directory_path() / "vmstore-cert-XXXXXX").string();
    EXPECT_NE(::mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
  }
  ~Cert() override { std::filesystem::remove_all(root_); }
  [[nodiscard]] std::string folder() const { return root_ + "/tls"; }
  [[nodiscard]] std::string file(const std::string& name) const { return folder() + "/" + name; }
  Ran init() { return run(store_, {"cert", "init", folder(), "--store", kStore}); }
  Ran issue(const std::string& name, std::vector<std::string> more) {
    std::vector<std::string> arguments{"cert", "issue", folder(), name};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run(store_, arguments);
  }
  static unsigned mode_of(const std::string& path) {
    struct stat status {};
    EXPECT_EQ(::stat(path.c_str(), &status), 0) << path;
    return status.st_mode & 0777U;
  }
  static std::string text_of(const std::string& path) {
    std::ifstream in(path);
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  }
  std::size_t file_count() {
    std::size_t count = 0;
    for ([[maybe_unused]] const auto& each : std::filesystem::directory_iterator(folder())) ++count;
    return count;
  }
  std::string root_;
  FakeStore store_;
};

TEST_F(Cert, KeysArePrivateFromTheStartWhateverTheUmaskIs) {
  const ::mode_t before = ::umask(0);
  EXPECT_EQ(init().exit_code, 0);
  EXPECT_EQ(issue("web", {"--role", "client"}).exit_code, 0);
  ::umask(before);
  EXPECT_EQ(mode_of(folder()), 0700U);
  EXPECT_EQ(mode_of(file("ca.key")), 0600U);
  EXPECT_EQ(mode_of(file("web.key")), 0600U);
  EXPECT_TRUE(store_.calls.empty());  // the store was named
}

TEST_F(Cert, WhatIsIssuedIsOfTheStoreAndTheRole) {
  ASSERT_EQ(init().exit_code, 0);
  for (const net::Role role : net::kRoles) {
    const std::string name(net::role_name(role));
    std::vector<std::string> more{"--role", name};
    if (role == net::Role::node) more.insert(more.end(), {"--host", "192.0.2.1", "--host", "::1"});
    const Ran ran = issue(name, more);
    ASSERT_EQ(ran.exit_code, 0) << ran.err;
    const auto loaded =
        net::TlsContext::load({file("ca.pem"), file(name + ".pem"), file(name + ".key")});
    ASSERT_TRUE(loaded);
    EXPECT_EQ((*loaded)->own().role, role);
    EXPECT_EQ((*loaded)->own().store.hex(), kStore);
    EXPECT_EQ((*loaded)->own().person, name);
  }
}

TEST_F(Cert, NothingIsEverReplacedAndNothingHalfMadeStays) {
  ASSERT_EQ(init().exit_code, 0);
  ASSERT_EQ(issue("web", {"--role", "client"}).exit_code, 0);
  const std::string authority = text_of(file("ca.key"));
  const std::string web = text_of(file("web.key"));
  EXPECT_EQ(init().exit_code, 4);
  EXPECT_EQ(issue("web", {"--role", "client"}).exit_code, 4);
  EXPECT_EQ(text_of(file("ca.key")), authority);
  EXPECT_EQ(text_of(file("web.key")), web);
  // Only the certificate is there: its key is not left behind alone.
  std::filesystem::remove(file("web.key"));
  EXPECT_EQ(issue("web", {"--role", "client"}).exit_code, 4);
  EXPECT_FALSE(std::filesystem::exists(file("web.key")));
  EXPECT_EQ(file_count(), 3U);
}

TEST_F(Cert, WhatCannotBeRightIsUsage) {
  ASSERT_EQ(init().exit_code, 0);
  EXPECT_EQ(issue("web", {"--role", "king"}).exit_code, 2);
  EXPECT_EQ(issue("web", {"--role", "node"}).exit_code, 2);
  EXPECT_EQ(issue("web", {"--role", "client", "--host", "h"}).exit_code, 2);
  EXPECT_EQ(issue("web", {"--role", "node", "--host", "a b"}).exit_code, 2);
  EXPECT_EQ(issue("web", {"--role", "admin", "--disks", "a"}).exit_code, 2);
  EXPECT_EQ(issue("web", {"--role", "client", "--disks", "a,b"}).exit_code, 2);
  EXPECT_EQ(issue("../web", {"--role", "client"}).exit_code, 2);
  EXPECT_EQ(issue("ca", {"--role", "client"}).exit_code, 2);
  EXPECT_EQ(issue("web", {"--role", "client", "--days", "0"}).exit_code, 2);
  EXPECT_EQ(run(store_, {"cert", "init", root_ + "/x", "--store", "17"}).exit_code, 2);
  EXPECT_EQ(run(store_, {"cert", "issue", root_ + "/x", "web", "--role", "client"}).exit_code, 3);
  EXPECT_EQ(file_count(), 2U);
}

TEST_F(Cert, DryRunsMakeNothing) {
  EXPECT_EQ(run(store_, {"cert", "init", folder(), "--store", kStore, "-n"}).exit_code, 0);
  EXPECT_FALSE(std::filesystem::exists(folder()));
  ASSERT_EQ(init().exit_code, 0);
  EXPECT_EQ(issue("web", {"--role", "client", "-n"}).exit_code, 0);
  EXPECT_EQ(file_count(), 2U);
}

TEST_F(Cert, JsonNamesTheFilesAndNoSecret) {
  ASSERT_EQ(init().exit_code, 0);
  const Ran ran = issue("web", {"--role", "client", "--json"});
  ASSERT_EQ(ran.exit_code, 0);
  const auto said = parse_json_object(ran.out);
  ASSERT_TRUE(said) << ran.out;
  EXPECT_EQ(json_text(*said, "action"), "cert issue");
  EXPECT_EQ(json_text(*said, "role"), "client");
  EXPECT_EQ(json_text(*said, "store"), kStore);
  EXPECT_EQ(json_text(*said, "certificate"), file("web.pem"));
  EXPECT_EQ(json_text(*said, "key"), file("web.key"));
  EXPECT_EQ(ran.out.find("PRIVATE"), std::string::npos);
}

TEST_F(Cert, ANodeOnTcpWantsACertificateBeforeItIsDialled) {
  const Ran ran = run(store_, {"ls", "-E", "192.0.2.1:9700", "--tls-ca", "ca.pem"});
  EXPECT_EQ(ran.exit_code, 2);
  EXPECT_NE(ran.err.find("--tls-cert"), std::string::npos) << ran.err;
  EXPECT_TRUE(store_.calls.empty());
}

}  // namespace
}  // namespace vmstore::cli
