// SPDX-License-Identifier: Apache-2.0
// What each verb asks of the store, and what it says.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "cli/json.h"
#include "cli/output.h"
#include "cli/program.h"
#include "tests/unit/cli/fake_client.h"

namespace vmstore::cli {
namespace {

using test::FakeStore;
using test::Ran;
using test::run;

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

/// A run folder where no `up` is.
std::vector<std::string> apart(std::vector<std::string> arguments) {
  arguments.insert(arguments.end(), {"--run-dir", "/nonexistent/vmstore-run"});
  return arguments;
}

bool changed(const FakeStore& store) {
  for (const std::string& call : store.calls) {
    const std::string word = call.substr(0, call.find(' '));
    if (word != "list" && word != "details" && word != "snapshots" && word != "trash" &&
        word != "mapped_bytes" && word != "node_status" && call != "collect_garbage dry") {
      return true;
    }
  }
  return false;
}

TEST(Create, MakesADiskAndSaysWhatIsNext) {
  FakeStore store;
  const Ran ran = run(store, {"create", "g/web", "20G"});
  EXPECT_EQ(ran.exit_code, 0) << ran.err;
  EXPECT_EQ(store.disks.at("g/web").summary.size_bytes, 20 * kGiB);
  EXPECT_NE(ran.out.find("next: vmstore attach g/web"), std::string::npos);
}

TEST(Create, RefusesABareNumberWithAHint) {
  FakeStore store;
  const Ran ran = run(store, {"create", "web", "20"});
  EXPECT_EQ(ran.exit_code, 2);
  EXPECT_NE(ran.err.find("20G"), std::string::npos);
  EXPECT_TRUE(store.disks.empty());
}

TEST(Create, TakenNameIsExitFour) {
  FakeStore store;
  store.add("web", 512);
  const Ran ran = run(store, {"create", "web", "1G"});
  EXPECT_EQ(ran.exit_code, 4);
  EXPECT_NE(ran.err.find("web: exists already"), std::string::npos) << ran.err;
}

TEST(Create, JsonHasIntegersInBytes) {
  FakeStore store;
  const Ran ran = run(store, {"create", "web", "1G", "--json"});
  const auto object = parse_json_object(ran.out);
  ASSERT_TRUE(object) << ran.out;
  EXPECT_EQ(json_count(*object, "output_version"), 1U);
  EXPECT_EQ(json_count(*object, "size"), kGiB);
}

TEST(Info, UnknownNameNamesTheNearest) {
  FakeStore store;
  store.add("web-0001", 512);
  store.add("db", 512);
  const Ran ran = run(store, {"info", "web-nope"});
  EXPECT_EQ(ran.exit_code, 3);
  EXPECT_EQ(ran.err,
            "vmstore: web-nope: no such disk (2 disks; closest: \"web-0001\")\n"
            "  next: vmstore ls\n");
}

TEST(Info, UnknownSnapshotNamesTheNearest) {
  FakeStore store;
  store.add("web", 512).snapshots["monday"];
  const Ran ran = run(store, {"info", "web@munday"});
  EXPECT_EQ(ran.exit_code, 3);
  EXPECT_NE(ran.err.find("closest: \"web@monday\""), std::string::npos) << ran.err;
}

TEST(Info, AListThatCannotBeHadIsNotCalledEmpty) {
  FakeStore store;
  store.failures["list"] = Errc::timed_out;
  const Ran ran = run(store, {"info", "web"});
  EXPECT_EQ(ran.exit_code, 3);
  EXPECT_EQ(ran.err.find("0 disks"), std::string::npos) << ran.err;
}

TEST(Info, ShowsDiskAndSnapshotsInOneDocument) {
  FakeStore store;
  store.add("web", kGiB).snapshots["monday"].resize(512);
  const Ran ran = run(store, {"info", "web", "--json"});
  const auto object = parse_json_object(ran.out);
  ASSERT_TRUE(object);
  EXPECT_EQ(json_count(object->at("disk").as_object(), "size"), kGiB);
  EXPECT_EQ(object->at("snapshots").as_array().size(), 1U);
}

TEST(Info, WhatIsMappedIsShownOnlyWhenItIsKnown) {
  FakeStore store;
  store.add("web", kGiB);
  const auto unknown = parse_json_object(run(store, {"info", "web", "--json"}).out);
  ASSERT_TRUE(unknown);
  EXPECT_FALSE(unknown->at("disk").as_object().contains("mapped") &&
               !unknown->at("disk").at("mapped").is_null());
  store.disks.at("web").mapped_bytes = 4096;
  const auto known = parse_json_object(run(store, {"info", "web", "--json"}).out);
  ASSERT_TRUE(known);
  EXPECT_EQ(json_count(known->at("disk").as_object(), "mapped"), 4096U);
}

TEST(List, TreeShowsClonesBelowTheirBase) {
  FakeStore store;
  store.add("base", 512);
  store.add("a-clone", 512).summary.base_name = "base@v1";
  store.add("b-clone", 512).summary.base_name = "a-clone@x";
  store.add("zombie", 512).summary.base_name = "gone@x";
  const Ran ran = run(store, {"ls", "--tree", "-o", "name", "-H"});
  EXPECT_EQ(ran.out, "base\n└ a-clone\n  └ b-clone\nzombie\n");
}

TEST(List, GlobAndSnapshots) {
  FakeStore store;
  store.add("web-1", 512).snapshots["s"];
  store.add("db", 512).snapshots["t"];
  const Ran ran = run(store, {"ls", "web-*", "--snaps", "--json"});
  const auto object = parse_json_object(ran.out);
  ASSERT_TRUE(object);
  EXPECT_EQ(object->at("disks").as_array().size(), 1U);
  EXPECT_EQ(object->at("snapshots").as_array().size(), 1U);
}

TEST(Remove, GoesToTheTrashAndComesBack) {
  FakeStore store;
  store.add("web", 512);
  EXPECT_EQ(run(store, apart({"rm", "web"})).exit_code, 0);
  EXPECT_TRUE(store.called("remove web"));
  EXPECT_EQ(run(store, {"trash", "ls", "-H", "-o", "name"}).out, "web\n");
  EXPECT_EQ(run(store, {"trash", "restore", "web", "--as", "web2"}).exit_code, 0);
  EXPECT_TRUE(store.disks.contains("web2"));
}

TEST(Remove, NowAndForceAreSaidOut) {
  FakeStore store;
  store.add("web", 512);
  EXPECT_EQ(run(store, apart({"rm", "web", "--now", "--force"})).exit_code, 0);
  EXPECT_TRUE(store.called("remove web now force"));
  EXPECT_TRUE(store.trash.empty());
}

TEST(Remove, SomeOfSeveralIsExitNine) {
  FakeStore store;
  store.add("a", 512);
  const Ran ran = run(store, apart({"rm", "a", "b"}));
  EXPECT_EQ(ran.exit_code, 9);
  EXPECT_TRUE(store.disks.empty());
  EXPECT_NE(ran.err.find("b: no such disk"), std::string::npos);
}

TEST(Remove, ASnapshotIsNotADisk) {
  FakeStore store;
  store.add("web", 512).snapshots["s"];
  const Ran ran = run(store, apart({"rm", "web@s"}));
  EXPECT_EQ(ran.exit_code, 2);
  EXPECT_NE(ran.err.find("vmstore snap rm web@s"), std::string::npos);
}

TEST(Trash, PurgeOfEverythingHasToBeSaid) {
  FakeStore store;
  store.add("web", 512);
  EXPECT_EQ(run(store, apart({"rm", "web"})).exit_code, 0);
  EXPECT_EQ(run(store, {"trash", "purge"}).exit_code, 2);
  EXPECT_EQ(store.trash.size(), 1U);
  EXPECT_EQ(run(store, {"trash", "purge", "nope"}).exit_code, 3);
  EXPECT_EQ(run(store, {"trash", "purge", "--all"}).exit_code, 0);
  EXPECT_TRUE(store.trash.empty());
}

TEST(Rename, TellsWhichOfTheTwoNamesIsWrong) {
  FakeStore store;
  store.add("a", 512);
  store.add("b", 512);
  Ran ran = run(store, apart({"mv", "a", "b"}));
  EXPECT_EQ(ran.exit_code, 4);
  EXPECT_NE(ran.err.find("b: exists"), std::string::npos) << ran.err;
  ran = run(store, apart({"mv", "c", "d"}));
  EXPECT_EQ(ran.exit_code, 3);
  EXPECT_EQ(run(store, apart({"mv", "a", "g/c"})).exit_code, 0);
}

TEST(Resize, ShrinksOnlyWhenAllowed) {
  FakeStore store;
  store.add("web", 4 * kGiB);
  EXPECT_EQ(run(store, {"resize", "web", "-1G"}).exit_code, 2);
  EXPECT_EQ(run(store, {"resize", "web", "-1G", "--allow-shrink"}).exit_code, 0);
  EXPECT_EQ(store.disks.at("web").summary.size_bytes, 3 * kGiB);
  EXPECT_EQ(run(store, {"resize", "web", "+2G"}).exit_code, 0);
  EXPECT_EQ(store.disks.at("web").summary.size_bytes, 5 * kGiB);
}

TEST(Snapshot, IsTakenListedRolledBackAndRemoved) {
  FakeStore store;
  store.add("web", 512);
  EXPECT_EQ(run(store, {"snapshot", "web@s"}).exit_code, 0);
  EXPECT_EQ(run(store, {"snap", "create", "web@t"}).exit_code, 0);
  EXPECT_EQ(run(store, {"snapshot", "web@s"}).exit_code, 4);
  EXPECT_EQ(run(store, {"snap", "ls", "-H", "-o", "snapshot"}).out, "web@s\nweb@t\n");
  EXPECT_EQ(run(store, {"snap", "rollback", "web@s", "--force"}).exit_code, 0);
  EXPECT_TRUE(store.called("rollback web@s force"));
  EXPECT_EQ(run(store, {"snap", "rm", "web@s", "web@t"}).exit_code, 0);
  EXPECT_EQ(run(store, {"snap", "rm", "web@s"}).exit_code, 3);
}

TEST(Snapshot, SeveralAtOneInstantAreRefusedNotFaked) {
  FakeStore store;
  store.add("a", 512);
  store.add("b", 512);
  EXPECT_EQ(run(store, {"snapshot", "a@s", "b@s"}).exit_code, 1);
  EXPECT_FALSE(changed(store));
}

TEST(Clone, ChecksEveryNameBeforeAnythingIsMade) {
  FakeStore store;
  store.add("base", 512);
  store.add("web-3", 512);
  const Ran ran = run(store, {"clone", "base@v1", "web", "--count", "5"});
  EXPECT_EQ(ran.exit_code, 4);
  EXPECT_NE(ran.err.find("web-3"), std::string::npos);
  EXPECT_FALSE(changed(store));
}

TEST(Clone, MakesAThousand) {
  FakeStore store;
  store.add("base", 512);
  const Ran ran =
      run(store, {"clone", "base@v1", "web", "--count", "1000", "--name-pattern", "web-%04d"});
  EXPECT_EQ(ran.exit_code, 0) << ran.err;
  EXPECT_TRUE(ran.out.starts_with("1000 clones of base@v1 in ")) << ran.out;
  EXPECT_TRUE(store.disks.contains("web-0001"));
  EXPECT_TRUE(store.disks.contains("web-1000"));
}

TEST(Clone, APatternNeedsACount) {
  FakeStore store;
  store.add("base", 512);
  EXPECT_EQ(run(store, {"clone", "base", "x", "--name-pattern", "x-%d"}).exit_code, 2);
  EXPECT_EQ(run(store, {"clone", "base", "x", "--count", "0"}).exit_code, 2);
}

TEST(DryRun, ChangesNothingAnywhere) {
  const std::vector<std::vector<std::string>> commands{
      {"create", "new", "1G"},
      {"mv", "web", "www"},
      {"resize", "web", "+1G"},
      {"rm", "web"},
      {"rm", "web", "--now"},
      {"trash", "purge", "--all"},
      {"trash", "restore", "old"},
      {"snapshot", "web@new"},
      {"snap", "rm", "web@s"},
      {"snap", "rollback", "web@s"},
      {"clone", "web@s", "c"},
      {"gc"},
      {"owner", "break", "web"},
      {"owner", "discard", "web"},
      {"export", "web", "/tmp/no"},
      {"attach", "web"},
      {"meta", "backup", "/tmp/no"},
      {"mount", "/tmp/no"},
  };
  for (const auto& command : commands) {
    FakeStore store;
    store.add("web", 4 * kGiB).snapshots["s"];
    std::vector<std::string> arguments = apart(command);
    arguments.emplace_back("--dry-run");
    const Ran ran = run(store, arguments);
    // vmstore-fuse may not be built yet; then `mount` says so.
    EXPECT_TRUE(ran.exit_code == 0 || command[0] == "mount") << command[0] << " " << ran.err;
    EXPECT_FALSE(changed(store)) << command[0];
    EXPECT_EQ(ran.out.find("would ") == std::string::npos, ran.exit_code != 0) << command[0];
  }
}

TEST(DryRun, StillFindsWhatWouldFail) {
  FakeStore store;
  store.add("web", 512);
  EXPECT_EQ(run(store, {"create", "web", "1G", "-n"}).exit_code, 4);
  EXPECT_EQ(run(store, apart({"rm", "nope", "-n"})).exit_code, 3);
  EXPECT_EQ(run(store, {"snap", "rm", "web@nope", "-n"}).exit_code, 3);
  EXPECT_EQ(run(store, {"clone", "web@nope", "c", "-n"}).exit_code, 3);
}

TEST(Verify, DamageIsExitEight) {
  FakeStore store;
  store.add("damaged", 512);
  store.add("sound", 512);
  EXPECT_EQ(run(store, {"verify", "sound"}).exit_code, 0);
  const Ran ran = run(store, {"verify", "--all"});
  EXPECT_EQ(ran.exit_code, 8);
  EXPECT_NE(ran.err.find("4096"), std::string::npos);
  EXPECT_EQ(run(store, {"verify"}).exit_code, 2);
  EXPECT_EQ(run(store, {"verify", "sound", "nope"}).exit_code, 9);
}

TEST(Space, FiguresNobodyCountedAreAbsent) {
  FakeStore store;
  store.add("web", 1024);
  const Ran du = run(store, {"du", "--json"});
  EXPECT_EQ(du.out.find("unique"), std::string::npos);
  EXPECT_EQ(run(store, {"df", "-H", "--bytes", "-o", "total,free"}).out, "1000\t400\n");
  EXPECT_EQ(run(store, {"gc"}).exit_code, 0);
  EXPECT_TRUE(store.called("collect_garbage real"));
}

TEST(Nodes, OneThatIsDownIsListedWithoutFigures) {
  FakeStore store;
  EXPECT_EQ(run(store, {"node", "ls", "-H", "--bytes", "-o", "address,state,zone,weight,used"}).out,
            "10.0.0.1:7000\tup\track-1\t3\t4096\n10.0.0.2:7000\tdown\t-\t1\t-\n");
  const Ran ran = run(store, {"node", "ls", "--json"});
  EXPECT_NE(ran.out.find("\"id\":\"00000000000000030000000000000004\""), std::string::npos)
      << ran.out;
}

TEST(Space, CollectionThatFreedNothingSaysWhy) {
  FakeStore store;
  store.failures["collect_garbage"] = Errc::unknown;
  EXPECT_NE(run(store, {"gc"}).err.find("a round that cannot see everything"), std::string::npos);
  store.warnings = {"key 3 is damaged",
                    "the last garbage collection freed nothing: disk d: a page"};
  const Ran ran = run(store, {"gc"});
  EXPECT_NE(ran.exit_code, 0);
  EXPECT_NE(ran.err.find("disk d: a page"), std::string::npos);
}

TEST(Owner, DiscardSaysHowMuchIsGivenUp) {
  FakeStore store;
  store.add("web", 512);
  const Ran ran = run(store, {"owner", "discard", "web"});
  EXPECT_EQ(ran.exit_code, 0);
  EXPECT_NE(ran.out.find("3 acknowledged batches"), std::string::npos) << ran.out;
}

TEST(Snapshot, OneThatAHolderTookTellsHowLongItWas) {
  FakeStore store;
  store.add("web", 512);
  const Ran ran = run(store, {"snapshot", "web@v1", "--json"});
  EXPECT_EQ(ran.exit_code, 0);
  EXPECT_EQ(ran.out.find("\"metadata_ns\":0"), std::string::npos) << ran.out;
}

TEST(Rollback, ASnapshotThatIsNotThereIsToldBeforeAnythingIsDone) {
  FakeStore store;
  store.add("web", 512);
  EXPECT_EQ(run(store, {"snap", "rollback", "web@nope"}).exit_code, 3);
  for (const std::string& call : store.calls) EXPECT_FALSE(call.starts_with("rollback")) << call;
}

TEST(Export, AStreamIsRefusedWithAnotherWay) {
  FakeStore store;
  store.add("web", 512);
  const Ran ran = run(store, {"export", "web", "-"});
  EXPECT_EQ(ran.exit_code, 2);
  EXPECT_NE(ran.err.find("nbdcopy"), std::string::npos) << ran.err;
}

TEST(Export, AFolderThatIsMissingIsToldHowToBeMade) {
  FakeStore store;
  store.add("web", 512);
  const Ran ran = run(store, {"export", "web", "/nonexistent/folder/web.raw"});
  EXPECT_EQ(ran.exit_code, 3);
  EXPECT_NE(ran.err.find("mkdir -p /nonexistent/folder"), std::string::npos) << ran.err;
}

TEST(Clone, NoneAtAllIsAUsageFailure) {
  FakeStore store;
  store.add("web", 512).snapshots["v1"];
  const Ran ran = run(store, {"clone", "web@v1", "x", "--count", "0"});
  EXPECT_EQ(ran.exit_code, 2) << ran.err;
  EXPECT_EQ(store.disks.size(), 1U);
}

TEST(Verify, WhatCannotBeReadComesWithTheRepair) {
  FakeStore store;
  store.add("web", 512);
  store.failures["verify"] = Errc::unknown;
  const Ran ran = run(store, {"verify", "web"});
  EXPECT_EQ(ran.exit_code, 6);
  EXPECT_NE(ran.err.find("verify web --repair"), std::string::npos) << ran.err;
}

TEST(Owner, DiscardOfAFileInUseSaysWhatToEnd) {
  FakeStore store;
  store.add("web", 512);
  store.failures["discard_batch_file"] = Errc::busy;
  const Ran ran = run(store, {"owner", "discard", "web"});
  EXPECT_EQ(ran.exit_code, 5);
  EXPECT_NE(ran.err.find("vmstore detach web"), std::string::npos) << ran.err;
}

TEST(Explaining, VerbsThatAreNotNeededSayWhy) {
  FakeStore store;
  for (const char* verb : {"flatten", "sparsify", "protect", "unprotect"}) {
    const Ran ran = run(store, {verb, "web"});
    EXPECT_EQ(ran.exit_code, 0) << verb;
    EXPECT_NE(ran.out.find("nothing to"), std::string::npos) << verb;
  }
  EXPECT_TRUE(store.calls.empty());
}

TEST(Attach, WithoutAnUpSaysHowToGetOne) {
  FakeStore store;
  store.add("web", 512);
  const Ran ran = run(store, apart({"attach", "web"}));
  EXPECT_EQ(ran.exit_code, 6);
  EXPECT_NE(ran.err.find("vmstore up --detach"), std::string::npos) << ran.err;
  EXPECT_EQ(run(store, apart({"attach", "nope"})).exit_code, 3);
  EXPECT_EQ(run(store, apart({"attach", "web@nope"})).exit_code, 3);
}

class MetaTest : public testing::Test {
 protected:
  MetaTest() {
    char pattern[] = "/tmp/vmstore-test-XXXXXX";
    folder_ = mkdtemp(pattern);
    file_ = folder_ + "/backup";
  }
  ~MetaTest() override { std::filesystem::remove_all(folder_); }
  std::string folder_;
  std::string file_;
};

TEST_F(MetaTest, BackupGoesIntoAnEmptyStoreAndNoOther) {
  FakeStore store;
  store.catalogue = {{"/disk/1", "one"}, {"/name/web", "two"}};
  ASSERT_EQ(run(store, {"meta", "backup", file_}).exit_code, 0);
  EXPECT_EQ(run(store, {"meta", "backup", file_}).exit_code, 4);
  EXPECT_EQ(run(store, {"meta", "backup", file_, "--overwrite"}).exit_code, 0);
  FakeStore empty;
  EXPECT_EQ(run(empty, {"meta", "restore", file_}).exit_code, 0);
  EXPECT_EQ(empty.catalogue.size(), 2U);
  EXPECT_EQ(empty.catalogue[1].value, "two");
  EXPECT_EQ(run(empty, {"meta", "restore", file_}).exit_code, 4);
  const Ran ran = run(empty, {"meta", "restore", file_, "--accept-loss"});
  EXPECT_EQ(ran.exit_code, 2);
  EXPECT_NE(ran.err.find("--data DIR"), std::string::npos) << ran.err;
}

TEST_F(MetaTest, ADamagedBackupChangesNothing) {
  FakeStore store;
  store.catalogue = {{"/disk/1", "one"}};
  ASSERT_EQ(run(store, {"meta", "backup", file_}).exit_code, 0);
  std::filesystem::resize_file(file_, std::filesystem::file_size(file_) - 10);
  FakeStore empty;
  EXPECT_EQ(run(empty, {"meta", "restore", file_}).exit_code, 8);
  EXPECT_TRUE(empty.calls.empty());
}

TEST_F(MetaTest, ABackupThatFailsHalfWayLeavesNoFile) {
  FakeStore store;
  store.failures["export_catalogue"] = Errc::disconnected;
  EXPECT_EQ(run(store, {"meta", "backup", file_}).exit_code, 6);
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
}

TEST(Verify, NamesThatAreAllUnknownAreExitThree) {
  FakeStore store;
  store.add("web", 512);
  EXPECT_EQ(run(store, {"verify", "a", "b", "c"}).exit_code, 3);
  EXPECT_EQ(run(store, {"verify", "a", "web"}).exit_code, 9);
}

TEST(Export, ADiskThatCannotBeReadIsPointedToItsRepair) {
  FakeStore store;
  store.add("web", 512);
  for (const char* const step : {"snapshot", "open"}) {
    store.failures = {{step, Errc::unknown}};
    const Ran ran = run(store, {"export", "web", "/tmp/vmstore-test-none"});
    EXPECT_EQ(ran.exit_code, 6);
    EXPECT_NE(ran.err.find("vmstore verify web --repair"), std::string::npos) << ran.err;
  }
}

TEST(Export, ABatchFileWithADamagedHeadIsCalledSo) {
  FakeStore store;
  store.add("web", 512);
  store.failures["snapshot"] = Errc::foreign_store;
  const Ran ran = run(store, {"export", "web", "/tmp/vmstore-test-none"});
  EXPECT_EQ(ran.exit_code, 8);
  EXPECT_NE(ran.err.find("batch file"), std::string::npos) << ran.err;
  EXPECT_NE(ran.err.find("vmstore owner discard web"), std::string::npos) << ran.err;
}

TEST(Df, AWarningIsAnObjectForPrograms) {
  FakeStore store;
  store.warnings = {"the disk is slow"};
  const Ran ran = run(store, {"df", "--json"});
  const auto object = parse_json_object(ran.err);
  ASSERT_TRUE(object) << ran.err;
  EXPECT_EQ(json_text(*object, "note"), "the disk is slow");
}

TEST(HandOver, WhatAnotherProgramSaysIsOneObjectForPrograms) {
  std::ostringstream out;
  std::ostringstream err;
  OutputOptions options;
  options.format = Format::json;
  Output output(options, out, err);
  const auto failed =
      hand_over(output, "mount", {"/bin/sh", "-c", "echo a >&2; echo /nope: b >&2; exit 2"}, {});
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().exit_code, ExitCode::usage);
  EXPECT_EQ(failed.error().what, "/nope: b");
  EXPECT_EQ(err.str(), "");
  EXPECT_TRUE(hand_over(output, "mount", {"/bin/true"}, {}));
  EXPECT_TRUE(parse_json_object(out.str())) << out.str();
}

}  // namespace
}  // namespace vmstore::cli
