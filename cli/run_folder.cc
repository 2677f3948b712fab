// SPDX-License-Identifier: Apache-2.0
#include "cli/run_folder.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>

#include "base/bytes.h"
#include "base/checksum.h"

namespace vmstore::cli {
namespace {

constexpr std::size_t kSocketPathMax = sizeof(sockaddr_un::sun_path) - 1;
constexpr const char* kSystemFolder = "/run/vmstore";

Failure no_group(const std::string& path, const SocketGroup& group) {
  return Failure::from(last_os_error(), path, "up must be root or a member of group " + group.name);
}

Answer<void> make_private_folder(const std::string& folder,
                                 const std::optional<SocketGroup>& group) {
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    return Failure::from(last_os_error(), folder, "make it, or choose another with --run-dir");
  }
  struct stat info {};
  if (lstat(folder.c_str(), &info) != 0) return Failure::from(last_os_error(), folder);
  if (!S_ISDIR(info.st_mode) || info.st_uid != geteuid()) {
    return Failure::make(ExitCode::usage,
                         folder,
                         "not a folder of this user",
                         "remove it, or choose another with --run-dir");
  }
  // Made by somebody's package, or by an `up` of before, with other rights.
  const bool changes_group = group && info.st_gid != group->id;
  // Closed first: what the old group may do is not for the new one, not for a moment.
  if (changes_group && chmod(folder.c_str(), 0700) != 0) {
    return Failure::from(last_os_error(), folder);
  }
  if (changes_group && lchown(folder.c_str(), uid_t(-1), group->id) != 0) {
    return no_group(folder, *group);
  }
  const mode_t wanted = group ? 0750 : 0700;
  const bool changes_mode = changes_group || (info.st_mode & 0777U) != wanted;
  if (changes_mode && chmod(folder.c_str(), wanted) != 0) {
    return Failure::from(last_os_error(), folder);
  }
  return {};
}

std::string percent_encoded(std::string_view text) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/@";
  std::string encoded;
  for (const char c : text) {
    if (kPlain.find(c) != std::string_view::npos) {
      encoded += c;
    } else {
      std::array<char, 4> hex{};
      std::snprintf(hex.data(), hex.size(), "%%%02X", static_cast<unsigned char>(c));
      encoded += hex.data();
    }
  }
  return encoded;
}

}  // namespace

std::string default_run_folder() {
  if (geteuid() == 0 && (access(kSystemFolder, W_OK) == 0 || access("/run", W_OK) == 0)) {
    return kSystemFolder;
  }
  return "/dev/shm/vmstore-" + std::to_string(geteuid());
}

Answer<SocketGroup> find_group(const std::string& name) {
  std::array<char, 16384> buffer{};
  struct group entry {};
  struct group* found = nullptr;
  const int error = getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
  if (found == nullptr) {
    return Failure::make(ExitCode::usage,
                         name,
                         error == 0 ? "no such group" : "the group cannot be looked up",
                         "QEMU of libvirt runs in group libvirt-qemu on Debian");
  }
  return SocketGroup{name, found->gr_gid};
}

Answer<void> open_to_group(const std::string& socket, const SocketGroup& group) {
  if (lchown(socket.c_str(), uid_t(-1), group.id) != 0) return no_group(socket, group);
  if (chmod(socket.c_str(), 0660) != 0) return Failure::from(last_os_error(), socket);
  return {};
}

Answer<void> make_run_folder(const std::string& folder, const std::optional<SocketGroup>& group) {
  const std::size_t longest =
      folder.size() + std::string_view("/nbd/~~0123456789abcdef.sock").size();
  if (longest > kSocketPathMax) {
    return Failure::make(ExitCode::usage,
                         folder,
                         "too long for the path of a socket",
                         "choose a shorter one with --run-dir");
  }
  VMS_CHECK(make_private_folder(folder, group));
  return make_private_folder(folder + "/nbd", group);
}

std::string node_socket(std::string_view run_folder) {
  return std::string(run_folder) + "/vmstored.sock";
}

std::string control_socket(std::string_view run_folder) {
  return std::string(run_folder) + "/control.sock";
}

std::string store_file(std::string_view run_folder) {
  return std::string(run_folder) + "/store";
}

std::string nbd_socket(std::string_view run_folder, std::string_view reference) {
  std::string name(reference);
  for (char& c : name) {
    if (c == '/') c = '~';
  }
  const std::string folder = std::string(run_folder) + "/nbd/";
  const std::string path = folder + name + ".sock";
  if (path.size() <= kSocketPathMax) return path;
  std::array<char, 32> tail{};
  std::snprintf(tail.data(),
                tail.size(),
                "~~%016llx.sock",
                static_cast<unsigned long long>(xxh3(as_byte_span(reference))));
  const std::size_t room = kSocketPathMax - folder.size() - std::string_view(tail.data()).size();
  return folder + name.substr(0, room) + tail.data();
}

std::string nbd_uri(std::string_view reference, std::string_view socket) {
  return "nbd+unix:///" + percent_encoded(reference) + "?socket=" + percent_encoded(socket);
}

}  // namespace vmstore::cli
