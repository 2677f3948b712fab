// SPDX-License-Identifier: Apache-2.0
// The exports of one `vmstore up`: which disks are attached, their listening sockets, and the files
// that remember them.
//
// Invariants: the supervisor holds each listening socket, so a client that connects while its
// nbdkit is being started again waits in the backlog; an attachment is remembered before it is
// answered.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/failure.h"
#include "cli/process.h"
#include "cli/run_folder.h"

namespace vmstore::cli {

struct Attachment {
  std::string reference;  // NAME or NAME@SNAP
  bool read_only = false;
  bool persistent = false;
};

struct Export {
  Attachment attachment;
  std::string socket;
  UniqueFd listener;
};

/// The content of attached.json. What cannot be read is a failure, never "nothing attached".
[[nodiscard]] std::string encode_attachments(const std::vector<Attachment>& attachments);
[[nodiscard]] Answer<std::vector<Attachment>> decode_attachments(std::string_view text);

class Exports {
 public:
  /// `run_folder` remembers everything attached until a planned stop, `data_folder` what is
  /// persistent.
  Exports(std::string run_folder, std::string data_folder, std::optional<SocketGroup> group = {})
      : run_folder_(std::move(run_folder)),
        data_folder_(std::move(data_folder)),
        group_(std::move(group)) {}

  /// What was attached when the last `up` ended unplanned, and what is persistent.
  [[nodiscard]] Answer<std::vector<Attachment>> remembered() const;
  /// Listens for all of them, before any of the two files is written again.
  [[nodiscard]] Answer<void> restore(const std::vector<Attachment>& attachments);
  /// Listens and remembers. REQUIRES: not attached yet.
  [[nodiscard]] Answer<const Export*> add(const Attachment& attachment);
  /// Makes an attached one persistent.
  [[nodiscard]] Answer<void> make_persistent(const std::string& reference);
  /// Forgets it for good.
  [[nodiscard]] Answer<void> remove(const std::string& reference);
  /// A planned stop: closes all, keeps the persistent ones remembered.
  [[nodiscard]] Answer<void> remove_all();

  [[nodiscard]] const Export* find(const std::string& reference) const;
  [[nodiscard]] const std::map<std::string, Export>& all() const noexcept { return exports_; }

 private:
  [[nodiscard]] Answer<void> listen(const Attachment& attachment);
  [[nodiscard]] Answer<void> remember() const;

  std::string run_folder_;
  std::string data_folder_;
  std::optional<SocketGroup> group_;  // may connect, too
  std::map<std::string, Export> exports_;
};

/// How many clients are connected to, or wait for, the unix socket at `path`, from the text of
/// /proc/net/unix.
[[nodiscard]] std::size_t count_clients(std::string_view proc_net_unix, std::string_view path);
[[nodiscard]] std::string read_proc_net_unix();

}  // namespace vmstore::cli
