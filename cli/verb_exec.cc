// SPDX-License-Identifier: Apache-2.0
// mount, umount: carried out by other programs; and the verbs that only explain why there is
// nothing to do.
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <filesystem>
#include <fstream>

#include "cli/mount_list.h"
#include "cli/process.h"
#include "cli/program.h"
#include "cli/verbs.h"

namespace vmstore::cli {
namespace {

struct MountOptions {
  std::string folder;
  bool read_only = false;
  bool foreground = false;
  bool allow_other = false;
};

std::vector<std::pair<std::string, std::string>> environment_of(const Context& context) {
  return {{"VMSTORE_ENDPOINT", context.endpoint()}, {"VMSTORE_RUN_DIR", context.run_folder()}};
}

/// Whether the folder is a mount of ours already.
bool is_our_mount(const std::string& folder) {
  std::error_code error;
  // A mount whose process died cannot be looked into: its name has to do.
  std::filesystem::path path = std::filesystem::canonical(folder, error);
  if (error) path = std::filesystem::absolute(folder).lexically_normal();
  std::ifstream mounts("/proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) {
    if (mount_point_of_ours(line) == path.string()) return true;
  }
  return false;
}

/// Refuses what a mount would hide, or could not be on.
Answer<void> check_mount_point(const std::string& folder) {
  std::error_code error;
  const bool ours = is_our_mount(folder);
  const bool is_folder = std::filesystem::is_directory(folder, error);
  // The kernel may know what it is though nobody serves it any more.
  const bool is_empty = !error && is_folder && std::filesystem::is_empty(folder, error);
  if (ours && error) {
    return Failure::make(ExitCode::busy,
                         folder,
                         "the program behind the mount there is gone",
                         "end it with: vmstore umount " + folder);
  }
  if (ours) {
    return Failure::make(ExitCode::busy,
                         folder,
                         "disks are mounted there already",
                         "use it as it is, or end it with: vmstore umount " + folder);
  }
  if (error == std::errc::no_such_file_or_directory) {
    return Failure::make(ExitCode::not_found, folder, "no such folder", "make it first");
  }
  if (!error && !is_folder) {
    return Failure::make(ExitCode::usage, folder, "not a folder", "name an empty folder");
  }
  if (!error && !is_empty) {
    return Failure::make(ExitCode::usage,
                         folder,
                         "the folder is not empty; a mount would hide what is in it",
                         "name an empty folder");
  }
  return {};  // what cannot be told here, the mount itself tells
}

Answer<void> mount(Context& context, const MountOptions& options) {
  VMS_CHECK(check_mount_point(options.folder));
  VMS_TRY(std::string program, find_program("vmstore-fuse", "vmstore-fuse"));
  if (context.options().dry_run) {
    context.output().done("would mount " + context.endpoint() + " on " + options.folder,
                          {{"action", "mount"}, {"dry_run", true}});
    return {};
  }
  std::vector<std::string> argv{std::move(program), "-E", context.endpoint()};
  if (const std::string folder = context.batch_folder(); !folder.empty()) {
    argv.insert(argv.end(), {"--run-dir", folder});
  }
  const disk::ClientTls& tls = context.options().tls;
  for (const auto& [flag, file] : {std::pair("--tls-ca", tls.ca),
                                   std::pair("--tls-cert", tls.certificate),
                                   std::pair("--tls-key", tls.key)}) {
    if (!file.empty()) argv.insert(argv.end(), {flag, file});
  }
  if (options.read_only) argv.emplace_back("--read-only");
  if (options.foreground) argv.emplace_back("--foreground");
  if (options.allow_other) argv.emplace_back("--allow-other");
  argv.push_back(options.folder);
  if (options.foreground) return become_program(argv, environment_of(context));
  return hand_over(context.output(), "mount", argv, environment_of(context));
}

Answer<void> unmount(Context& context, const MountOptions& options) {
  VMS_TRY(std::string program, find_program("fusermount3", "fuse3"));
  if (context.options().dry_run) {
    context.output().done("would unmount " + options.folder,
                          {{"action", "umount"}, {"dry_run", true}});
    return {};
  }
  return hand_over(context.output(), "umount", {std::move(program), "-u", options.folder}, {});
}

}  // namespace

void add_exec_verbs(VerbBook& book) {
  CLI::App& verb = book.verb("mount",
                             {"Shows disks and snapshots as files: NAME.raw, "
                              ".snap/NAME@SNAP.raw.",
                              "mount /mnt/vmstore",
                              "mount ~/disks"});
  auto options = std::make_shared<MountOptions>();
  verb.add_option("DIR", options->folder, "An empty folder")->required();
  verb.add_flag("--read-only", options->read_only, "Refuse writes");
  verb.add_flag("--foreground", options->foreground, "Stay until it is unmounted");
  verb.add_flag("--allow-other", options->allow_other, "For other users too");
  book.action(verb, [options](Context& context) { return mount(context, *options); });

  CLI::App& undo = book.verb("umount", {"Ends a mount.", "umount /mnt/vmstore", "umount ~/disks"});
  auto undone = std::make_shared<MountOptions>();
  undo.add_option("DIR", undone->folder, "The folder")->required();
  book.action(undo, [undone](Context& context) { return unmount(context, *undone); });
}

void add_explaining_verbs(VerbBook& book) {
  struct Explained {
    std::string name;
    std::string example;
    std::string text;
  };
  const std::vector<Explained> all{
      {"flatten",
       "clone web@monday web2",
       "nothing to flatten: a clone has its own index and no chain below it; its base may be "
       "removed at any time"},
      {"sparsify",
       "gc",
       "nothing to sparsify: zeros are never stored, and discards free space by themselves; for "
       "what a guest has deleted, run fstrim inside it"},
      {"protect",
       "snap rm web@monday",
       "nothing to protect: clones do not need their snapshot, so removing it harms none of them"},
      {"unprotect",
       "snap rm web@monday",
       "nothing to unprotect: clones do not need their snapshot"},
  };
  for (const Explained& explained : all) {
    CLI::App& verb = book.verb(
        explained.name, {"Not needed here; says why.", explained.name + " web", explained.example});
    const auto ignored = std::make_shared<std::vector<std::string>>();
    verb.add_option("NAME", *ignored, "Whatever it was meant for");
    const std::string text = explained.text;
    const std::string name = explained.name;
    book.action(verb, [text, name, ignored](Context& context) -> Answer<void> {
      context.output().done(text, {{"action", name}, {"message", text}});
      return {};
    });
  }
}

}  // namespace vmstore::cli
