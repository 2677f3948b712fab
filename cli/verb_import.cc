// SPDX-License-Identifier: Apache-2.0
// import: a file, a stream or an NBD server becomes a disk. It is made under a name of its own and
// renamed when it is whole and durable; whatever goes wrong before that leaves nothing,
// and what a killed import leaves is removed by the next one.
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <filesystem>
#include <iostream>
#include <optional>

#include "base/limits.h"
#include "cli/arguments.h"
#include "cli/copy_in.h"
#include "cli/disk_tables.h"
#include "cli/image_file.h"
#include "cli/interrupt.h"
#include "cli/leftover.h"
#include "cli/verbs.h"

namespace vmstore::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kWriters = 2;
constexpr std::size_t kBuffers = 24;

struct ImportOptions {
  std::string source;
  std::string name;
  std::string source_format;
  std::string resize;
  std::uint32_t copies = 1;
  bool follow_links = false;
  bool skip_check = false;
};

std::uint64_t round_up_to_sector(std::uint64_t bytes) {
  return (bytes + kSectorBytes - 1) / kSectorBytes * kSectorBytes;
}

/// A disk that is removed again unless it was kept.
class TemporaryDisk {
 public:
  TemporaryDisk(Context& context, disk::Client& client, std::string name)
      : context_(context), client_(client), name_(std::move(name)) {}
  TemporaryDisk(const TemporaryDisk&) = delete;
  TemporaryDisk& operator=(const TemporaryDisk&) = delete;
  ~TemporaryDisk() {
    if (name_.empty()) return;
    if (open_) ignore(open_->close(), "it is removed at once");
    open_.reset();
    const Result<void> removed = client_.remove(name_, true, true);
    if (!removed && removed.error() != Error(Errc::not_found)) {
      context_.output().note(name_ + " is left behind; remove it with: vmstore rm --now --force " +
                             name_);
    }
  }

  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  void set_open(std::unique_ptr<disk::BlockingDisk> opened) { open_ = std::move(opened); }
  [[nodiscard]] disk::BlockingDisk& disk() noexcept { return *open_; }
  [[nodiscard]] Result<void> close() {
    const Result<void> closed = open_->close();
    open_.reset();
    return closed;
  }
  void keep() { name_.clear(); }

 private:
  Context& context_;
  disk::Client& client_;
  std::string name_;
  std::unique_ptr<disk::BlockingDisk> open_;
};

/// What is imported; `source` is empty for a stream, whose size shows at its end.
struct Input {
  std::string label;
  std::unique_ptr<CopySource> source;
};

bool is_regular_stdin() {
  struct stat info {};
  return fstat(STDIN_FILENO, &info) == 0 && S_ISREG(info.st_mode);
}

Answer<Input> open_file(const ImportOptions& options,
                        const std::string& label,
                        const std::string& path) {
  std::string format = options.source_format;
  if (format != "raw") {
    VMS_TRY(const ImageFacts facts,
            inspect_image(path, {format, options.follow_links, !options.skip_check}));
    format = facts.format;
  }
  Input input{label, nullptr};
  if (format == "raw") {
    VMS_TRY(input.source, open_raw_file(path));
  } else {
    VMS_TRY(input.source, open_image(path, format));
  }
  return input;
}

Answer<Input> open_input(const ImportOptions& options) {
  const std::string& source = options.source;
  if (source.starts_with("nbd://") || source.starts_with("nbd+unix://") ||
      source.starts_with("nbds://") || source.starts_with("nbds+unix://")) {
    Input input{source, nullptr};
    VMS_TRY(input.source, open_nbd(source));
    return input;
  }
  if (const auto scheme = source.find("://"); scheme != std::string::npos) {
    return Failure::make(ExitCode::usage,
                         source,
                         source.substr(0, scheme) + " is not read in this version",
                         "fetch the file first, or pipe it: curl … | vmstore import - NAME");
  }
  if (source == "-") {
    if (is_regular_stdin()) return open_file(options, "standard input", "/proc/self/fd/0");
    if (!options.source_format.empty() && options.source_format != "raw") {
      return Failure::usage("only raw images can be read from a pipe",
                            "save the image to a file first");
    }
    return Input{"standard input", nullptr};
  }
  std::error_code error;
  const std::filesystem::path path = std::filesystem::canonical(source, error);
  if (error) {
    return Failure::from(Error(errno_to_errc(error.value()), error.value()), source);
  }
  return open_file(options, source, path.string());
}

