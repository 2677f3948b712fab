// SPDX-License-Identifier: Apache-2.0
#include "cli/image_file.h"

#include <array>
#include <filesystem>
#include <optional>
#include <vector>

#include "cli/json.h"
#include "cli/process.h"

namespace vmstore::cli {
namespace {

constexpr std::array<std::string_view, 5> kFormats{"raw", "qcow2", "vmdk", "vhdx", "vdi"};
constexpr int kCheckFoundDamage = 2;
constexpr int kCheckFoundLeaks = 3;
constexpr int kCheckUnsupported = 63;

/// The first line of what a program complained about, without its name.
std::string complaint(std::string_view err) {
  std::string_view line = err.substr(0, err.find('\n'));
  if (line.starts_with("qemu-img: ")) line.remove_prefix(10);
  return line.empty() ? "qemu-img failed" : std::string(line);
}

std::string link_in(const json::object& info, const std::string& path) {
  if (const auto backing = json_text(info, "backing-filename")) return *backing;
  const json::value* specific = info.if_contains("format-specific");
  if (specific == nullptr || !specific->is_object()) return {};
  const json::value* data = specific->get_object().if_contains("data");
  if (data == nullptr || !data->is_object()) return {};
  if (const auto file = json_text(data->get_object(), "data-file")) return *file;
  const json::value* extents = data->get_object().if_contains("extents");
  if (extents == nullptr || !extents->is_array()) return {};
  for (const json::value& extent : extents->get_array()) {
    if (!extent.is_object()) continue;
    const std::string file = json_text(extent.get_object(), "filename").value_or("");
    if (file != path) return file;
  }
  return {};
}

Failure truncated() {
  return Failure::make(ExitCode::failed,
                       {},
                       "the image is cut off: its data goes on behind the end "
                       "of the file",
                       "fetch the file again");
}

Answer<ImageInfo> ask_info(const std::string& program,
                           const std::string& path,
                           const std::string& format) {
  std::vector<std::string> argv{program, "info", "--output=json"};
  if (!format.empty()) argv.insert(argv.end(), {"-f", format});
  argv.push_back(path);
  VMS_TRY(const CapturedRun run, run_and_capture(std::move(argv)));
  if (run.exit_code != 0) return Failure::make(ExitCode::failed, path, complaint(run.err));
  return parse_image_info(run.out, path);
}

/// qemu-img check finds broken tables, the map finds data that is not there.
Answer<void> check_whole(const std::string& program,
                         const std::string& path,
                         const std::string& format) {
  VMS_TRY(const CapturedRun check,
          run_and_capture({program, "check", "-f", format, "--output=json", path}));
  const bool is_fine = check.exit_code == 0 || check.exit_code == kCheckFoundLeaks ||
                       check.exit_code == kCheckUnsupported;
  if (!is_fine) {
    const bool found = check.exit_code == kCheckFoundDamage && check.err.empty();
    return Failure::make(
        ExitCode::failed,
        path,
        found ? "the image is damaged" : "the image is damaged: " + complaint(check.err),
        "fetch it again, or try: qemu-img check -r all");
  }
  std::error_code error;
  const std::uintmax_t bytes = std::filesystem::file_size(path, error);
  if (error) return Failure::from(Error(errno_to_errc(error.value()), error.value()), path);
  Answer<CapturedRun> map =
      run_and_capture({program, "map", "-f", format, "--output=json", path},
                      [&](std::string_view line) { return check_map_line(line, bytes); });
  if (!map) {
    Failure failure = map.error();
    failure.object = path;
    return failure;
  }
  if (map->exit_code != 0) return Failure::make(ExitCode::failed, path, complaint(map->err));
  return {};
}

}  // namespace

Answer<ImageInfo> parse_image_info(std::string_view text, const std::string& path) {
  const std::optional<json::object> info = parse_json_object(text);
  const std::optional<std::uint64_t> size =
      info ? json_count(*info, "virtual-size") : std::optional<std::uint64_t>();
  const std::string format = info ? json_text(*info, "format").value_or("") : std::string();
  if (!size || format.empty()) {
    return Failure::make(ExitCode::failed, path, "qemu-img says nothing about this file");
  }
  return ImageInfo{{format, *size}, link_in(*info, path)};
}

Answer<void> check_map_line(std::string_view line, std::uint64_t file_bytes) {
  const auto from = line.find('{');
  const auto to = line.rfind('}');
  if (from == std::string_view::npos || to == std::string_view::npos || to < from) return {};
  const std::optional<json::object> extent = parse_json_object(line.substr(from, to - from + 1));
  if (!extent) return {};
  const std::optional<std::uint64_t> offset = json_count(*extent, "offset");
  const std::uint64_t length = json_count(*extent, "length").value_or(0);
  const bool is_hole = !json_flag(*extent, "data");
  if (!offset || is_hole || json_count(*extent, "depth").value_or(0) != 0) return {};
  // To the byte: QEMU reads what lies behind the end of the file as zeros.
  if (*offset > file_bytes || length > file_bytes - *offset) return truncated();
  return {};
}

Answer<ImageFacts> inspect_image(const std::string& path, const ImageOptions& options) {
  VMS_TRY(const std::string program, find_program("qemu-img", "qemu-utils"));
  VMS_TRY(const ImageInfo info, ask_info(program, path, options.format));
  bool is_known = false;
  for (const std::string_view format : kFormats) is_known |= format == info.facts.format;
  if (!is_known) {
    return Failure::make(ExitCode::failed,
                         path,
                         "is a " + info.facts.format +
                             " image, which is "
                             "not imported",
                         "convert it first: qemu-img convert -O qcow2");
  }
  if (!info.link.empty() && !options.follow_links) {
    return Failure::make(ExitCode::failed,
                         path,
                         "the image reads another file: " + info.link,
                         "give --follow-links if you trust the image");
  }
  if (options.check && info.facts.format != "raw" && info.link.empty()) {
    VMS_CHECK(check_whole(program, path, info.facts.format));
  }
  return info.facts;
}

}  // namespace vmstore::cli
