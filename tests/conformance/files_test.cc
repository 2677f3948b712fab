// SPDX-License-Identifier: Apache-2.0
// What every Files promises, asked of the real one and of the simulated one alike, so that what is
// proved on MemoryFiles holds on a disk.
#include "base/files.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/posix_files.h"
#include "base/random.h"
#include "tests/support/memory_files.h"

namespace vmstore {
namespace {

namespace fs = std::filesystem;

/// A folder of its own that is removed at the end.
class ScratchFolder {
 public:
  ScratchFolder() {
    std::string pattern = (fs::temp_directory_path() / "vmstore-files-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  ~ScratchFolder() { fs::remove_all(path_); }
  [[nodiscard]] const fs::path& path() const noexcept { return path_; }

 private:
  fs::path path_;
};

class FilesTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (std::strcmp(GetParam(), "memory") == 0) {
      files_ = std::make_unique<sim::MemoryFiles>();
      return;
    }
    scratch_ = std::make_unique<ScratchFolder>();
    files_ = std::move(*PosixFiles::open_folder(scratch_->path().string()));
  }
  [[nodiscard]] std::unique_ptr<File> make(std::string_view path) {
    OpenOptions options;
    options.create = true;
    return std::move(*files_->open(path, options));
  }
  [[nodiscard]] static std::string text_of(File& file, std::uint64_t offset, std::size_t bytes) {
    std::vector<std::byte> content(bytes);
    const auto got = file.read(offset, content);
    EXPECT_TRUE(got) << got.error();
    return std::string(as_text(ByteSpan(content).first(got ? *got : 0)));
  }
  std::unique_ptr<ScratchFolder> scratch_;
  std::unique_ptr<Files> files_;
};

INSTANTIATE_TEST_SUITE_P(Files,
                         FilesTest,
                         ::testing::Values("memory", "posix"),
                         [](const auto& backend) { return std::string(backend.param); });

TEST_P(FilesTest, WhatIsWrittenIsRead) {
  const auto file = make("a");
  ASSERT_TRUE(file->write(0, as_byte_span("hello world")));
  ASSERT_TRUE(file->write(6, as_byte_span("there")));
  EXPECT_EQ(text_of(*file, 0, 11), "hello there");
  EXPECT_EQ(*file->size(), 11U);
  ASSERT_TRUE(file->sync());
  EXPECT_EQ(text_of(*file, 6, 5), "there");
}

TEST_P(FilesTest, WhatIsWrittenUncachedIsRead) {
  constexpr std::size_t kPage = 4096;
  std::vector<std::byte> memory(18 * kPage, std::byte{1});
  std::size_t room = memory.size();
  void* place = memory.data();
  const auto* const aligned =
      static_cast<const std::byte*>(std::align(kPage, 17 * kPage, place, room));
  const auto file = make("a");
  ASSERT_TRUE(file->write(0, std::vector<std::byte>(40 * kPage, std::byte{7})));
  // Over what the page cache has; from memory and to places that are aligned and not.
  ASSERT_TRUE(file->write_uncached(2 * kPage, ByteSpan(aligned, 16 * kPage)));
  ASSERT_TRUE(file->write_uncached(20 * kPage, ByteSpan(aligned + 1, 2 * kPage)));
  ASSERT_TRUE(file->write_uncached(24 * kPage + 512, ByteSpan(aligned, kPage)));
  ASSERT_TRUE(file->write_uncached(30 * kPage, ByteSpan(aligned, 100)));
  std::string expected(40 * kPage, '\7');
  expected.replace(2 * kPage, 16 * kPage, 16 * kPage, '\1');
  expected.replace(20 * kPage, 2 * kPage, 2 * kPage, '\1');
  expected.replace(24 * kPage + 512, kPage, kPage, '\1');
  expected.replace(30 * kPage, 100, 100, '\1');
  EXPECT_TRUE(text_of(*file, 0, 41 * kPage) == expected);
}

TEST_P(FilesTest, ReadsEndAtTheEndOfTheFile) {
  const auto file = make("a");
  ASSERT_TRUE(file->write(0, as_byte_span("abc")));
  EXPECT_EQ(text_of(*file, 1, 100), "bc");
  EXPECT_EQ(text_of(*file, 3, 100), "");
  EXPECT_EQ(text_of(*file, 1 << 20, 100), "");
}

TEST_P(FilesTest, WhatWasNeverWrittenReadsAsZeros) {
  const auto file = make("a");
  ASSERT_TRUE(file->write(100000, as_byte_span("x")));
  EXPECT_EQ(text_of(*file, 99990, 20), std::string(10, '\0') + "x");
  EXPECT_EQ(text_of(*file, 0, 10), std::string(10, '\0'));
}

TEST_P(FilesTest, ReadCachedGivesTheSameBytesOrBusy) {
  const auto file = make("a");
  ASSERT_TRUE(file->write(0, as_byte_span("cached")));
  std::vector<std::byte> into(6);
  const auto got = file->read_cached(0, into);
  if (got) {
    EXPECT_EQ(as_text(into), "cached");
  } else {
    EXPECT_EQ(got.error(), Errc::busy);
  }
}

TEST_P(FilesTest, OpenSaysWhatIsThere) {
  OpenOptions options;
  EXPECT_EQ(files_->open("a", options).error(), Errc::not_found);
  EXPECT_EQ(files_->open("no/a", options).error(), Errc::not_found);
  options.create = true;
  options.must_be_new = true;
  ASSERT_TRUE(files_->open("a", options));
  EXPECT_EQ(files_->open("a", options).error(), Errc::exists);
  options.must_be_new = false;
  EXPECT_TRUE(files_->open("a", options));
  EXPECT_EQ(files_->open("no/a", options).error(), Errc::not_found) << "parents are not made";
}

TEST_P(FilesTest, OpenNeverCutsAFile) {
  ASSERT_TRUE(make("a")->write(0, as_byte_span("kept")));
  EXPECT_EQ(text_of(*make("a"), 0, 10), "kept");
}

TEST_P(FilesTest, AReadOnlyFileIsNotChanged) {
  ASSERT_TRUE(make("a")->write(0, as_byte_span("kept")));
  OpenOptions options;
  options.write = false;
  const auto file = std::move(*files_->open("a", options));
  EXPECT_FALSE(file->write(0, as_byte_span("lost")));
  EXPECT_FALSE(file->truncate(0));
  EXPECT_FALSE(file->allocate(0, 4096));
  EXPECT_FALSE(file->punch(0, 4096));
  EXPECT_EQ(text_of(*file, 0, 10), "kept");
}

TEST_P(FilesTest, TruncateCutsAndGrowsWithZeros) {
  const auto file = make("a");
  ASSERT_TRUE(file->write(0, as_byte_span(std::string(10000, 'x'))));
  ASSERT_TRUE(file->truncate(5000));
  EXPECT_EQ(*file->size(), 5000U);
  ASSERT_TRUE(file->truncate(9000));
  EXPECT_EQ(text_of(*file, 4999, 4001), "x" + std::string(4000, '\0'));
}

TEST_P(FilesTest, AllocateTakesSpaceAndLeavesSizeAndContent) {
  const auto file = make("a");
  ASSERT_TRUE(file->write(0, as_byte_span("abc")));
  ASSERT_TRUE(file->allocate(0, 1 << 20));
  EXPECT_EQ(*file->size(), 3U);
  EXPECT_EQ(text_of(*file, 0, 10), "abc");
  EXPECT_GE(*file->allocated_bytes(), 1U << 20);
  ASSERT_TRUE(file->write(0, as_byte_span(std::string(1 << 20, 'y'))));
  EXPECT_LT(*file->allocated_bytes(), (1U << 20) + (64U << 10)) << "the space was there already";
}

TEST_P(FilesTest, PunchGivesSpaceBackAndReadsAsZeros) {
  const auto file = make("a");
  ASSERT_TRUE(file->write(0, as_byte_span(std::string(1 << 20, 'x'))));
  ASSERT_TRUE(file->sync());
  const std::uint64_t before = *file->allocated_bytes();
  ASSERT_TRUE(file->punch(4096, (1 << 20) - 8192));
  EXPECT_EQ(*file->size(), 1U << 20);
  EXPECT_LE(*file->allocated_bytes() + (512U << 10), before);
  EXPECT_EQ(text_of(*file, 4090, 12), "xxxxxx" + std::string(6, '\0'));
  EXPECT_EQ(text_of(*file, (1 << 20) - 4102, 12), std::string(6, '\0') + "xxxxxx");
  EXPECT_TRUE(file->punch(4096, (1 << 20) - 8192)) << "punching is idempotent";
}

TEST_P(FilesTest, PunchOfUnalignedRangesZeroesExactlyThem) {
  const auto file = make("a");
  ASSERT_TRUE(file->write(0, as_byte_span(std::string(20000, 'x'))));
  ASSERT_TRUE(file->punch(100, 50));
  ASSERT_TRUE(file->punch(4000, 8000));
  const std::string zeros(8000, '\0');
  std::string expected(20000, 'x');
  expected.replace(100, 50, zeros, 0, 50);
  expected.replace(4000, 8000, zeros);
  EXPECT_EQ(text_of(*file, 0, 20000), expected);
  EXPECT_TRUE(file->punch(0, 0));
}

TEST_P(FilesTest, SpaceBehindTheEndIsGivenBackByTruncate) {
  const auto file = make("a");
  ASSERT_TRUE(file->allocate(0, 1 << 20));
  ASSERT_TRUE(file->write(0, as_byte_span("abc")));
  ASSERT_TRUE(file->truncate(2));
  EXPECT_LE(*file->allocated_bytes(), 64U << 10);
}

TEST_P(FilesTest, NamesAreListedSortedAndWithoutDots) {
  ASSERT_TRUE(files_->make_folder("f"));
  for (const char* const path : {"f/b", "f/a", "f/c.new"}) static_cast<void>(make(path));
  ASSERT_TRUE(files_->make_folder("f/d"));
  EXPECT_EQ(*files_->list("f"), (std::vector<std::string>{"a", "b", "c.new", "d"}));
  EXPECT_EQ(*files_->list(""), (std::vector<std::string>{"f"}));
  EXPECT_EQ(files_->list("no").error(), Errc::not_found);
  EXPECT_EQ(files_->list("f/a").error(), Errc::foreign_store);
}

TEST_P(FilesTest, MakeFolderIsIdempotentAndNeedsItsParent) {
  EXPECT_TRUE(files_->make_folder("f"));
  EXPECT_TRUE(files_->make_folder("f"));
  EXPECT_EQ(files_->make_folder("no/f").error(), Errc::not_found);
  static_cast<void>(make("a"));
  EXPECT_EQ(files_->make_folder("a").error(), Errc::foreign_store);
}

TEST_P(FilesTest, RenameReplacesAtomically) {
  const auto one = make("one");
  ASSERT_TRUE(one->write(0, as_byte_span("one")));
  ASSERT_TRUE(make("two")->write(0, as_byte_span("two")));
  ASSERT_TRUE(files_->rename("one", "two"));
  EXPECT_EQ(text_of(*make("two"), 0, 10), "one");
  EXPECT_EQ(*files_->list(""), (std::vector<std::string>{"two"}));
  EXPECT_EQ(files_->rename("one", "three").error(), Errc::not_found);
  ASSERT_TRUE(files_->make_folder("f"));
  ASSERT_TRUE(files_->rename("two", "f/three"));
  ASSERT_TRUE(one->write(0, as_byte_span("ONE")));
  EXPECT_EQ(text_of(*make("f/three"), 0, 10), "ONE") << "an open file follows its content";
}

TEST_P(FilesTest, RemoveTakesTheNameAndLeavesOpenFilesUsable) {
  const auto file = make("a");
  ASSERT_TRUE(file->write(0, as_byte_span("abc")));
  ASSERT_TRUE(files_->remove("a"));
  EXPECT_EQ(files_->remove("a").error(), Errc::not_found);
  EXPECT_EQ(text_of(*file, 0, 10), "abc");
  EXPECT_TRUE(file->write(3, as_byte_span("d")));
  EXPECT_TRUE(files_->list("")->empty());
  ASSERT_TRUE(files_->make_folder("f"));
  EXPECT_FALSE(files_->remove("f"));
}

TEST_P(FilesTest, FoldersAreNotFiles) {
  ASSERT_TRUE(files_->make_folder("f"));
  OpenOptions options;
  EXPECT_EQ(files_->open("f", options).error(), Errc::foreign_store);
  options.write = false;
  EXPECT_EQ(files_->open("f", options).error(), Errc::foreign_store);
  static_cast<void>(make("a"));
  EXPECT_EQ(files_->open("a/b", options).error(), Errc::foreign_store);
}

TEST_P(FilesTest, SyncFolderNeedsTheFolder) {
  EXPECT_TRUE(files_->sync_folder(""));
  ASSERT_TRUE(files_->make_folder("f"));
  EXPECT_TRUE(files_->sync_folder("f"));
  EXPECT_EQ(files_->sync_folder("no").error(), Errc::not_found);
}

TEST_P(FilesTest, ALockHasOneHolder) {
  const auto one = make("lock");
  auto two = make("lock");
  ASSERT_TRUE(one->lock());
  EXPECT_TRUE(one->lock());
  EXPECT_EQ(two->lock().error(), Errc::busy);
  EXPECT_EQ(two->lock().error(), Errc::busy);
  {
    const auto three = make("other");
    EXPECT_TRUE(three->lock());
  }
  two = make("other");
  EXPECT_TRUE(two->lock()) << "closing the file frees its lock";
}

TEST_P(FilesTest, DirectSyncedWritesAreWholePages) {
  OpenOptions options;
  options.create = true;
  options.direct_sync = true;
  const auto file = std::move(*files_->open("ring", options));
  const std::unique_ptr<void, decltype(&std::free)> memory(std::aligned_alloc(4096, 8192),
                                                           &std::free);
  const MutableBytes bytes(static_cast<std::byte*>(memory.get()), 8192);
  std::fill(bytes.begin(), bytes.end(), std::byte{'r'});
  ASSERT_TRUE(file->write(4096, bytes));
  ASSERT_TRUE(file->write(0, bytes.first(4096)));
  std::fill(bytes.begin(), bytes.end(), std::byte{0});
  EXPECT_EQ(*file->read(4096, bytes), 8192U);
  EXPECT_EQ(bytes[8191], std::byte{'r'});
  const auto unaligned = file->write(100, bytes.first(512));  // tmpfs takes it
  EXPECT_TRUE(unaligned || unaligned.error() == Errc::invalid_argument);
}

TEST_P(FilesTest, PathsOutsideTheGrammarAreRefusedEverywhere) {
  OpenOptions options;
  options.create = true;
  ASSERT_TRUE(files_->make_folder("f"));
  for (const std::string& path : {std::string(),
                                  std::string("../x"),
                                  std::string("f/../x"),
                                  std::string("/etc/passwd"),
                                  std::string("f/"),
                                  std::string("f//x"),
                                  std::string("./x"),
                                  std::string("x\0y", 3),
                                  std::string("X"),
                                  std::string("a b"),
                                  std::string(4097, 'x')}) {
    EXPECT_EQ(files_->open(path, options).error(), Errc::invalid_argument) << path;
    EXPECT_EQ(files_->remove(path).error(), Errc::invalid_argument) << path;
    EXPECT_EQ(files_->rename("f", path).error(), Errc::invalid_argument) << path;
    EXPECT_EQ(files_->rename(path, "g").error(), Errc::invalid_argument) << path;
    EXPECT_EQ(files_->make_folder(path).error(), Errc::invalid_argument) << path;
    if (!path.empty()) {
      EXPECT_EQ(files_->list(path).error(), Errc::invalid_argument) << path;
      EXPECT_EQ(files_->sync_folder(path).error(), Errc::invalid_argument) << path;
    }
  }
  EXPECT_EQ(*files_->list(""), (std::vector<std::string>{"f"}));
}

TEST_P(FilesTest, OffsetsBeyondEveryDeviceAreRefused) {
  const auto file = make("a");
  for (const std::uint64_t offset : {std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
    EXPECT_FALSE(file->write(offset, as_byte_span("x"))) << offset;
    EXPECT_FALSE(file->allocate(offset, 1)) << offset;
    EXPECT_FALSE(file->punch(offset, 1)) << offset;
    EXPECT_FALSE(file->truncate(offset)) << offset;
  }
  EXPECT_EQ(*file->size(), 0U);
}

TEST_P(FilesTest, SpaceIsReported) {
  const FolderSpace space = *files_->space();
  EXPECT_GT(space.total_bytes, 0U);
  EXPECT_LE(space.free_bytes, space.total_bytes);
}

// One long random run, both back ends against a string.
TEST_P(FilesTest, RandomCallsAgreeWithAString) {
  Random random(11);
  const auto file = make("a");
  std::string oracle;
  for (int step = 0; step < 2000; ++step) {
    const std::uint64_t offset = random.below(100000);
    const std::uint64_t length = random.below(20000);
    switch (random.below(5)) {
      case 0:
      case 1: {
        const std::string text(length, static_cast<char>('a' + random.below(26)));
        ASSERT_TRUE(file->write(offset, as_byte_span(text)));
        if (length > 0 && oracle.size() < offset + length) oracle.resize(offset + length, '\0');
        if (length > 0) oracle.replace(offset, length, text);
        break;
      }
      case 2: {
        ASSERT_TRUE(file->punch(offset, length));
        const std::uint64_t end = std::min<std::uint64_t>(offset + length, oracle.size());
        for (std::uint64_t i = offset; i < end; ++i) oracle[i] = '\0';
        break;
      }
      case 3:
        if (!random.one_in(4)) break;
        ASSERT_TRUE(file->truncate(offset));
        oracle.resize(offset, '\0');
        break;
      default:
        ASSERT_TRUE(random.one_in(8) ? file->sync() : file->allocate(offset, length));
        break;
    }
    ASSERT_EQ(*file->size(), oracle.size()) << step;
    const std::string expected =
        offset < oracle.size() ? oracle.substr(offset, length) : std::string();
    ASSERT_EQ(text_of(*file, offset, length), expected) << step;
  }
}

// ---- what only a real folder can be attacked with ----

class PosixFilesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    fs::create_directory(outside_.path() / "folder");
    Result<std::unique_ptr<PosixFiles>> opened = PosixFiles::open_folder(scratch_.path().string());
    ASSERT_TRUE(opened);
    files_ = std::move(*opened);
    OpenOptions options;
    options.create = true;
    const auto secret = PosixFiles::open_folder(outside_.path().string());
    const auto file = (*secret)->open("folder/secret", options);
    ASSERT_TRUE((*file)->write(0, as_byte_span("secret")));
  }
  [[nodiscard]] bool secret_is_untouched() const {
    return fs::exists(outside_.path() / "folder" / "secret") &&
           fs::file_size(outside_.path() / "folder" / "secret") == 6 &&
           std::distance(fs::directory_iterator(outside_.path() / "folder"), {}) == 1;
  }
  ScratchFolder scratch_;
  ScratchFolder outside_;
  std::unique_ptr<PosixFiles> files_;
};

TEST_F(PosixFilesTest, ADataFileReplacedByASymlinkIsRefused) {
  fs::create_symlink(outside_.path() / "folder" / "secret", scratch_.path() / "data");
  fs::create_symlink("here", scratch_.path() / "local");
  OpenOptions options;
  for (const char* const path : {"data", "local"}) {
    options.create = false;
    options.direct_sync = false;
    EXPECT_EQ(files_->open(path, options).error(), Errc::foreign_store) << path;
    options.create = true;
    EXPECT_EQ(files_->open(path, options).error(), Errc::foreign_store) << path;
    options.direct_sync = true;
    EXPECT_EQ(files_->open(path, options).error(), Errc::foreign_store) << path;
  }
  EXPECT_FALSE(fs::exists(scratch_.path() / "here"));
  EXPECT_TRUE(secret_is_untouched());
}

TEST_F(PosixFilesTest, AFolderReplacedByASymlinkIsRefused) {
  fs::create_directory_symlink(outside_.path() / "folder", scratch_.path() / "keys");
  ASSERT_TRUE(replace_file(*files_, "own", as_byte_span("own")));
  OpenOptions options;
  EXPECT_EQ(files_->open("keys/secret", options).error(), Errc::foreign_store);
  options.create = true;
  EXPECT_EQ(files_->open("keys/new", options).error(), Errc::foreign_store);
  EXPECT_EQ(files_->remove("keys/secret").error(), Errc::foreign_store);
  EXPECT_EQ(files_->rename("keys/secret", "stolen").error(), Errc::foreign_store);
  EXPECT_EQ(files_->rename("own", "keys/secret").error(), Errc::foreign_store);
  EXPECT_EQ(files_->make_folder("keys/more").error(), Errc::foreign_store);
  EXPECT_EQ(files_->list("keys").error(), Errc::foreign_store);
  EXPECT_EQ(files_->sync_folder("keys").error(), Errc::foreign_store);
  EXPECT_FALSE(files_->make_folder("keys"));
  EXPECT_TRUE(secret_is_untouched());
}

TEST_F(PosixFilesTest, TheRootItselfMustNotBeASymlink) {
  const fs::path link = outside_.path() / "root";
  fs::create_directory_symlink(scratch_.path(), link);
  EXPECT_EQ(PosixFiles::open_folder(link.string()).error(), Errc::foreign_store);
  EXPECT_EQ(PosixFiles::open_folder((outside_.path() / "no").string()).error(), Errc::not_found);
}

TEST_F(PosixFilesTest, RenamingOntoASymlinkReplacesTheLinkOnly) {
  fs::create_symlink(outside_.path() / "folder" / "secret", scratch_.path() / "data");
  ASSERT_TRUE(replace_file(*files_, "data", as_byte_span("mine")));
  EXPECT_TRUE(secret_is_untouched());
  EXPECT_FALSE(fs::is_symlink(scratch_.path() / "data"));
}

TEST_F(PosixFilesTest, APipeInPlaceOfAFileIsRefusedWithoutHanging) {
  ASSERT_EQ(::mkfifo((scratch_.path() / "pipe").c_str(), 0600), 0);
  OpenOptions options;
  EXPECT_EQ(files_->open("pipe", options).error(), Errc::foreign_store);
  options.write = false;
  EXPECT_EQ(files_->open("pipe", options).error(), Errc::foreign_store);
}

TEST_F(PosixFilesTest, FilesAndFoldersAreTheOwnersOnly) {
  const mode_t before = ::umask(0);
  ASSERT_TRUE(replace_file(*files_, "a", as_byte_span("x")));
  ASSERT_TRUE(files_->make_folder("f"));
  ::umask(before);
  EXPECT_EQ(fs::status(scratch_.path() / "a").permissions(),
            fs::perms::owner_read | fs::perms::owner_write);
  EXPECT_EQ(fs::status(scratch_.path() / "f").permissions(), fs::perms::owner_all);
}

TEST_F(PosixFilesTest, UncachedWritesLeaveThePageCacheAlone) {
  constexpr std::size_t kBytes = 65536;
  struct statfs info {};
  ASSERT_EQ(::statfs(scratch_.path().c_str(), &info), 0);
  const bool lives_in_the_cache = info.f_type == TMPFS_MAGIC;
  const std::unique_ptr<void, void (*)(void*)> memory(std::aligned_alloc(4096, kBytes), std::free);
  std::memset(memory.get(), 7, kBytes);
  const ByteSpan bytes(static_cast<const std::byte*>(memory.get()), kBytes);
  OpenOptions options;
  options.create = true;
  const auto file = std::move(*files_->open("a", options));
  ASSERT_TRUE(file->write_uncached(0, bytes));
  std::vector<std::byte> found(kBytes);
  EXPECT_EQ(file->read_cached(0, found).has_value(), lives_in_the_cache);
  ASSERT_TRUE(file->read(0, found));
  EXPECT_TRUE(std::equal(found.begin(), found.end(), bytes.begin()));
}

TEST_F(PosixFilesTest, TheProbeLeavesNothingBehind) {
  const auto probed = files_->probe_hole_punching();
  EXPECT_TRUE(probed || probed.error() == Errc::unsupported);
  EXPECT_TRUE(files_->list("")->empty());
}

TEST_F(PosixFilesTest, DescriptorsDoNotLeakIntoChildren) {
  OpenOptions options;
  options.create = true;
  const auto file = std::move(*files_->open("a", options));
  const int fd = file->descriptor();
  ASSERT_GE(fd, 0);
  EXPECT_NE(::fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
}

}  // namespace
}  // namespace vmstore
