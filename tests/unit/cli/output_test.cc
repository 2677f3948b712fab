// SPDX-License-Identifier: Apache-2.0
#include "cli/output.h"

#include <gtest/gtest.h>

#include <sstream>

namespace vmstore::cli {
namespace {

Table sample() {
  return {"disks",
          {{"name"},
           {"size", CellKind::bytes},
           {"held", CellKind::yes_no},
           {"created", CellKind::time},
           {"id", CellKind::text, false}},
          {{std::string("web"), std::uint64_t{3} << 30, true, Cell(), std::string("1f")},
           {std::string("a,b"),
            std::uint64_t{512},
            false,
            std::uint64_t{1'000'000'000},
            std::string("2f")}}};
}

class OutputTest : public testing::Test {
 protected:
  std::string print(const OutputOptions& options, std::vector<Table> tables) {
    Output output(options, out_, err_);
    const Answer<void> printed = output.print(std::move(tables));
    if (!printed) return "failed: " + printed.error().what + " | " + printed.error().hint;
    return out_.str();
  }
  std::string print(const OutputOptions& options) { return print(options, {sample()}); }
  std::ostringstream out_;
  std::ostringstream err_;
};

TEST_F(OutputTest, TableAlignsAndShowsUnknownAsDash) {
  EXPECT_EQ(print({}),
            "NAME      SIZE  HELD  CREATED\n"
            "web   3.00 GiB  yes   -\n"
            "a,b      512 B  no    1970-01-01T00:00:01Z\n");
}

TEST_F(OutputTest, NoHeaderMeansTabs) {
  OutputOptions options;
  options.no_header = true;
  options.exact_bytes = true;
  options.columns = {"name", "size"};
  EXPECT_EQ(print(options), "web\t3221225472\na,b\t512\n");
}

TEST_F(OutputTest, JsonIsExactAndVersioned) {
  OutputOptions options;
  options.format = Format::json;
  EXPECT_EQ(print(options),
            "{\"output_version\":1,\"disks\":["
            "{\"name\":\"web\",\"size\":3221225472,\"held\":true,\"created\":null,\"id\":\"1f\"},"
            "{\"name\":\"a,b\",\"size\":512,\"held\":false,\"created\":\"1970-01-01T00:00:01Z\","
            "\"id\":\"2f\"}]}\n");
}

TEST_F(OutputTest, JsonLinesCarryTheirKind) {
  OutputOptions options;
  options.format = Format::jsonl;
  options.columns = {"name"};
  EXPECT_EQ(print(options),
            "{\"output_version\":1,\"kind\":\"disks\",\"name\":\"web\"}\n"
            "{\"output_version\":1,\"kind\":\"disks\",\"name\":\"a,b\"}\n");
}

TEST_F(OutputTest, CsvQuotes) {
  OutputOptions options;
  options.format = Format::csv;
  options.columns = {"name", "size"};
  EXPECT_EQ(print(options), "name,size\r\nweb,3221225472\r\n\"a,b\",512\r\n");
}

TEST_F(OutputTest, SortsBothWays) {
  OutputOptions options;
  options.columns = {"name"};
  options.no_header = true;
  options.sort = "size";
  EXPECT_EQ(print(options), "a,b\nweb\n");
  out_.str("");
  options.sort = "-size";
  EXPECT_EQ(print(options), "web\na,b\n");
}

TEST_F(OutputTest, UnknownColumnNamesTheNearestAndPrintsNothing) {
  OutputOptions options;
  options.columns = {"nmae"};
  EXPECT_EQ(print(options),
            "failed: no column 'nmae' (closest: name) | columns: name, size, held, created, id");
  options.columns = {};
  options.sort = "sise";
  EXPECT_EQ(print(options).substr(0, 24), "failed: no column 'sise'");
  EXPECT_EQ(out_.str(), "");
}

TEST_F(OutputTest, RecordIsALineForEachValue) {
  Table record = sample();
  record.record = true;
  record.rows.pop_back();
  EXPECT_EQ(print({}, {record}),
            "name     web\n"
            "size     3.00 GiB\n"
            "held     yes\n"
            "created  -\n");
}

TEST_F(OutputTest, TerminalNeverObeysANameOfSomebodyElse) {
  Table table{"disks", {{"name"}}, {{std::string("a\x1b[2Jb\x07")}}};
  OutputOptions options;
  options.no_header = true;
  EXPECT_EQ(print(options, {table}), "a?[2Jb?\n");
}

TEST_F(OutputTest, FailureIsOneJsonObjectOnStderr) {
  OutputOptions options;
  options.format = Format::json;
  Output output(options, out_, err_);
  output.failure(Failure{ExitCode::not_found, "not_found", "web", "no such disk", "vmstore ls"});
  EXPECT_EQ(err_.str(),
            "{\"output_version\":1,\"error\":{\"code\":\"not_found\",\"exit_code\":3,"
            "\"object\":\"web\",\"message\":\"no such disk\",\"hint\":\"vmstore ls\"}}\n");
  EXPECT_EQ(out_.str(), "");
}

TEST_F(OutputTest, QuietDropsSentencesButNotJson) {
  OutputOptions options;
  options.quiet = true;
  Output(options, out_, err_).done("made it", {{"action", "create"}});
  EXPECT_EQ(out_.str(), "");
  options.format = Format::json;
  Output(options, out_, err_).done("made it", {{"action", "create"}});
  EXPECT_EQ(out_.str(), "{\"output_version\":1,\"action\":\"create\"}\n");
}

}  // namespace
}  // namespace vmstore::cli
