// SPDX-License-Identifier: Apache-2.0
#include "storaged/config.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <vector>

namespace vmstore::storaged {
namespace {

Parsed parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "vmstored");
  // A file that is there, so that what is installed on the machine has no say.
  arguments.push_back("--config");
  arguments.push_back("/dev/null");
  return parse_config(static_cast<int>(arguments.size()), arguments.data());
}

TEST(Config, DefaultsFollowTheDataFolder) {
  const Parsed parsed = parse({"--data", "/srv/store"});
  ASSERT_TRUE(parsed.config);
  EXPECT_EQ(parsed.config->data_folder, "/srv/store");
  EXPECT_EQ(parsed.config->listen, "unix:/srv/store/vmstored.sock");
  EXPECT_EQ(parsed.config->http, "");
  EXPECT_FALSE(parsed.config->create);
}

TEST(Config, FlagsAreTaken) {
  const Parsed parsed = parse({"-d",
                               "/s",
                               "-l",
                               "unix:/run/x.sock",
                               "--http",
                               "127.0.0.1:0",
                               "--journal-size",
                               "8M",
                               "--log-level",
                               "debug",
                               "--gc",
                               "manual",
                               "--create"});
  ASSERT_TRUE(parsed.config);
  EXPECT_EQ(parsed.config->listen, "unix:/run/x.sock");
  EXPECT_EQ(parsed.config->http, "127.0.0.1:0");
  EXPECT_EQ(parsed.config->journal_bytes, 8U << 20);
  EXPECT_EQ(parsed.config->log_level, LogLevel::debug);
  EXPECT_FALSE(parsed.config->collect_by_itself);
  EXPECT_TRUE(parsed.config->create);
}

TEST(Config, CatalogueIsInTheFolderUnlessAnEtcdIsNamed) {
  EXPECT_EQ(parse({"-d", "/s"}).config->etcd, "");
  EXPECT_EQ(parse({"-d", "/s", "--meta", "rocksdb"}).config->etcd, "");
  const std::string urls = "http://127.0.0.1:2379,http://127.0.0.1:2381";
  const std::string place = "etcd=" + urls;
  EXPECT_EQ(parse({"-d", "/s", "--meta", place.c_str()}).config->etcd, urls);
  Config config;
  EXPECT_FALSE(apply_config_text("[node]\nmeta = '" + place + "'", "f", config));
  EXPECT_EQ(config.etcd, urls);
  for (const char* wrong : {"", "etcd", "etcd=", "etcd=127.0.0.1:2379", "etcd=http://10.0.0.1:1"}) {
    EXPECT_EQ(parse({"-d", "/s", "--meta", wrong}).exit_code, 2) << wrong;
  }
  EXPECT_EQ(parse({"-d", "/s", "--migrate-meta"}).exit_code, 2);
  EXPECT_EQ(parse({"-d", "/s", "--migrate-meta", "--create", "--meta", place.c_str()}).exit_code,
            2);
}

TEST(Config, FolderOfARunThatServesNothingMayBeRelativeAndLong) {
  const std::string absolute = "/" + std::string(120, 'd');
  for (const std::string& folder : {absolute, std::string("store"), std::string("./a b")}) {
    const std::vector<std::vector<const char*>> runs{
        {"--rebuild-meta"},
        {"--restore-meta", "backup"},
        {"--migrate-meta", "--meta", "etcd=http://127.0.0.1:2379"}};
    for (std::vector<const char*> run : runs) {
      run.insert(run.end(), {"--data", folder.c_str()});
      const Parsed parsed = parse(run);
      ASSERT_TRUE(parsed.config) << folder << " " << run.front();
      EXPECT_EQ(parsed.config->data_folder, folder);
    }
    EXPECT_EQ(parse({"--data", folder.c_str()}).exit_code, 2) << folder;  // its socket fits nowhere
  }
}

TEST(Config, WrongUseEndsWithExitCodeTwo) {
  EXPECT_EQ(parse({}).exit_code, 2);
  EXPECT_EQ(parse({"--data", "/s", "--journal-size", "many"}).exit_code, 2);
  EXPECT_EQ(parse({"--data", "/s", "--listen", "0.0.0.0:1"}).exit_code, 2);
  EXPECT_EQ(parse({"--data", "/s", "--listen", "relative.sock"}).exit_code, 2);
  EXPECT_EQ(parse({"--data", "/s", "--log-level", "loud"}).exit_code, 2);
  EXPECT_EQ(parse({"--data", "/s", "--unknown"}).exit_code, 2);
  EXPECT_EQ(parse({"--data", "/s", "--create", "--rebuild-meta"}).exit_code, 2);
  EXPECT_FALSE(parse({"--version"}).config);
  EXPECT_EQ(parse({"--version"}).exit_code, 0);
}

TEST(Config, TcpWithoutTlsIsRefused) {
  for (const char* endpoint : {"0.0.0.0:9700", "127.0.0.1:9700", "unix:/s/sock,[::1]:0"}) {
    EXPECT_EQ(parse({"--data", "/s", "--listen", endpoint}).exit_code, 2) << endpoint;
    EXPECT_EQ(parse({"-d", "/s", "-l", endpoint, "--tls-ca", "a"}).exit_code, 2) << endpoint;
    const Parsed parsed =
        parse({"-d", "/s", "-l", endpoint, "--tls-ca", "a", "--tls-cert", "b", "--tls-key", "c"});
    ASSERT_TRUE(parsed.config) << endpoint;
    EXPECT_EQ(parsed.config->tls.key, "c");
  }
  EXPECT_EQ(parse({"-d", "/s", "--tls-cert", "b"}).exit_code, 2);
  EXPECT_EQ(listen_endpoints("unix:/a,127.0.0.1:1"),
            (std::vector<std::string>{"unix:/a", "127.0.0.1:1"}));
}

