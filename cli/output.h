// SPDX-License-Identifier: Apache-2.0
// What a command prints: tables for people, JSON, JSON lines and CSV for programs.
//
// Invariants: data goes to `out`, everything else to `err`; JSON carries output_version and exact
// integers in bytes; what is unknown is "-" in a table and null in JSON, never a guess; bytes that
// a terminal would obey never reach it.
#pragma once

#include <cstdint>
#include <ostream>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "cli/failure.h"
#include "cli/json.h"

namespace vmstore::cli {

inline constexpr std::uint64_t kOutputVersion = 1;

enum class Format { table, json, jsonl, csv };

enum class CellKind {
  text,
  bytes,  // "1.50 GiB" in a table, exact elsewhere
  count,
  yes_no,
  time,  // nanoseconds since 1970; RFC 3339 in UTC everywhere
};

/// Empty = not known. REQUIRES: the type fits the column's kind (text: string; yes_no: bool; else
/// uint64).
using Cell = std::variant<std::monostate, std::string, std::uint64_t, bool>;

struct Column {
  std::string name;
  CellKind kind = CellKind::text;
  bool in_table = true;  // false: in a table only when -o names it
};

struct Table {
  std::string name;  // of the array in JSON ("disks"), or of the object when it is a record
  std::vector<Column> columns;
  std::vector<std::vector<Cell>> rows;
  bool record = false;  // exactly one row, shown as lines of "name value"
};

struct OutputOptions {
  Format format = Format::table;
  bool no_header = false;    // -H: and tabs between the columns
  bool exact_bytes = false;  // --bytes
  bool quiet = false;
  unsigned verbosity = 0;
  bool color_out = false;
  bool color_err = false;
  std::vector<std::string> columns;  // -o
  std::string sort;                  // -s; "-size" sorts downwards
};

class Output {
 public:
  Output(OutputOptions options, std::ostream& out, std::ostream& err)
      : options_(std::move(options)), out_(out), err_(err) {}

  /// One document. -o and -s apply to the tables that have such columns; a name that none has is a
  /// usage failure and nothing is printed.
  [[nodiscard]] Answer<void> print(std::vector<Table> tables);

  /// What a changing command did: a sentence for people, `fields` for programs. Quiet drops the
  /// sentence, never the JSON.
  void done(const std::string& sentence, json::object fields);
  /// Data that is one piece of text: a URI, a script, a snippet.
  void text(std::string_view name, std::string_view text);

  /// To stderr, unless quiet.
  void note(std::string_view text);
  /// To stderr with -v.
  void detail(std::string_view text);
  /// To stderr, always: one line for people (and one for the hint), or one JSON object.
  void failure(const Failure& failure);

  [[nodiscard]] const OutputOptions& options() const noexcept { return options_; }
  [[nodiscard]] bool for_programs() const noexcept {
    return options_.format == Format::json || options_.format == Format::jsonl;
  }

 private:
  void print_table(const Table& table);
  void print_record(const Table& table);
  void print_csv(const Table& table);
  void print_json(const std::vector<Table>& tables);
  void print_jsonl(const std::vector<Table>& tables);
  [[nodiscard]] std::string shown(const Column& column, const Cell& cell) const;
  [[nodiscard]] std::string bold(std::string_view text) const;

  OutputOptions options_;
  std::ostream& out_;
  std::ostream& err_;
};

/// "2026-11-21T04:26:48Z".
[[nodiscard]] std::string format_time(std::uint64_t ns_since_1970);
/// `text` with what a terminal would obey replaced by '?'.
[[nodiscard]] std::string printable(std::string_view text);

}  // namespace vmstore::cli
