// SPDX-License-Identifier: Apache-2.0
#include "cli/output.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <ctime>
#include <optional>

#include "base/units.h"
#include "cli/nearest.h"

namespace vmstore::cli {
namespace {

constexpr std::string_view kBold = "\x1b[1m";
constexpr std::string_view kRed = "\x1b[31m";
constexpr std::string_view kPlain = "\x1b[0m";

bool is_known(const Cell& cell) noexcept {
  return !std::holds_alternative<std::monostate>(cell);
}

/// As a program reads it: exact.
std::string exact(const Column& column, const Cell& cell) {
  if (!is_known(cell)) return {};
  if (const auto* text = std::get_if<std::string>(&cell)) return *text;
  if (const auto* flag = std::get_if<bool>(&cell)) return *flag ? "true" : "false";
  const std::uint64_t number = std::get<std::uint64_t>(cell);
  return column.kind == CellKind::time ? format_time(number) : std::to_string(number);
}

json::value to_json(const Column& column, const Cell& cell) {
  if (!is_known(cell)) return nullptr;
  if (const auto* flag = std::get_if<bool>(&cell)) return *flag;
  if (const auto* number = std::get_if<std::uint64_t>(&cell);
      number && column.kind != CellKind::time)
    return *number;
  return json::value(exact(column, cell));
}

json::object row_to_json(const Table& table, const std::vector<Cell>& row) {
  json::object object;
  for (std::size_t i = 0; i < table.columns.size(); ++i) {
    object[table.columns[i].name] = to_json(table.columns[i], row[i]);
  }
  return object;
}

std::string csv_field(std::string text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + '"';
}

/// Columns of a terminal that a UTF-8 text takes, near enough: its code points.
std::size_t width_of(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0U) != 0x80U;
  }));
}

bool is_right_aligned(CellKind kind) noexcept {
  return kind == CellKind::bytes || kind == CellKind::count;
}

std::optional<std::size_t> column_index(const Table& table, std::string_view name) {
  const auto found = std::find_if(table.columns.begin(),
                                  table.columns.end(),
                                  [&](const Column& column) { return column.name == name; });
  if (found == table.columns.end()) return std::nullopt;
  return static_cast<std::size_t>(found - table.columns.begin());
}

Failure no_such_column(const std::vector<Table>& tables, const std::string& name) {
  std::vector<std::string> known;
  std::string all;
  for (const Table& table : tables) {
    for (const Column& column : table.columns) {
      known.push_back(column.name);
      all += (all.empty() ? "" : ", ") + column.name;
    }
  }
  const std::optional<std::string> close = nearest(name, known);
  return Failure::usage("no column '" + name + "'" + (close ? " (closest: " + *close + ")" : ""),
                        "columns: " + all);
}

/// Keeps the named columns of the tables that have any of them, in the order named.
Answer<void> select_columns(std::vector<Table>& tables, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    if (std::none_of(tables.begin(), tables.end(), [&](const Table& t) {
          return column_index(t, name).has_value();
        })) {
      return no_such_column(tables, name);
    }
  }
  std::vector<Table> selected;
  for (const Table& table : tables) {
    Table kept{table.name, {}, std::vector<std::vector<Cell>>(table.rows.size()), table.record};
    for (const std::string& name : names) {
      const auto index = column_index(table, name);
      if (!index) continue;
      kept.columns.push_back(table.columns[*index]);
      kept.columns.back().in_table = true;
      for (std::size_t i = 0; i < table.rows.size(); ++i) {
        kept.rows[i].push_back(table.rows[i][*index]);
      }
    }
    if (!kept.columns.empty()) selected.push_back(std::move(kept));
  }
  tables = std::move(selected);
  return {};
}

Answer<void> sort_rows(std::vector<Table>& tables, std::string_view by) {
  const bool down = by.starts_with('-');
  const std::string name(by.substr(down ? 1 : 0));
  bool found = false;
  for (Table& table : tables) {
    const auto index = column_index(table, name);
    if (!index) continue;
    found = true;
    std::stable_sort(table.rows.begin(), table.rows.end(), [&](const auto& a, const auto& b) {
      return down ? b[*index] < a[*index] : a[*index] < b[*index];
    });
  }
  if (!found) return no_such_column(tables, name);
  return {};
}

