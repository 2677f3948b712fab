// SPDX-License-Identifier: Apache-2.0
// import and export with real files, qemu-img and qemu-nbd where they are installed.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/checksum.h"
#include "base/random.h"
#include "cli/process.h"
#include "tests/unit/cli/fake_client.h"

namespace vmstore::cli {
namespace {

using test::FakeStore;
using test::Ran;
using test::run;

constexpr std::size_t kMiB = std::size_t{1} << 20;

class TransferTest : public testing::Test {
 protected:
  TransferTest() {
    char pattern[] = "/tmp/vmstore-test-XXXXXX";
    folder_ = mkdtemp(pattern);
  }
  ~TransferTest() override { std::filesystem::remove_all(folder_); }

  std::string path(const std::string& name) const { return folder_ + "/" + name; }
  void write_file(const std::string& name, const std::vector<std::byte>& bytes) {
    std::ofstream file(path(name), std::ios::binary);
    file.write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
  }
  std::vector<std::byte> read_back(const std::string& name) {
    std::ifstream file(path(name), std::ios::binary);
    const std::string text((std::istreambuf_iterator<char>(file)),
                           std::istreambuf_iterator<char>());
    std::vector<std::byte> bytes(text.size());
    std::memcpy(bytes.data(), text.data(), text.size());
    return bytes;
  }
  /// Data at both ends and in the middle, holes and written zeros between.
  static std::vector<std::byte> pattern(std::size_t size) {
    std::vector<std::byte> bytes(size);
    const auto put = [&](std::size_t from, std::size_t count) {
      for (std::size_t i = from; i < std::min(from + count, size); ++i) {
        bytes[i] = static_cast<std::byte>(i * 131 + i / 4096);
      }
    };
    put(0, 10000);
    put(size / 2 - 100, 3 * kMiB);
    put(size - 700, 700);
    return bytes;
  }
  static bool has(const char* program) { return find_program(program).has_value(); }
  bool convert(const std::string& from, const std::string& format, const std::string& to) {
    const auto run = run_and_capture(
        {*find_program("qemu-img"), "convert", "-f", "raw", "-O", format, path(from), path(to)});
    return run && run->exit_code == 0;
  }
  /// Everything but what was asked for is gone again.
  static void expect_only(const FakeStore& store, const std::vector<std::string>& names) {
    std::vector<std::string> there;
    for (const auto& [name, disk] : store.disks) there.push_back(name);
    EXPECT_EQ(there, names);
  }
  std::string folder_;
};

TEST_F(TransferTest, RawFileArrivesByteForByteRoundedUpToASector) {
  std::vector<std::byte> bytes = pattern(9 * kMiB + 100);
  write_file("a.raw", bytes);
  FakeStore store;
  const Ran ran = run(store, {"import", path("a.raw"), "g/a", "--source-format", "raw"});
  ASSERT_EQ(ran.exit_code, 0) << ran.err;
  bytes.resize(9 * kMiB + 512);
  EXPECT_EQ(store.disks.at("g/a").bytes, bytes);
  EXPECT_TRUE(ran.out.starts_with("imported g/a  ")) << ran.out;
  expect_only(store, {"g/a"});
}

TEST_F(TransferTest, DiskIsFlushedBeforeItGetsItsName) {
  write_file("a.raw", pattern(kMiB));
  FakeStore store;
  ASSERT_EQ(run(store, {"import", path("a.raw"), "a", "--source-format", "raw"}).exit_code, 0);
  std::size_t flushed = 0;
  std::size_t renamed = 0;
  for (std::size_t i = 0; i < store.calls.size(); ++i) {
    if (store.calls[i].starts_with("flush vmstore-import/")) flushed = i;
    if (store.calls[i].starts_with("rename vmstore-import/")) renamed = i;
  }
  EXPECT_GT(flushed, 0U);
  EXPECT_GT(renamed, flushed);
}

TEST_F(TransferTest, AFailedWriteLeavesNothing) {
  write_file("a.raw", pattern(8 * kMiB));
  FakeStore store;
  store.fail_write_at = 5 * kMiB;
  const Ran ran = run(store, {"import", path("a.raw"), "a", "--source-format", "raw"});
  EXPECT_EQ(ran.exit_code, 7) << ran.err;
  expect_only(store, {});
}

TEST_F(TransferTest, AFailedRenameLeavesNothing) {
  write_file("a.raw", pattern(kMiB));
  FakeStore store;
  store.failures["rename"] = Errc::exists;
  EXPECT_EQ(run(store, {"import", path("a.raw"), "a", "--source-format", "raw"}).exit_code, 4);
  expect_only(store, {});
}

TEST_F(TransferTest, ATakenNameIsRefusedBeforeAnythingIsRead) {
  FakeStore store;
  store.add("a", 512);
  EXPECT_EQ(run(store, {"import", path("missing"), "a"}).exit_code, 4);
  EXPECT_EQ(run(store, {"import", path("missing"), "b", "--source-format", "raw"}).exit_code, 3);
  expect_only(store, {"a"});
}

TEST_F(TransferTest, EmptyAndStrangeSourcesAreRefused) {
  write_file("empty.raw", {});
  FakeStore store;
  EXPECT_EQ(run(store, {"import", path("empty.raw"), "a", "--source-format", "raw"}).exit_code, 1);
  EXPECT_EQ(run(store, {"import", "https://host/a.qcow2", "a"}).exit_code, 2);
  EXPECT_EQ(run(store, {"import", folder_, "a", "--source-format", "raw"}).exit_code, 2);
  expect_only(store, {});
}

TEST_F(TransferTest, ResizeMakesTheDiskLargerOrIsRefused) {
  write_file("a.raw", pattern(2 * kMiB));
  FakeStore store;
  EXPECT_EQ(run(store, {"import", path("a.raw"), "a", "--source-format", "raw", "--resize", "8M"})
                .exit_code,
            0);
  EXPECT_EQ(store.disks.at("a").summary.size_bytes, 8 * kMiB);
  EXPECT_EQ(run(store, {"import", path("a.raw"), "b", "--source-format", "raw", "--resize", "1M"})
                .exit_code,
            2);
}

TEST_F(TransferTest, EveryFormatOfQemuArrivesByteForByte) {
  ASSERT_TRUE(has("qemu-img") && has("qemu-nbd")) << "scripts/install-deps test";
  const std::vector<std::byte> bytes = pattern(6 * kMiB);
  write_file("a.raw", bytes);
  for (const std::string format : {"qcow2", "vmdk", "vhdx", "vdi"}) {
    ASSERT_TRUE(convert("a.raw", format, "a." + format));
    FakeStore store;
    const Ran ran = run(store, {"import", path("a." + format), "a"});
    ASSERT_EQ(ran.exit_code, 0) << format << " " << ran.err;
    store.disks.at("a").bytes.resize(bytes.size());
    EXPECT_EQ(store.disks.at("a").bytes, bytes) << format;
    expect_only(store, {"a"});
  }
}

TEST_F(TransferTest, AnImageThatWasCutOffIsRefusedAndLeavesNothing) {
  ASSERT_TRUE(has("qemu-img") && has("qemu-nbd")) << "scripts/install-deps test";
  std::vector<std::byte> bytes(3 * kMiB);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 7 + 1);
  write_file("a.raw", bytes);
  for (const std::string format : {"qcow2", "vmdk", "vdi", "vhdx"}) {
    ASSERT_TRUE(convert("a.raw", format, "a." + format));
    const auto whole = std::filesystem::file_size(path("a." + format));
    // A few blocks of data, a cluster, most of it: vhdx keeps its data in one block of 8 MiB.
    const std::vector<std::uintmax_t> keeps =
        format == "vhdx" ? std::vector<std::uintmax_t>{8 * kMiB + kMiB, 4 * kMiB}
                         : std::vector<std::uintmax_t>{3 * kMiB - 4096, kMiB, 200000};
    for (const std::uintmax_t keep : keeps) {
      ASSERT_LT(keep, whole);
      const std::string cut = path("cut." + format);
      std::filesystem::copy_file(
          path("a." + format), cut, std::filesystem::copy_options::overwrite_existing);
      std::filesystem::resize_file(cut, keep);
      FakeStore store;
      const Ran ran = run(store, {"import", cut, "a"});
      EXPECT_EQ(ran.exit_code, 1) << format << " " << keep << " " << ran.err;
      expect_only(store, {});
    }
  }
}

TEST_F(TransferTest, AnImageMayNotReadOtherFilesUnasked) {
  ASSERT_TRUE(has("qemu-img") && has("qemu-nbd")) << "scripts/install-deps test";
  write_file("secret", pattern(kMiB));
  const auto made = run_and_capture({*find_program("qemu-img"),
                                     "create",
                                     "-q",
                                     "-f",
                                     "qcow2",
                                     "-b",
                                     path("secret"),
                                     "-F",
                                     "raw",
                                     path("overlay.qcow2")});
  ASSERT_TRUE(made && made->exit_code == 0) << made->err;
  FakeStore store;
  const Ran ran = run(store, {"import", path("overlay.qcow2"), "a"});
  EXPECT_EQ(ran.exit_code, 1);
  EXPECT_NE(ran.err.find("secret"), std::string::npos) << ran.err;
  EXPECT_EQ(run(store, {"import", path("overlay.qcow2"), "a", "--follow-links"}).exit_code, 0);
  EXPECT_EQ(store.disks.at("a").bytes, pattern(kMiB));
}

TEST_F(TransferTest, ExportGivesTheBytesBackSparseAndRemovesItsSnapshot) {
  FakeStore store;
  const std::vector<std::byte> bytes = pattern(20 * kMiB);
  store.add("web", bytes.size()).bytes = bytes;
  const Ran ran = run(store, {"export", "web", path("web.raw"), "--sha256", "--json"});
  ASSERT_EQ(ran.exit_code, 0) << ran.err;
  EXPECT_EQ(read_back("web.raw"), bytes);
  std::string digest;
  for (const std::byte b : sha256(bytes)) {
    char hex[3];
    std::snprintf(hex, sizeof(hex), "%02x", std::to_integer<unsigned>(b));
    digest += hex;
  }
  EXPECT_NE(ran.out.find("\"sha256\":\"" + digest + "\""), std::string::npos) << ran.out;
  EXPECT_TRUE(store.disks.at("web").snapshots.empty());
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
}

TEST_F(TransferTest, ExportNeverReplacesAFileUnasked) {
  FakeStore store;
  store.add("web", kMiB);
  write_file("web.raw", pattern(4096));
  EXPECT_EQ(run(store, {"export", "web", path("web.raw")}).exit_code, 4);
  EXPECT_EQ(read_back("web.raw").size(), 4096U);
  EXPECT_EQ(run(store, {"export", "web", path("web.raw"), "--overwrite"}).exit_code, 0);
  EXPECT_EQ(read_back("web.raw").size(), kMiB);
}

TEST_F(TransferTest, ExportThatFailsLeavesNothing) {
  FakeStore store;
  store.add("web", kMiB);
  store.failures["open"] = Errc::unavailable;
  EXPECT_EQ(run(store, {"export", "web", path("web.raw")}).exit_code, 6);
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
  EXPECT_TRUE(store.disks.at("web").snapshots.empty());
  EXPECT_EQ(run(store, {"export", "nope", path("x")}).exit_code, 3);
  EXPECT_EQ(run(store, {"export", "web@nope", path("x")}).exit_code, 3);
  EXPECT_EQ(run(store, {"export", "web", path("x"), "-O", "vmdk"}).exit_code, 2);
}

TEST_F(TransferTest, ExportToQcow2ComesBackTheSame) {
  ASSERT_TRUE(has("qemu-img") && has("qemu-nbd")) << "scripts/install-deps test";
  FakeStore store;
  const std::vector<std::byte> bytes = pattern(8 * kMiB);
  store.add("web", bytes.size()).bytes = bytes;
  const Ran out = run(store, {"export", "web", path("web.qcow2"), "-O", "qcow2"});
  ASSERT_EQ(out.exit_code, 0) << out.err;
  const Ran in = run(store, {"import", path("web.qcow2"), "back"});
  ASSERT_EQ(in.exit_code, 0) << in.err;
  EXPECT_EQ(store.disks.at("back").bytes, bytes);
}

/// Standard input of the test, for the time of one test.
class StdinFrom {
 public:
  explicit StdinFrom(int fd) : before_(dup(STDIN_FILENO)) { dup2(fd, STDIN_FILENO); }
  StdinFrom(const StdinFrom&) = delete;
  StdinFrom& operator=(const StdinFrom&) = delete;
  ~StdinFrom() {
    dup2(before_, STDIN_FILENO);
    close(before_);
  }

 private:
  int before_;
};

TEST_F(TransferTest, AStreamMakesADiskOfItsOwnSize) {
  const std::vector<std::byte> bytes = pattern(3 * kMiB);
  write_file("a.raw", bytes);
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  ProcessSpec cat;
  cat.argv = {"/bin/cat", path("a.raw")};
  cat.stdout_fd = ends[1];
  const auto pid = start_process(cat);
  ASSERT_TRUE(pid);
  ChildProcess child(*pid);
  close(ends[1]);
  FakeStore store;
  {
    const StdinFrom pipe(ends[0]);
    const Ran ran = run(store, {"import", "-", "a"});
    EXPECT_EQ(ran.exit_code, 0) << ran.err;
  }
  close(ends[0]);
  EXPECT_EQ(store.disks.at("a").summary.size_bytes, 3 * kMiB);
  EXPECT_EQ(store.disks.at("a").bytes, bytes);
}

}  // namespace
}  // namespace vmstore::cli