struct Sizes {
  std::uint64_t at_first = 0;
  std::optional<std::uint64_t> wanted;  // --resize
};

Answer<Sizes> choose_sizes(const ImportOptions& options, const Input& input) {
  Sizes sizes;
  const std::uint64_t source =
      input.source ? round_up_to_sector(input.source->size_bytes()) : limits::kDiskBytesMax;
  if (source == 0) return Failure::make(ExitCode::failed, input.label, "is empty");
  if (source > limits::kDiskBytesMax) {
    return Failure::make(ExitCode::failed, input.label, "is larger than 256 TiB");
  }
  sizes.at_first = source;
  if (options.resize.empty()) return sizes;
  VMS_TRY(const std::uint64_t wanted, size_argument(options.resize));
  if (input.source && wanted < source) {
    return Failure::usage("--resize " + options.resize + " is smaller than the source, " +
                          format_size(source));
  }
  sizes.wanted = wanted;
  sizes.at_first = wanted;
  return sizes;
}

/// Copies, and makes everything durable.
Answer<CopyTotals> fill(Context& context,
                        Input& input,
                        TemporaryDisk& temporary,
                        std::uint64_t size_max) {
  Progress progress(context.options().progress, isatty(STDERR_FILENO) != 0, std::cerr, "import");
  progress.begin(input.source ? input.source->size_bytes() : 0, Clock::now());
  const auto tell = [&](std::uint64_t position, std::uint64_t read) {
    progress.update(position, format_size(read) + " read", Clock::now());
  };
  WritePool pool(temporary.disk(), temporary.name(), kWriters, kBuffers);
  Answer<CopyTotals> totals = input.source ? input.source->copy(pool, tell)
                                           : copy_stream(STDIN_FILENO, size_max, pool, tell);
  if (!totals) return totals;
  VMS_CHECK(pool.finish());
  if (interrupted()) return interruption();
  VMS_CHECK(about(temporary.disk().flush(), temporary.name()));
  progress.finish(Clock::now());
  return totals;
}

Answer<void> check_is_free(disk::Client& client, const std::string& name) {
  const Result<disk::DiskSummary> there = client.details(name);
  if (there) return disk_failure(client, Errc::exists, name);
  if (there.error() != Error(Errc::not_found)) return disk_failure(client, there.error(), name);
  return {};
}

/// Gives the finished disk its size and its name.
Answer<void> finish(disk::Client& client,
                    TemporaryDisk& temporary,
                    const std::string& name,
                    std::uint64_t bytes) {
  const Result<void> closed = temporary.close();
  if (!closed) return Failure::from(closed.error(), name);
  const Result<disk::DiskSummary> made = client.details(temporary.name());
  if (!made) return Failure::from(made.error(), temporary.name());
  if (made->size_bytes != bytes) {
    const Result<void> resized = client.resize(temporary.name(), bytes, true, false);
    if (!resized) return Failure::from(resized.error(), temporary.name());
  }
  if (interrupted()) return interruption();
  const Result<void> renamed = client.rename(temporary.name(), name);
  if (!renamed) return disk_failure(client, renamed.error(), name);
  temporary.keep();
  return {};
}