void hide_columns(Table& table) {
  Table kept{table.name, {}, std::vector<std::vector<Cell>>(table.rows.size()), table.record};
  for (std::size_t c = 0; c < table.columns.size(); ++c) {
    if (!table.columns[c].in_table) continue;
    kept.columns.push_back(table.columns[c]);
    for (std::size_t r = 0; r < table.rows.size(); ++r) {
      kept.rows[r].push_back(table.rows[r][c]);
    }
  }
  table = std::move(kept);
}

/// A line for people, or one JSON object with "note".
void say(std::ostream& err, bool for_programs, std::string_view text) {
  if (for_programs) {
    const json::object document{{"output_version", kOutputVersion}, {"note", text}};
    err << json::serialize(document) << "\n" << std::flush;
    return;
  }
  err << "vmstore: " << printable(text) << "\n" << std::flush;
}

}  // namespace

std::string format_time(std::uint64_t ns_since_1970) {
  const auto seconds = static_cast<std::time_t>(ns_since_1970 / 1'000'000'000U);
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  std::array<char, 32> text{};
  const std::size_t size = std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return {text.data(), size};
}

std::string printable(std::string_view text) {
  std::string clean(text);
  for (char& c : clean) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return clean;
}

Answer<void> Output::print(std::vector<Table> tables) {
  if (!options_.sort.empty()) VMS_CHECK(sort_rows(tables, options_.sort));
  if (!options_.columns.empty()) VMS_CHECK(select_columns(tables, options_.columns));
  switch (options_.format) {
    case Format::json:
      print_json(tables);
      return {};
    case Format::jsonl:
      print_jsonl(tables);
      return {};
    case Format::csv:
      for (const Table& table : tables) print_csv(table);
      return {};
    case Format::table:
      break;
  }
  bool first = true;
  for (Table& table : tables) {
    hide_columns(table);
    if (table.rows.empty() && tables.size() > 1) continue;
    if (!first && !options_.no_header) out_ << "\n";
    first = false;
    if (table.record) {
      print_record(table);
    } else {
      print_table(table);
    }
  }
  return {};
}

std::string Output::shown(const Column& column, const Cell& cell) const {
  if (!is_known(cell)) return "-";
  if (const auto* flag = std::get_if<bool>(&cell)) return *flag ? "yes" : "no";
  if (column.kind == CellKind::bytes && !options_.exact_bytes) {
    return format_size(std::get<std::uint64_t>(cell));
  }
  std::string text = printable(exact(column, cell));
  return text.empty() ? "-" : text;
}

std::string Output::bold(std::string_view text) const {
  if (!options_.color_out) return std::string(text);
  return std::string(kBold).append(text).append(kPlain);
}

void Output::print_table(const Table& table) {
  if (options_.no_header) {
    for (const auto& row : table.rows) {
      for (std::size_t i = 0; i < row.size(); ++i) {
        out_ << (i == 0 ? "" : "\t") << shown(table.columns[i], row[i]);
      }
      out_ << "\n";
    }
    return;
  }
  std::vector<std::vector<std::string>> lines(1);
  for (const Column& column : table.columns) {
    std::string name = column.name;
    for (char& c : name) c = c == '_' ? ' ' : static_cast<char>(std::toupper(c));
    lines[0].push_back(std::move(name));
  }
  for (const auto& row : table.rows) {
    auto& line = lines.emplace_back();
    for (std::size_t i = 0; i < row.size(); ++i) line.push_back(shown(table.columns[i], row[i]));
  }
  std::vector<std::size_t> widths(table.columns.size());
  for (const auto& line : lines) {
    for (std::size_t i = 0; i < line.size(); ++i)
      widths[i] = std::max(widths[i], width_of(line[i]));
  }
  for (std::size_t l = 0; l < lines.size(); ++l) {
    for (std::size_t i = 0; i < lines[l].size(); ++i) {
      const std::string pad(widths[i] - width_of(lines[l][i]), ' ');
      const std::string text = l == 0 ? bold(lines[l][i]) : lines[l][i];
      const bool last = i + 1 == lines[l].size();
      out_ << (is_right_aligned(table.columns[i].kind) ? pad + text
               : last                                  ? text
                                                       : text + pad)
           << (last ? "\n" : "  ");
    }
  }
}

void Output::print_record(const Table& table) {
  std::size_t widest = 0;
  for (const Column& column : table.columns) widest = std::max(widest, column.name.size());
  for (const auto& row : table.rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string& name = table.columns[i].name;
      const std::string value = shown(table.columns[i], row[i]);
      if (options_.no_header) {
        out_ << name << "\t" << value << "\n";
      } else {
        out_ << bold(name) << std::string(widest - name.size() + 2, ' ') << value << "\n";
      }
    }
  }
}

