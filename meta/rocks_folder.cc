// SPDX-License-Identifier: Apache-2.0
#include "meta/rocks_folder.h"

#include <algorithm>
#include <charconv>

#include "base/files.h"
#include "base/log.h"
#include "meta/rocks_tables.h"

namespace vmstore::meta {
namespace {

constexpr std::string_view kFormatFile = "format";
constexpr std::string_view kLockFile = "lock";
constexpr std::string_view kDbFolder = "db";
constexpr std::string_view kTitle = "vmstore metadata ";
constexpr std::string_view kMaking = " being made\n";
constexpr std::string_view kComplete = " complete\n";
constexpr std::size_t kFormatBytesMax = 64;

bool contains(const std::vector<std::string>& names, std::string_view name) {
  return std::binary_search(names.begin(), names.end(), name);
}

}  // namespace

Result<std::unique_ptr<RocksFolder>> RocksFolder::lock(const std::string& path) {
  VMS_TRY(auto files, PosixFiles::open_folder(path));
  VMS_TRY(const auto names, files->list(""));
  const bool ours = contains(names, kLockFile) || contains(names, kFormatFile);
  if (!names.empty() && !ours) {
    VMS_LOG(error, "meta", path << " holds something that is not a catalogue");
    return Errc::foreign_store;
  }
  auto folder = std::unique_ptr<RocksFolder>(new RocksFolder(path, std::move(files)));
  if (names.empty()) return folder;  // whoever makes a store there locks it
  OpenOptions options;
  options.create = true;
  VMS_TRY(folder->lock_, folder->files_->open(kLockFile, options));
  VMS_CHECK(folder->lock_->lock());
  return folder;
}

Result<RocksFolder::State> RocksFolder::read_state() {
  const auto content = read_file(*files_, kFormatFile, kFormatBytesMax);
  if (!content && content.error() == Errc::not_found) return State::none;
  if (!content) return content.error();
  std::string_view text = as_text(*content);
  if (!text.starts_with(kTitle)) return Errc::foreign_store;
  text.remove_prefix(kTitle.size());
  std::uint32_t format = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), format);
  if (parsed.ec != std::errc() || format == 0) return Errc::corrupt;
  if (format > kRocksFormat) return Errc::newer_format;
  text.remove_prefix(static_cast<std::size_t>(parsed.ptr - text.data()));
  if (text == kMaking) return State::making;
  if (text == kComplete) return State::complete;
  return Errc::corrupt;
}

Result<void> RocksFolder::write_state(State state) {
  std::string text(kTitle);
  text.append(std::to_string(kRocksFormat));
  text.append(state == State::complete ? kComplete : kMaking);
  return replace_file(*files_, kFormatFile, as_byte_span(text));
}

Result<std::unique_ptr<RocksFolder>> RocksFolder::open(const std::string& path) {
  VMS_TRY(auto folder, lock(path));
  VMS_TRY(const State state, folder->read_state());
  VMS_TRY(const auto names, folder->files_->list(""));
  if (state == State::complete && contains(names, kDbFolder)) return folder;
  VMS_LOG(error, "meta", "the catalogue that should be in " << path << " is not there");
  return Errc::unknown;
}

Result<std::unique_ptr<RocksFolder>> RocksFolder::begin(const std::string& path) {
  VMS_TRY(auto folder, lock(path));
  if (folder->lock_ == nullptr) {
    OpenOptions options;
    options.create = true;
    VMS_TRY(folder->lock_, folder->files_->open(kLockFile, options));
    VMS_CHECK(folder->lock_->lock());
  }
  VMS_TRY(const State state, folder->read_state());
  if (state == State::complete) return Errc::exists;
  VMS_TRY(const auto names, folder->files_->list(""));
  if (state == State::none && contains(names, kDbFolder)) {
    VMS_LOG(error, "meta", path << " holds a database whose `format` file is lost");
    return Errc::foreign_store;
  }
  VMS_CHECK(folder->write_state(State::making));
  folder->has_db_ = contains(names, kDbFolder);
  return folder;
}

Result<void> RocksFolder::make_db_folder() {
  return files_->make_folder(kDbFolder);
}

Result<void> RocksFolder::finish() {
  return write_state(State::complete);
}

}  // namespace vmstore::meta