void tell(Context& context,
          const std::string& name,
          std::uint64_t bytes,
          const Cell& mapped,
          const CopyTotals& totals,
          Clock::duration took) {
  const auto tenths = std::chrono::duration_cast<std::chrono::milliseconds>(took).count() / 100;
  json::object fields{{"action", "import"},
                      {"name", name},
                      {"size", bytes},
                      {"read", totals.read_bytes},
                      {"seconds", std::chrono::duration<double>(took).count()}};
  std::string what = "imported " + name + "  " + format_size(bytes) + " logical, " +
                     format_size(totals.read_bytes) + " read";
  if (const auto* const known = std::get_if<std::uint64_t>(&mapped)) {
    fields["mapped"] = *known;
    what += ", " + format_size(*known) + " mapped";
  }
  context.output().done(what + " in " + std::to_string(tenths / 10) + "." +
                            std::to_string(tenths % 10) + " s     next: vmstore clone " + name +
                            " web --count 8",
                        std::move(fields));
}

Answer<void> import_disk(Context& context, const ImportOptions& options) {
  VMS_TRY(const std::string name, disk_argument(options.name));
  VMS_TRY(disk::Client * client, context.client());
  VMS_CHECK(check_is_free(*client, name));
  const KeepGoing until_done;
  const Clock::time_point start = Clock::now();
  VMS_TRY(Input input, open_input(options));
  VMS_TRY(const Sizes sizes, choose_sizes(options, input));
  if (context.options().dry_run) {
    context.output().done(
        "would import " + input.label + " as " + name +
            (input.source ? ", " + format_size(sizes.at_first) : std::string()),
        {{"action", "import"}, {"name", name}, {"size", sizes.at_first}, {"dry_run", true}});
    return {};
  }
  sweep_disks(context, *client, kImportPrefix);
  TemporaryDisk temporary(context, *client, temporary_name(kImportPrefix));
  const Result<disk::DiskSummary> made =
      client->create(temporary.name(), sizes.at_first, options.copies);
  if (!made) return Failure::from(made.error(), name);
  disk::DiskOpenOptions open;
  open.reference = temporary.name();
  open.bulk = true;
  Result<std::unique_ptr<disk::BlockingDisk>> opened = client->open(open);
  if (!opened) return Failure::from(opened.error(), name);
  temporary.set_open(std::move(*opened));
  VMS_TRY(const CopyTotals totals, fill(context, input, temporary, sizes.at_first));
  if (totals.size_bytes == 0) return Failure::make(ExitCode::failed, input.label, "is empty");
  const std::uint64_t bytes = sizes.wanted.value_or(round_up_to_sector(totals.size_bytes));
  VMS_CHECK(finish(*client, temporary, name, bytes));
  const Clock::duration took = Clock::now() - start;
  tell(context, name, bytes, mapped_cell(*client, name), totals, took);
  return {};
}

}  // namespace

void add_import_verbs(VerbBook& book) {
  CLI::App& verb =
      book.verb("import",
                {"Makes a disk from an image: raw, qcow2, vmdk, vhdx, vdi, or an NBD server.",
                 "import debian-12.qcow2 base/debian-12",
                 "import nbd://other/vm1 vm1"});
  auto options = std::make_shared<ImportOptions>();
  verb.add_option("SRC", options->source, "FILE, - (raw from standard input) or nbd:// URI")
      ->required();
  verb.add_option("NAME", options->name, "The new disk")->required();
  verb.add_option("--source-format",
                  options->source_format,
                  "Of the image, instead of what its content looks like");
  verb.add_option("--resize", options->resize, "Make the disk this large");
  verb.add_option("--copies", options->copies, "On how many nodes each byte is kept");
  verb.add_flag("--follow-links",
                options->follow_links,
                "Read other files the image names (backing file, external data)");
  verb.add_flag("--skip-check", options->skip_check, "Import an image that qemu-img calls damaged");
  book.action(verb, [options](Context& context) { return import_disk(context, *options); });
}

}  // namespace vmstore::cli
