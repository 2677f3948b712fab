// SPDX-License-Identifier: Apache-2.0
// export: a disk or snapshot becomes a file. A disk is read through a snapshot that is taken for it
// and removed again, so the file is of one instant although the guest goes on.
#include <unistd.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <array>
#include <cstdio>
#include <iostream>
#include <optional>

#include "base/checksum.h"
#include "cli/arguments.h"
#include "cli/interrupt.h"
#include "cli/leftover.h"
#include "cli/output_file.h"
#include "cli/process.h"
#include "cli/verbs.h"

namespace vmstore::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kPieceBytes = std::size_t{1} << 20;
constexpr std::uint64_t kExtentAskBytes = std::uint64_t{1} << 30;
constexpr std::size_t kExtentsMax = 4096;

struct ExportOptions {
  std::string reference;
  std::string destination;
  std::string format = "raw";
  bool sha256 = false;
  bool overwrite = false;
};

/// A snapshot for one export; removed when that is over.
class TemporarySnapshot {
 public:
  TemporarySnapshot(Context& context, disk::Client& client, DiskReference reference)
      : context_(context), client_(client), reference_(std::move(reference)) {}
  TemporarySnapshot(const TemporarySnapshot&) = delete;
  TemporarySnapshot& operator=(const TemporarySnapshot&) = delete;
  ~TemporarySnapshot() {
    if (!is_taken_) return;
    if (!client_.remove_snapshot(reference_.disk, reference_.snapshot)) {
      context_.output().note("a snapshot is left behind; remove it with: vmstore snap rm " +
                             text());
    }
  }
  [[nodiscard]] Answer<void> take() {
    sweep_snapshots(context_, client_, reference_.disk);
    reference_.snapshot = temporary_name(kExportPrefix);
    const Result<disk::SnapshotTiming> taken =
        client_.snapshot(reference_.disk, reference_.snapshot);
    if (!taken) return disk_failure(client_, taken.error(), reference_.disk);
    is_taken_ = true;
    return {};
  }
  [[nodiscard]] std::string text() const { return reference_.disk + "@" + reference_.snapshot; }

 private:
  Context& context_;
  disk::Client& client_;
  DiskReference reference_;
  bool is_taken_ = false;
};

struct ExportTotals {
  std::uint64_t size_bytes = 0;
  std::uint64_t data_bytes = 0;
};

/// Reads a disk from front to end into a sparse file.
class Copy {
 public:
  Copy(disk::BlockingDisk& from, OutputFile& into, Sha256Stream* hash, Progress& progress)
      : from_(from), into_(into), hash_(hash), progress_(progress), piece_(kPieceBytes) {}

  [[nodiscard]] Answer<ExportTotals> run() {
    totals_.size_bytes = from_.info().size_bytes;
    progress_.begin(totals_.size_bytes, Clock::now());
    VMS_CHECK(into_.set_size(totals_.size_bytes));
    for (std::uint64_t at = 0; at < totals_.size_bytes;) {
      const std::uint64_t ask = std::min(totals_.size_bytes - at, kExtentAskBytes);
      VMS_TRY(const std::vector<disk::DiskExtent> extents,
              about(from_.extents(at, ask, kExtentsMax), from_.info().name));
      for (const disk::DiskExtent& extent : extents) {
        VMS_CHECK(extent.zero ? pass_zeros(extent) : pass_data(extent));
        at = extent.offset + extent.bytes;
      }
    }
    progress_.finish(Clock::now());
    return totals_;
  }

 private:
  Answer<void> pass_zeros(const disk::DiskExtent& extent) {
    static const std::vector<std::byte> zeros(kPieceBytes);
    for (std::uint64_t left = extent.bytes; hash_ != nullptr && left > 0;) {
      if (interrupted()) return interruption();
      const std::size_t now = std::min<std::uint64_t>(left, zeros.size());
      hash_->update(ByteSpan(zeros).first(now));
      left -= now;
    }
    progress_.update(extent.offset + extent.bytes, {}, Clock::now());
    return {};
  }

  Answer<void> pass_data(const disk::DiskExtent& extent) {
    for (std::uint64_t done = 0; done < extent.bytes;) {
      if (interrupted()) return interruption();
      const std::size_t now = std::min<std::uint64_t>(extent.bytes - done, piece_.size());
      const MutableBytes bytes = MutableBytes(piece_).first(now);
      VMS_CHECK(about(from_.read(extent.offset + done, bytes), from_.info().name));
      if (hash_ != nullptr) hash_->update(bytes);
      VMS_CHECK(into_.write_at(extent.offset + done, bytes));
      done += now;
      totals_.data_bytes += now;
      progress_.update(extent.offset + done, {}, Clock::now());
    }
    return {};
  }

  disk::BlockingDisk& from_;
  OutputFile& into_;
  Sha256Stream* hash_;
  Progress& progress_;
  std::vector<std::byte> piece_;
  ExportTotals totals_;
};

