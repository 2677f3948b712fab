// SPDX-License-Identifier: Apache-2.0
#include "meta/catalogue_log.h"

#include <algorithm>

#include "base/fault.h"
#include "base/log.h"

namespace vmstore::meta {
namespace {

// Smaller files are not worth rewriting.
constexpr std::uint64_t kGarbageBytesMin = 256 * limits::kKiB;

Result<std::vector<std::byte>> read_all(File& file) {
  VMS_TRY(const std::uint64_t size, file.size());
  if (size > log_format::kFileBytesMax) return Errc::unknown;
  std::vector<std::byte> content(size);
  VMS_TRY(const std::size_t got, file.read(0, content));
  if (got != size) return Errc::unknown;
  return content;
}

std::uint64_t live_bytes_of(const Image& image) {
  std::uint64_t bytes = log_format::kHeaderBytes;
  for (const auto& [key, entry] : image.entries) bytes += log_format::payload_bytes({entry});
  return bytes;
}

/// The image as groups of a base.
std::vector<Changes> base_groups(const Image& image) {
  std::vector<Changes> groups(1);
  std::size_t bytes = 0;
  for (const auto& [key, entry] : image.entries) {
    const std::size_t more = log_format::payload_bytes({entry});
    if (bytes + more > log_format::kGroupPayloadMax) {
      groups.emplace_back();
      bytes = 0;
    }
    groups.back().push_back({entry});
    bytes += more;
  }
  return groups;
}

std::string folder_of(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

/// Makes the file a log with this content, synced.
Result<log_format::Header> write_image(File& file, const Image& image) {
  VMS_CHECK(file.truncate(0));
  log_format::Header header;
  header.revision = image.revision;
  std::uint64_t offset = log_format::kHeaderBytes;
  for (const Changes& group : base_groups(image)) {
    const auto bytes = log_format::encode_group(++header.base_groups, image.revision, group);
    VMS_CHECK(file.write(offset, bytes));
    offset += bytes.size();
  }
  header.base_bytes = offset;
  VMS_CHECK(file.write(0, log_format::encode_header(header)));
  VMS_FAULT("meta.log.before_sync_new");
  VMS_CHECK(file.sync());
  return header;
}

}  // namespace

Result<Image> CatalogueLog::load(Files& files, const std::string& path) {
  OpenOptions options;
  options.write = false;
  VMS_TRY(const auto file, files.open(path, options));
  VMS_TRY(const auto content, read_all(*file));
  VMS_TRY(auto scan, log_format::scan(content));
  return std::move(scan.image);
}

Result<CatalogueLog::Opened> CatalogueLog::open(Files& files, const std::string& path) {
  Opened opened;
  opened.log = std::unique_ptr<CatalogueLog>(new CatalogueLog(files, path));
  CatalogueLog& log = *opened.log;
  VMS_TRY(log.file_, files.open(path, OpenOptions()));
  VMS_TRY(const auto content, read_all(*log.file_));
  VMS_TRY(auto scan, log_format::scan(content));
  if (scan.torn_bytes > 0) {
    VMS_LOG(info, "meta", "cutting " << scan.torn_bytes << " torn bytes off the catalogue log");
    VMS_CHECK(log.file_->truncate(scan.bytes));
  }
  // The last group may be in memory only: written by a process that was killed before its sync, or
  // whose sync failed, after which the system calls the pages clean. So it is written once more.
  if (scan.last_group_at > 0) {
    const auto last =
        ByteSpan(content).subspan(scan.last_group_at, scan.bytes - scan.last_group_at);
    VMS_CHECK(log.file_->write(scan.last_group_at, last));
  }
  VMS_CHECK(log.file_->sync());
  log.bytes_ = scan.bytes;
  log.groups_ = scan.groups;
  log.revision_ = scan.image.revision;
  log.note_live_bytes(live_bytes_of(scan.image));
  opened.image = std::move(scan.image);
  return opened;
}

Result<std::unique_ptr<CatalogueLog>> CatalogueLog::create(Files& files,
                                                           const std::string& path,
                                                           const Image& image) {
  auto log = std::unique_ptr<CatalogueLog>(new CatalogueLog(files, path));
  VMS_CHECK(log->write_new(image));
  return log;
}

Result<void> CatalogueLog::write_new(const Image& image) {
  const std::string beside = path_ + ".new";
  OpenOptions options;
  options.create = true;
  VMS_TRY(auto file, files_.open(beside, options));
  const auto header = write_image(*file, image);
  if (!header) {
    ignore(files_.remove(beside), "it only takes space, of which there may be none left");
    return header.error();
  }
  // From here on it is not known which of the two files a crash would leave under the name, so an
  // error makes both unfit for appending.
  failed_ = true;
  VMS_FAULT("meta.log.before_rename");
  VMS_CHECK(files_.rename(beside, path_));
  VMS_FAULT("meta.log.before_sync_folder");
  VMS_CHECK(files_.sync_folder(folder_of(path_)));
  failed_ = false;
  file_ = std::move(file);
  bytes_ = header->base_bytes;
  groups_ = header->base_groups;
  revision_ = image.revision;
  note_live_bytes(bytes_);
  return success();
}

void CatalogueLog::note_live_bytes(std::uint64_t live_bytes) {
  look_at_bytes_ = std::max(2 * live_bytes, live_bytes + kGarbageBytesMin);
}

bool CatalogueLog::fits(const Changes& changes) {
  std::size_t bytes = 0;
  for (const Event& change : changes) bytes += log_format::payload_bytes(change);
  return bytes <= log_format::kGroupPayloadMax;
}

Result<void> CatalogueLog::append(const Changes& changes, std::uint64_t revision) {
  if (failed_) return Errc::unavailable;
  if (revision < revision_ || !fits(changes)) return Errc::invalid_argument;
  for (const Event& change : changes) {
    const std::uint64_t at = change.entry.mod_revision;
    if (at <= revision_ || at > revision) return Errc::invalid_argument;
  }
  const auto bytes = log_format::encode_group(groups_ + 1, revision, changes);
  if (bytes_ + bytes.size() > log_format::kFileBytesMax) return Errc::no_space;
  failed_ = true;  // until all of it is known to be there
  VMS_FAULT("meta.log.before_write");
  VMS_CHECK(file_->write(bytes_, bytes));
  VMS_FAULT("meta.log.before_sync");
  VMS_CHECK(file_->sync());
  VMS_FAULT("meta.log.after_sync");
  failed_ = false;
  bytes_ += bytes.size();
  ++groups_;
  revision_ = revision;
  return success();
}

Result<void> CatalogueLog::compact() {
  if (failed_) return Errc::unavailable;
  const auto content = read_all(*file_);
  if (!content) return content.error();
  auto scan = log_format::scan(*content);
  if (!scan || scan->bytes != bytes_ || scan->image.revision != revision_) {
    VMS_LOG(error, "meta", "the catalogue log is not what was written to it");
    failed_ = true;
    return Errc::unknown;
  }
  const std::uint64_t live_bytes = live_bytes_of(scan->image);
  note_live_bytes(live_bytes);
  if (bytes_ <= 2 * live_bytes) return success();
  const auto outcome = write_new(scan->image);
  if (!outcome) look_at_bytes_ = bytes_ + kGarbageBytesMin;  // not at every append
  return outcome;
}

}  // namespace vmstore::meta