TEST(Config, ANodeJoinsOnlyANamedStoreAndWhereOthersReachIt) {
  const std::string store(32, '7');
  const std::vector<const char*> whole{"-d",
                                       "/s",
                                       "--join",
                                       store.c_str(),
                                       "--meta",
                                       "etcd=http://127.0.0.1:2379",
                                       "-l",
                                       "unix:/s/sock,10.0.0.1:7000",
                                       "--tls-ca",
                                       "a",
                                       "--tls-cert",
                                       "b",
                                       "--tls-key",
                                       "c"};
  const Parsed parsed = parse(whole);
  ASSERT_TRUE(parsed.config);
  EXPECT_EQ(parsed.config->join.hex(), store);
  EXPECT_EQ(announced_address(*parsed.config), "10.0.0.1:7000");
  EXPECT_FALSE(parsed.config->zone);
  // Each pair of arguments but the folder and the key is needed, and in this form.
  for (const std::size_t left_out : {4U, 6U, 8U}) {
    std::vector<const char*> less = whole;
    less.erase(less.begin() + static_cast<long>(left_out),
               less.begin() + static_cast<long>(left_out) + 2);
    EXPECT_EQ(parse(less).exit_code, 2) << whole[left_out];
  }
  for (const auto& [place, wrong] : {std::pair(3, "store"),
                                     std::pair(3, "00000000000000000000000000000000"),
                                     std::pair(7, "0.0.0.0:7000"),
                                     std::pair(7, "10.0.0.1:0")}) {
    std::vector<const char*> other = whole;
    other[static_cast<std::size_t>(place)] = wrong;
    EXPECT_EQ(parse(other).exit_code, 2) << wrong;
  }
  std::vector<const char*> more = whole;
  more[7] = "0.0.0.0:7000";
  more.insert(more.end(), {"--announce", "192.0.2.1:7001", "--zone", "rack-2", "--weight", "3"});
  const Parsed announced = parse(more);
  ASSERT_TRUE(announced.config);
  EXPECT_EQ(announced_address(*announced.config), "192.0.2.1:7001");
  EXPECT_EQ(announced.config->zone, "rack-2");
  EXPECT_EQ(announced.config->weight, 3U);
  more.push_back("--create");
  EXPECT_EQ(parse(more).exit_code, 2);
  for (const char* wrong : {"0.0.0.0:1", "10.0.0.1:0", "10.0.0.1", "unix:/s"}) {
    EXPECT_EQ(parse({"-d", "/s", "--announce", wrong}).exit_code, 2) << wrong;
  }
  EXPECT_EQ(parse({"-d", "/s", "--weight", "-1"}).exit_code, 2);
  EXPECT_EQ(parse({"-d", "/s", "--weight", "1001"}).exit_code, 2);
  EXPECT_EQ(parse({"-d", "/s", "--zone", "A B"}).exit_code, 2);
}

TEST(Config, UnknownKeyIsNamedWithItsLineAndTheNearestOne) {
  Config config;
  const auto wrong = apply_config_text("# store\n[node]\njurnal_size = \"8M\"\n", "a.toml", config);
  ASSERT_TRUE(wrong);
  EXPECT_EQ(wrong->text, "a.toml:3: unknown key 'jurnal_size'; the nearest is 'journal_size'");
  EXPECT_TRUE(apply_config_text("[nodes]\n", "a.toml", config));
  EXPECT_TRUE(apply_config_text("data = \"/x\"\n", "a.toml", config));
  EXPECT_TRUE(apply_config_text("[node\n", "a.toml", config));
  EXPECT_TRUE(apply_config_text("[node]\ndata = 7\n", "a.toml", config));
  EXPECT_TRUE(apply_config_text("[node]\njournal_size = \"x\"\n", "a.toml", config));
}

TEST(Config, FileSetsAndOtherProgramsSectionsAreLeftAlone) {
  Config config;
  EXPECT_FALSE(apply_config_text(
      "[client]\nendpoint = \"x\"\n[node]\ndata = \"/d\"\njournal_size = \"16M\"\nhttp = \"off\"\n",
      "a.toml",
      config));
  EXPECT_EQ(config.data_folder, "/d");
  EXPECT_EQ(config.journal_bytes, 16U << 20);
}

TEST(Config, FlagWinsOverEnvironmentWinsOverFile) {
  const std::string file = "/tmp/vmstored-config-test-" + std::to_string(::getpid()) + ".toml";
  std::ofstream(file) << "[node]\ndata = \"/from/file\"\nlog_level = \"error\"\ngc = \"manual\"\n";
  ::setenv("VMSTORE_LOG_LEVEL", "warning", 1);
  ::setenv("VMSTORE_DATA", "/from/environment", 1);
  const std::vector<const char*> arguments{"vmstored", "-c", file.c_str(), "--data", "/from/flag"};
  const Parsed parsed = parse_config(static_cast<int>(arguments.size()), arguments.data());
  ::unsetenv("VMSTORE_LOG_LEVEL");
  ::unsetenv("VMSTORE_DATA");
  std::filesystem::remove(file);
  ASSERT_TRUE(parsed.config);
  EXPECT_EQ(parsed.config->data_folder, "/from/flag");
  EXPECT_EQ(parsed.config->log_level, LogLevel::warning);
  EXPECT_FALSE(parsed.config->collect_by_itself);
}

TEST(Config, MissingFileThatWasNamedIsAnError) {
  const std::vector<const char*> arguments{"vmstored", "-c", "/nonexistent.toml", "--data", "/x"};
  EXPECT_EQ(parse_config(static_cast<int>(arguments.size()), arguments.data()).exit_code, 2);
}

}  // namespace
}  // namespace vmstore::storaged