/// Turns the raw file into a qcow2 under the same temporary name.
Answer<void> convert_to_qcow2(OutputFile& file) {
  VMS_TRY(const std::string program, find_program("qemu-img", "qemu-utils"));
  const std::string& raw = file.temporary_path();
  const std::string converted = raw + ".qcow2";
  Answer<CapturedRun> run =
      run_and_capture({program, "convert", "-f", "raw", "-O", "qcow2", raw, converted});
  if (run && run->exit_code == 0 && rename(converted.c_str(), raw.c_str()) == 0) {
    return file.reopen();
  }
  const Error error = last_os_error();
  unlink(converted.c_str());
  if (!run) return run.error();
  if (run->exit_code == 0) return Failure::from(error, converted);
  return Failure::make(ExitCode::failed, converted, run->err.substr(0, run->err.find('\n')));
}

std::string hex_of(const Sha256& digest) {
  std::string text;
  for (const std::byte byte : digest) {
    std::array<char, 3> hex{};
    std::snprintf(hex.data(), hex.size(), "%02x", std::to_integer<unsigned>(byte));
    text += hex.data();
  }
  return text;
}

Answer<ExportTotals> copy_out(Context& context,
                              disk::Client& client,
                              const std::string& reference,
                              OutputFile& file,
                              Sha256Stream* hash) {
  disk::DiskOpenOptions open;
  open.reference = reference;
  open.read_only = true;
  Result<std::unique_ptr<disk::BlockingDisk>> opened = client.open(open);
  if (!opened) {
    Failure failure =
        disk_failure(client, opened.error(), reference.substr(0, reference.find('@')));
    failure.object = reference;
    return failure;
  }
  Progress progress(context.options().progress, isatty(STDERR_FILENO) != 0, std::cerr, "export");
  Answer<ExportTotals> totals = Copy(**opened, file, hash, progress).run();
  const Result<void> closed = (*opened)->close();
  if (totals && !closed) return Failure::from(closed.error(), reference);
  return totals;
}

Answer<void> export_disk(Context& context, const ExportOptions& options) {
  VMS_TRY(const DiskReference reference, reference_argument(options.reference));
  if (options.format != "raw" && options.format != "qcow2") {
    return Failure::usage("no format '" + options.format + "'", "-O raw or qcow2");
  }
  if (options.destination == "-") {
    return Failure::usage("export writes a file, not a stream",
                          "read it over NBD: nbdcopy \"$(vmstore attach NAME@SNAP)\" -");
  }
  VMS_TRY(disk::Client * client, context.client());
  const Result<disk::DiskSummary> disk = client->details(reference.disk);
  if (!disk) return disk_failure(*client, disk.error(), reference.disk);
  if (!reference.snapshot.empty()) VMS_CHECK(require_snapshot(*client, reference));
  json::object fields{
      {"action", "export"}, {"name", options.reference}, {"file", options.destination}};
  if (context.options().dry_run) {
    fields["dry_run"] = true;
    context.output().done("would export " + options.reference + " to " + options.destination,
                          std::move(fields));
    return {};
  }
  const KeepGoing until_done;
  const Clock::time_point start = Clock::now();
  VMS_TRY(OutputFile file, OutputFile::create(options.destination, options.overwrite));
  TemporarySnapshot snapshot(context, *client, reference);
  if (reference.snapshot.empty()) VMS_CHECK(snapshot.take());
  Sha256Stream hash;
  VMS_TRY(const ExportTotals totals,
          copy_out(context,
                   *client,
                   reference.snapshot.empty() ? snapshot.text() : options.reference,
                   file,
                   options.sha256 ? &hash : nullptr));
  if (options.format == "qcow2") VMS_CHECK(convert_to_qcow2(file));
  if (interrupted()) return interruption();
  VMS_CHECK(file.commit());
  const auto took = std::chrono::duration<double>(Clock::now() - start).count();
  fields["size"] = totals.size_bytes;
  fields["data"] = totals.data_bytes;
  fields["seconds"] = took;
  std::array<char, 32> seconds{};
  std::snprintf(seconds.data(), seconds.size(), "%.1f s", took);
  std::string sentence = "exported " + options.reference + "  " + format_size(totals.size_bytes) +
                         " logical, " + format_size(totals.data_bytes) + " data in " +
                         seconds.data();
  if (options.sha256) {
    const std::string digest = hex_of(hash.finish());
    fields["sha256"] = digest;
    sentence += "\nsha256 " + digest;
  }
  context.output().done(sentence, std::move(fields));
  return {};
}

}  // namespace

void add_export_verbs(VerbBook& book) {
  CLI::App& verb = book.verb("export",
                             {"Writes a disk or snapshot to a file.",
                              "export web@monday web.raw --sha256",
                              "export web web.qcow2 -O qcow2"});
  auto options = std::make_shared<ExportOptions>();
  verb.add_option("NAME", options->reference, "[GROUP/]NAME[@SNAP]")->required();
  verb.add_option("DST", options->destination, "The file to write")->required();
  verb.add_option("-O,--output-format", options->format, "raw (default) or qcow2");
  verb.add_flag("--sha256", options->sha256, "Print the digest of the disk's bytes");
  verb.add_flag("--overwrite", options->overwrite, "Replace the file");
  book.action(verb, [options](Context& context) { return export_disk(context, *options); });
}

}  // namespace vmstore::cli