void Output::print_csv(const Table& table) {
  if (!options_.no_header) {
    for (std::size_t i = 0; i < table.columns.size(); ++i) {
      out_ << (i == 0 ? "" : ",") << csv_field(table.columns[i].name);
    }
    out_ << "\r\n";
  }
  for (const auto& row : table.rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      out_ << (i == 0 ? "" : ",") << csv_field(exact(table.columns[i], row[i]));
    }
    out_ << "\r\n";
  }
}

void Output::print_json(const std::vector<Table>& tables) {
  json::object document;
  document["output_version"] = kOutputVersion;
  for (const Table& table : tables) {
    if (table.record) {
      document[table.name] = row_to_json(table, table.rows.at(0));
      continue;
    }
    json::array rows;
    for (const auto& row : table.rows) rows.push_back(row_to_json(table, row));
    document[table.name] = std::move(rows);
  }
  out_ << json::serialize(document) << "\n";
}

void Output::print_jsonl(const std::vector<Table>& tables) {
  for (const Table& table : tables) {
    for (const auto& row : table.rows) {
      json::object line;
      line["output_version"] = kOutputVersion;
      line["kind"] = table.name;
      for (auto& member : row_to_json(table, row)) line.insert(member);
      out_ << json::serialize(line) << "\n";
    }
  }
}

void Output::done(const std::string& sentence, json::object fields) {
  if (for_programs()) {
    json::object document;
    document["output_version"] = kOutputVersion;
    for (auto& field : fields) document.insert(field);
    out_ << json::serialize(document) << "\n";
  } else if (!options_.quiet && !sentence.empty()) {
    out_ << sentence << "\n";
  }
}

void Output::text(std::string_view name, std::string_view text) {
  if (for_programs()) {
    json::object document;
    document["output_version"] = kOutputVersion;
    document[name] = text;
    out_ << json::serialize(document) << "\n";
  } else {
    out_ << text << (text.ends_with('\n') ? "" : "\n");
  }
}

void Output::note(std::string_view text) {
  if (!options_.quiet) say(err_, for_programs(), text);
}

void Output::detail(std::string_view text) {
  if (options_.verbosity > 0) say(err_, for_programs(), text);
}

void Output::failure(const Failure& failure) {
  if (for_programs()) {
    json::object error;
    error["code"] = failure.code;
    error["exit_code"] = static_cast<std::uint64_t>(failure.exit_code);
    error["object"] = failure.object;
    error["message"] = failure.what;
    error["hint"] = failure.hint;
    json::object document;
    document["output_version"] = kOutputVersion;
    document["error"] = std::move(error);
    err_ << json::serialize(document) << "\n" << std::flush;
    return;
  }
  const std::string_view red = options_.color_err ? kRed : std::string_view();
  const std::string_view plain = options_.color_err ? kPlain : std::string_view();
  err_ << red << "vmstore:" << plain << " ";
  if (!failure.object.empty()) err_ << printable(failure.object) << ": ";
  err_ << printable(failure.what) << "\n";
  if (!failure.hint.empty()) err_ << "  next: " << printable(failure.hint) << "\n";
  err_.flush();
}

}  // namespace vmstore::cli
