// SPDX-License-Identifier: Apache-2.0
// nbdkit-vmstore-plugin: the callbacks of nbdkit, and no logic besides.
//
// Invariants: no exception leaves a callback (it would kill nbdkit): guarded() turns it into EIO;
// no thread starts before .after_fork, because nbdkit becomes a daemon by fork; every extent lies
// in the asked range (see answers.h).
#define NBDKIT_API_VERSION 2
#include <malloc.h>
#include <nbdkit-plugin.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <exception>
#include <memory>
#include <optional>
#include <string>

#include "base/limits.h"
#include "base/log.h"
#include "base/units.h"
#include "disk/disk.h"
#include "nbd-plugin/answers.h"
#include "nbd-plugin/parameters.h"
#include "nbd-plugin/served_disk.h"
#include "nbd-plugin/stop_signal.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

namespace vmstore::nbd_plugin {
namespace {

constexpr std::uint32_t kBlockBytesMin = 512;
constexpr std::uint32_t kBlockBytesPreferred = 4096;
constexpr std::uint32_t kRequestBytesMax = 32 * limits::kMiB;
constexpr std::size_t kExtentsPerAnswer = 8192;

/// Of the process, between .load and .unload.
struct Plugin {
  Parameters parameters;
  std::unique_ptr<ServedDisk> served;
  std::unique_ptr<StopSignal> stop_signal;  // destroyed first: it uses `served`
};
Plugin* plugin = nullptr;

// ---- the border to C ----

int refuse(const std::string& text, int os_errno) noexcept {
  nbdkit_error("%s", text.c_str());
  nbdkit_set_error(os_errno);
  return -1;
}

int fail(const char* what, const Error& error) {
  return refuse(std::string(what) + ": " + to_string(error), nbd_errno(error.code));
}

/// Runs a callback's body; `failed` for whatever it throws.
template <class T, class F>
T guarded(const char* what, T failed, F body) noexcept {
  const char* why = "unknown exception";
  try {
    return body();
  } catch (const std::exception& thrown) {
    nbdkit_error("%s: %s", what, thrown.what());
    why = nullptr;
  } catch (...) {
  }
  if (why != nullptr) nbdkit_error("%s: %s", what, why);
  nbdkit_set_error(EIO);
  return failed;
}

struct Range {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

/// One request of a client: held unanswered during a planned stop, errors told to nbdkit.
template <class F>
int request(const char* what, const Range& range, F body) noexcept {
  return guarded(what, -1, [&] {
    const ServedDisk::Request held(*plugin->served);
    const Result<void> done = body(plugin->served->disk());
    if (done) return 0;
    const std::string where =
        std::to_string(range.bytes) + " bytes at " + std::to_string(range.offset);
    return fail((std::string(what) + " of " + where).c_str(), done.error());
  });
}

// ---- the process ----

void on_load() noexcept {
#ifdef __GLIBC__
  // One arena for all threads, and no threshold that grows with what was freed: what each of
  // nbdkit's threads had freed stayed with it, and buffers of 512 KiB went among small pieces, more
  // than half of the memory of an open disk. Before the first thread begins.
  ::mallopt(M_ARENA_MAX, 1);
  ::mallopt(M_MMAP_THRESHOLD, 128 * limits::kKiB);  // glibc's own value, fixed
#endif
  guarded("load", 0, [] {
    plugin = new Plugin();  // NOLINT: between C callbacks
    return 0;
  });
}

void on_unload() noexcept {
  delete plugin;  // NOLINT: between C callbacks
  plugin = nullptr;
}

int on_config(const char* key, const char* value) noexcept {
  return guarded("config", -1, [&] {
    std::unique_ptr<char, decltype(&std::free)> folder(getcwd(nullptr, 0), &std::free);
    const std::string complaint =
        set_parameter(plugin->parameters, key, value, folder == nullptr ? "" : folder.get());
    return complaint.empty() ? 0 : refuse(complaint, EINVAL);
  });
}

int on_config_complete() noexcept {
  return guarded("config", -1, [] {
    const std::string complaint = check_parameters(plugin->parameters);
    return complaint.empty() ? 0 : refuse(complaint, EINVAL);
  });
}

/// SIGUSR1: commit, give the disk back, end without a word to the clients. What could not be
/// committed lies in the batch file, where the next process finds it.
void planned_stop() {
  VMS_LOG(info, "nbd", "planned stop: requests wait for the next process");
  if (const Result<void> stopped = plugin->served->stop(); !stopped) {
    VMS_LOG(error, "nbd", "planned stop: closing the disk: " << to_string(stopped.error()));
  }
  kill(getpid(), SIGKILL);
}

/// A foreground nbdkit asks for SIGTERM when its parent dies, and then fails its clients' requests.
/// By SIGKILL they wait for the next server instead (vmstore up, killed).
void die_silently_with_parent() {
  int number = 0;
  if (prctl(PR_GET_PDEATHSIG, &number) == 0 && number == SIGTERM) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
  }
}

int on_after_fork() noexcept {
  return guarded("start", -1, [] {
    StopSignal::block();
    die_silently_with_parent();
    disk::ClientConfig config;
    config.endpoint = plugin->parameters.endpoint;
    config.tls = plugin->parameters.tls;
    config.run_folder = plugin->parameters.run_folder;
    config.program = "nbdkit";
    Result<std::unique_ptr<disk::Client>> client = disk::Client::connect(config);
    if (!client) {
      return fail(("node at " + config.endpoint).c_str(), client.error());
    }
    plugin->served = std::make_unique<ServedDisk>(std::move(*client));
    Result<std::unique_ptr<StopSignal>> stop_signal = StopSignal::watch(planned_stop);
    if (!stop_signal) return fail("SIGUSR1", stop_signal.error());
    plugin->stop_signal = std::move(*stop_signal);
    return 0;
  });
}

/// nbdkit was told to end (SIGTERM): the clients have been answered and are gone.
void on_cleanup() noexcept {
  guarded("stop", 0, [] {
    plugin->stop_signal.reset();
    if (plugin->served == nullptr) return 0;
    const Result<void> stopped = plugin->served->stop();
    plugin->served.reset();
    return stopped ? 0 : fail("closing the disk", stopped.error());
  });
}

void on_dump_plugin() noexcept {
  std::puts("vmstore_version=" VMSTORE_VERSION);
}

// ---- exports and connections ----

/// The client's process; empty when it is not on a unix socket of this host.
std::optional<std::uint32_t> peer_pid() {
  sockaddr_storage address{};
  socklen_t bytes = sizeof(address);
  if (nbdkit_peer_name(reinterpret_cast<sockaddr*>(&address), &bytes) != 0) return {};
  if (address.ss_family != AF_UNIX) return {};
  const std::int64_t pid = nbdkit_peer_pid();
  if (pid <= 0 || pid > INT_MAX) return {};
  return static_cast<std::uint32_t>(pid);
}

int on_list_exports(int /*readonly*/, int /*is_tls*/, nbdkit_exports* exports) noexcept {
  return guarded("list of exports", -1, [&] {
    const ServedDisk::Request held(*plugin->served);
    if (!plugin->parameters.disk.empty()) {
      return nbdkit_add_export(exports, plugin->parameters.disk.c_str(), nullptr);
    }
    const auto disks = plugin->served->client().list();
    if (!disks) return fail("list of exports", disks.error());
    for (const disk::DiskSummary& disk : *disks) {
      if (nbdkit_add_export(exports, disk.name.c_str(), nullptr) != 0) return -1;
    }
    return 0;
  });
}

const char* on_default_export(int /*readonly*/, int /*is_tls*/) noexcept {
  return plugin->parameters.disk.empty() ? nullptr : plugin->parameters.disk.c_str();
}

int refuse_export(const std::string& asked, const Error& error) {
  const std::string disk = printable(asked.substr(0, asked.find('@')));
  const std::string& only = plugin->parameters.disk;
  if (asked.empty()) return refuse("no export name given, and no disk= to fall back on", ENOENT);
  std::string text = "export \"" + printable(asked) + "\": ";
  if (error == Errc::exists) {
    text += "this process serves \"" + plugin->served->reference() + "\"";
  } else if (error == Errc::invalid_argument) {
    text += "not a name of the form [GROUP/]NAME[@SNAP]";
  } else if (error == Errc::not_found) {
    text +=
        only.empty() || only == asked ? "no such disk or snapshot" : "only " + only + " is served";
  } else if (error == Errc::foreign_store) {
    text +=
        "its batch file in the run folder is damaged; set it aside with: vmstore owner discard " +
        disk;
  } else {
    text += to_string(error);
    if (error == Errc::unknown || error == Errc::corrupt) {
      text += "; a damaged log is named by: vmstore verify " + disk + " --repair";
    }
  }
  return refuse(text, nbd_errno(error.code));
}

void* on_open(int readonly) noexcept {
  return guarded("open", static_cast<void*>(nullptr), [&]() -> void* {
    const ServedDisk::Request held(*plugin->served);
    const char* name = nbdkit_export_name();
    const std::string asked = name == nullptr ? "" : name;
    const Result<std::string> chosen = choose_export(plugin->parameters.disk, asked);
    if (!chosen) return refuse_export(asked, chosen.error()), nullptr;
    disk::DiskOpenOptions options;
    options.reference = *chosen;
    options.read_only = readonly != 0;
    options.guest_pid = peer_pid();
    const Result<void> connected = plugin->served->connect(options);
    if (!connected) return refuse_export(*chosen, connected.error()), nullptr;
    const disk::DiskInfo& info = plugin->served->disk().info();
    if (info.read_only) {
      // Clients that ask to write only say "permission denied"; here is why.
      const char* why = readonly != 0 ? "nbdkit runs with -r" : "a snapshot never changes";
      VMS_LOG(info, "nbd", *chosen << " is served read-only: " << why);
    }
    return NBDKIT_HANDLE_NOT_NEEDED;
  });
}

void on_close(void* /*handle*/) noexcept {
  plugin->served->disconnect();
}

std::int64_t on_get_size(void* /*handle*/) noexcept {
  return static_cast<std::int64_t>(plugin->served->disk().info().size_bytes);
}

int on_block_size(void* /*handle*/,
                  std::uint32_t* minimum,
                  std::uint32_t* preferred,
                  std::uint32_t* maximum) noexcept {
  *minimum = kBlockBytesMin;
  *preferred = kBlockBytesPreferred;
  *maximum = kRequestBytesMax;
  return 0;
}

const char* on_export_description(void* /*handle*/) noexcept {
  return guarded("description", static_cast<const char*>(nullptr), [] {
    const disk::DiskInfo& info = plugin->served->disk().info();
    const bool is_snapshot = info.name.find('@') != std::string::npos;
    const std::string text = std::string(is_snapshot ? "VMStore snapshot " : "VMStore disk ") +
                             info.name + ", " + format_size(info.size_bytes);
    return nbdkit_strdup_intern(text.c_str());
  });
}

int on_can_write(void* /*handle*/) noexcept {
  return plugin->served->disk().info().read_only ? 0 : 1;
}
int yes(void* /*handle*/) noexcept {
  return 1;
}
int no(void* /*handle*/) noexcept {
  return 0;
}
int native_fua(void* /*handle*/) noexcept {
  return NBDKIT_FUA_NATIVE;
}
int native_cache(void* /*handle*/) noexcept {
  return NBDKIT_CACHE_NATIVE;
}

// ---- requests ----

bool is_fua(std::uint32_t flags) noexcept {
  return (flags & NBDKIT_FLAG_FUA) != 0;
}

int on_pread(void* /*handle*/,
             void* buffer,
             std::uint32_t count,
             std::uint64_t offset,
             std::uint32_t /*flags*/) noexcept {
  return request("read", {offset, count}, [&](disk::BlockingDisk& disk) {
    return disk.read(offset, MutableBytes(static_cast<std::byte*>(buffer), count));
  });
}

int on_pwrite(void* /*handle*/,
              const void* buffer,
              std::uint32_t count,
              std::uint64_t offset,
              std::uint32_t flags) noexcept {
  return request("write", {offset, count}, [&](disk::BlockingDisk& disk) {
    return disk.write(
        offset, ByteSpan(static_cast<const std::byte*>(buffer), count), is_fua(flags));
  });
}

int on_flush(void* /*handle*/, std::uint32_t /*flags*/) noexcept {
  return request("flush", {}, [](disk::BlockingDisk& disk) { return disk.flush(); });
}

int on_trim(void* /*handle*/,
            std::uint32_t count,
            std::uint64_t offset,
            std::uint32_t flags) noexcept {
  return request("trim", {offset, count}, [&](disk::BlockingDisk& disk) {
    return disk.trim(offset, count, is_fua(flags));
  });
}

int on_zero(void* /*handle*/,
            std::uint32_t count,
            std::uint64_t offset,
            std::uint32_t flags) noexcept {
  return request("write zeroes", {offset, count}, [&](disk::BlockingDisk& disk) {
    return disk.zero(offset, count, is_fua(flags));
  });
}

int on_cache(void* /*handle*/,
             std::uint32_t count,
             std::uint64_t offset,
             std::uint32_t /*flags*/) noexcept {
  return request("cache", {offset, count}, [&](disk::BlockingDisk& disk) {
    return disk.prefetch(offset, count);
  });
}

int on_extents(void* /*handle*/,
               std::uint32_t count,
               std::uint64_t offset,
               std::uint32_t flags,
               nbdkit_extents* extents) noexcept {
  const std::size_t count_max = (flags & NBDKIT_FLAG_REQ_ONE) != 0 ? 1 : kExtentsPerAnswer;
  return request("block status", {offset, count}, [&](disk::BlockingDisk& disk) -> Result<void> {
    VMS_TRY(const auto found, disk.extents(offset, count, count_max));
    VMS_TRY(const auto clipped, clip_extents(found, offset, count));
    for (const disk::DiskExtent& extent : clipped) {
      const std::uint32_t type = extent.zero ? NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO : 0;
      if (nbdkit_add_extent(extents, extent.offset, extent.bytes, type) != 0) {
        return Errc::io_error;
      }
    }
    return success();
  });
}

// ---- what nbdkit asks for ----

constexpr const char* kConfigHelp =
    "endpoint=ADDRESS   (required) The node: path of a unix socket, or HOST:PORT;\n"
    "                   or several nodes of the store, with commas.\n"
    "disk=NAME[@SNAP]   The only disk or snapshot to serve. Without it the first\n"
    "                   client's export name says which.\n"
    "run-dir=FOLDER     Folder on tmpfs for batch files (default: found by itself).\n"
    "tls-ca=FILE, tls-cert=FILE, tls-key=FILE\n"
    "                   For a node on TCP: the store's authority, our certificate, its key.";

void describe_process(nbdkit_plugin& to) noexcept {
  to.name = "vmstore";
  to.longname = "VMStore";
  to.version = VMSTORE_VERSION;
  to.description = "Disks of a VMStore, a distributed block store for virtual machines";
  to.config_help = kConfigHelp;
  to.magic_config_key = "disk";
  to.load = on_load;
  to.unload = on_unload;
  to.dump_plugin = on_dump_plugin;
  to.config = on_config;
  to.config_complete = on_config_complete;
  to.after_fork = on_after_fork;
  to.cleanup = on_cleanup;
}

void describe_connections(nbdkit_plugin& to) noexcept {
  to.list_exports = on_list_exports;
  to.default_export = on_default_export;
  to.open = on_open;
  to.close = on_close;
  to.get_size = on_get_size;
  to.block_size = on_block_size;
  to.export_description = on_export_description;
  to.can_write = on_can_write;
  to.can_flush = yes;
  to.is_rotational = no;
  to.can_trim = yes;
  to.can_zero = yes;
  to.can_fast_zero = yes;  // zeros are metadata
  to.can_fua = native_fua;
  to.can_multi_conn = yes;  // all connections share one ServedDisk
  to.can_extents = yes;
  to.can_cache = native_cache;
}

void describe_requests(nbdkit_plugin& to) noexcept {
  to.pread = on_pread;
  to.pwrite = on_pwrite;
  to.flush = on_flush;
  to.trim = on_trim;
  to.zero = on_zero;
  to.extents = on_extents;
  to.cache = on_cache;
}

}  // namespace
}  // namespace vmstore::nbd_plugin

/// The entry point. Filled field by field: a designated initializer of this struct warns 45 times,
/// and NBDKIT_REGISTER_PLUGIN would want a global filled before main.
extern "C" NBDKIT_DLL_PUBLIC nbdkit_plugin* plugin_init() {
  static nbdkit_plugin description{};
  description._struct_size = sizeof(description);
  description._api_version = NBDKIT_API_VERSION;
  description._thread_model = THREAD_MODEL;
  vmstore::nbd_plugin::describe_process(description);
  vmstore::nbd_plugin::describe_connections(description);
  vmstore::nbd_plugin::describe_requests(description);
  return &description;
}
