// SPDX-License-Identifier: Apache-2.0
#include "cli/exports.h"

#include <unistd.h>

#include <array>
#include <charconv>
#include <fstream>
#include <sstream>

#include "base/posix_files.h"
#include "base/units.h"
#include "cli/control.h"
#include "cli/json.h"
#include "cli/run_folder.h"

namespace vmstore::cli {
namespace {

constexpr std::string_view kFile = "attached.json";
constexpr std::size_t kFileBytesMax = std::size_t{4} << 20;
constexpr int kBacklog = 64;
constexpr std::size_t kExportsMax = 4096;

Answer<std::vector<Attachment>> read_attachments(const std::string& folder) {
  Result<std::unique_ptr<PosixFiles>> files = PosixFiles::open_folder(folder);
  if (!files) return about(std::move(files), folder).error();
  Result<std::vector<std::byte>> bytes = read_file(**files, kFile, kFileBytesMax);
  if (!bytes) {
    if (bytes.error() == Errc::not_found) return std::vector<Attachment>();
    return Failure::from(bytes.error(), folder + "/" + std::string(kFile));
  }
  Answer<std::vector<Attachment>> decoded = decode_attachments(as_text(*bytes));
  if (!decoded) {
    return Failure::make(ExitCode::integrity,
                         folder + "/" + std::string(kFile),
                         decoded.error().what,
                         "mend or remove the file; disks are attached again "
                         "with: vmstore attach NAME");
  }
  return decoded;
}

Answer<void> write_attachments(const std::string& folder, const std::vector<Attachment>& what) {
  const std::string path = folder + "/" + std::string(kFile);
  Result<std::unique_ptr<PosixFiles>> files = PosixFiles::open_folder(folder);
  if (!files) return Failure::from(files.error(), folder);
  if (what.empty()) {
    Result<void> removed = (*files)->remove(kFile);
    if (!removed && removed.error() != Error(Errc::not_found)) {
      return Failure::from(removed.error(), path);
    }
    return about((*files)->sync_folder(""), folder);
  }
  return about(replace_file(**files, kFile, as_byte_span(encode_attachments(what))), path);
}

/// The next word of a line of columns.
std::string_view next_word(std::string_view& line) {
  line.remove_prefix(std::min(line.size(), line.find_first_not_of(' ')));
  const std::string_view word = line.substr(0, line.find(' '));
  line.remove_prefix(word.size());
  return word;
}

}  // namespace

std::string encode_attachments(const std::vector<Attachment>& attachments) {
  json::array list;
  for (const Attachment& attachment : attachments) {
    json::object entry;
    entry["name"] = attachment.reference;
    entry["read_only"] = attachment.read_only;
    entry["persistent"] = attachment.persistent;
    list.push_back(std::move(entry));
  }
  json::object document;
  document["version"] = 1;
  document["attached"] = std::move(list);
  return json::serialize(document) + "\n";
}

Answer<std::vector<Attachment>> decode_attachments(std::string_view text) {
  const std::optional<json::object> document = parse_json_object(text);
  const json::value* list = document ? document->if_contains("attached") : nullptr;
  if (list == nullptr || !list->is_array() || json_count(*document, "version") != 1U) {
    return Failure::make(ExitCode::integrity, {}, "not a list of attached disks of this version");
  }
  std::vector<Attachment> attachments;
  for (const json::value& entry : list->get_array()) {
    if (!entry.is_object()) return Failure::make(ExitCode::integrity, {}, "an entry is no object");
    const json::object& object = entry.get_object();
    Attachment attachment;
    attachment.reference = json_text(object, "name").value_or("");
    attachment.read_only = json_flag(object, "read_only");
    attachment.persistent = json_flag(object, "persistent");
    if (!parse_disk_reference(attachment.reference)) {
      return Failure::make(ExitCode::integrity, {}, "an entry has no valid name");
    }
    attachments.push_back(std::move(attachment));
  }
  return attachments;
}

Answer<std::vector<Attachment>> Exports::remembered() const {
  VMS_TRY(std::vector<Attachment> attachments, read_attachments(data_folder_));
  VMS_TRY(const std::vector<Attachment> running, read_attachments(run_folder_));
  for (const Attachment& attachment : running) {
    bool known = false;
    for (const Attachment& other : attachments) known |= other.reference == attachment.reference;
    if (!known) attachments.push_back(attachment);
  }
  return attachments;
}

Answer<void> Exports::restore(const std::vector<Attachment>& attachments) {
  for (const Attachment& attachment : attachments) VMS_CHECK(listen(attachment));
  return remember();
}

Answer<const Export*> Exports::add(const Attachment& attachment) {
  if (exports_.size() >= kExportsMax) {
    return Failure::make(ExitCode::busy,
                         attachment.reference,
                         "4096 disks are attached already",
                         "detach some with: vmstore detach NAME");
  }
  VMS_CHECK(listen(attachment));
  const Export& added = exports_.at(attachment.reference);
  if (Answer<void> remembered = remember(); !remembered) {
    unlink(added.socket.c_str());
    exports_.erase(attachment.reference);
    return remembered.error();
  }
  return &added;
}

Answer<void> Exports::listen(const Attachment& attachment) {
  const std::string socket = nbd_socket(run_folder_, attachment.reference);
  VMS_TRY(UniqueFd listener, about(listen_unix(socket, kBacklog), socket));
  const Answer<void> opened = group_ ? open_to_group(socket, *group_) : Answer<void>();
  if (!opened) {
    unlink(socket.c_str());  // a client would wait at a socket that nobody listens at
    return opened.error();
  }
  exports_[attachment.reference] = Export{attachment, socket, std::move(listener)};
  return {};
}

Answer<void> Exports::make_persistent(const std::string& reference) {
  const auto found = exports_.find(reference);
  if (found == exports_.end() || found->second.attachment.persistent) return {};
  found->second.attachment.persistent = true;
  return remember();
}

Answer<void> Exports::remove(const std::string& reference) {
  const auto found = exports_.find(reference);
  if (found == exports_.end()) return {};
  unlink(found->second.socket.c_str());
  exports_.erase(found);
  return remember();
}

Answer<void> Exports::remove_all() {
  for (const auto& [reference, entry] : exports_) unlink(entry.socket.c_str());
  exports_.clear();
  return write_attachments(run_folder_, {});
}

const Export* Exports::find(const std::string& reference) const {
  const auto found = exports_.find(reference);
  return found == exports_.end() ? nullptr : &found->second;
}

Answer<void> Exports::remember() const {
  std::vector<Attachment> running;
  std::vector<Attachment> persistent;
  for (const auto& [reference, entry] : exports_) {
    running.push_back(entry.attachment);
    if (entry.attachment.persistent) persistent.push_back(entry.attachment);
  }
  VMS_CHECK(write_attachments(data_folder_, persistent));
  return write_attachments(run_folder_, running);
}

std::size_t count_clients(std::string_view proc_net_unix, std::string_view path) {
  // Columns: Num RefCount Protocol Flags Type St Inode Path. A listener's connections carry its
  // path: state 03 is accepted, 02 is in the backlog; the listener itself is 01.
  std::size_t count = 0;
  while (!proc_net_unix.empty()) {
    std::string_view line = proc_net_unix.substr(0, proc_net_unix.find('\n'));
    proc_net_unix.remove_prefix(std::min(proc_net_unix.size(), line.size() + 1));
    std::array<std::string_view, 7> words;
    for (std::string_view& word : words) word = next_word(line);
    if (line.starts_with(' ')) line.remove_prefix(1);
    if (line == path && (words[5] == "03" || words[5] == "02")) ++count;
  }
  return count;
}

std::string read_proc_net_unix() {
  std::ifstream file("/proc/net/unix");
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace vmstore::cli
