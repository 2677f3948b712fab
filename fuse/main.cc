// SPDX-License-Identifier: Apache-2.0
// vmstore-fuse: the disks of a VMStore as files.
#include <signal.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <optional>
#include <string>

#include "fuse/background.h"
#include "fuse/mount.h"
#include "fuse/options.h"

namespace vmstore::fuse {
namespace {

constexpr unsigned kThreadsMax = 64;  // one blocked disk leaves threads for the others

int complain(const std::string& what) {
  std::cerr << "vmstore-fuse: " << what << "\n";
  return 1;
}

/// The threads of the session must not take the signals that end the mount: libfuse waits for them
/// in the first thread.
Result<std::unique_ptr<disk::Client>> connect(const Options& options) {
  sigset_t ending;
  sigset_t before;
  sigemptyset(&ending);
  for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGQUIT}) sigaddset(&ending, number);
  pthread_sigmask(SIG_BLOCK, &ending, &before);
  disk::ClientConfig config;
  config.endpoint = options.endpoint;
  config.tls = {options.tls_ca, options.tls_certificate, options.tls_key};
  config.run_folder = options.run_folder;
  config.program = "vmstore-fuse";
  auto client = disk::Client::connect(config);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return client;
}

struct SessionEnd {
  void operator()(fuse_session* session) const noexcept {
    fuse_remove_signal_handlers(session);
    fuse_session_destroy(session);
  }
};
using Session = std::unique_ptr<fuse_session, SessionEnd>;

Session make_session(const Options& options, const fuse_lowlevel_ops& operations, Mount& mount) {
  std::string program = "vmstore-fuse";
  std::string flag = "-o";
  std::string text = mount_options(options);
  std::array<char*, 4> argv{program.data(), flag.data(), text.data(), nullptr};
  fuse_args arguments = FUSE_ARGS_INIT(3, argv.data());
  Session session(fuse_session_new(&arguments, &operations, sizeof(operations), &mount));
  fuse_opt_free_args(&arguments);
  return session;
}

int serve(fuse_session& session) {
  const std::unique_ptr<fuse_loop_config, decltype(&fuse_loop_cfg_destroy)> config(
      fuse_loop_cfg_create(), &fuse_loop_cfg_destroy);
  fuse_loop_cfg_set_clone_fd(config.get(), 1);
  fuse_loop_cfg_set_max_threads(config.get(), kThreadsMax);
  return fuse_session_loop_mt(&session, config.get());
}

int run(const Options& options, std::optional<Background>& background) {
  auto client = connect(options);
  if (!client) return complain(options.endpoint + ": " + to_string(client.error()));
  Mount mount(**client, {options.allow_other, options.read_only});
  fuse_lowlevel_ops operations{};
  add_file_operations(operations);
  add_folder_operations(operations);
  const Session session = make_session(options, operations, mount);
  if (session == nullptr || fuse_set_signal_handlers(session.get()) != 0 ||
      fuse_session_mount(session.get(), options.mount_point.c_str()) != 0) {
    return complain("cannot mount on " + options.mount_point);  // libfuse has said why
  }
  int outcome = 0;
  if (background) {
    const auto ready = background->ready(options.log_file);
    if (!ready) outcome = complain("going to the background: " + to_string(ready.error()));
  }
  if (outcome == 0) outcome = serve(*session);
  fuse_session_unmount(session.get());
  const Result<void> closed = mount.open_disks().close_all();
  if (!closed) return complain("giving the disks back: " + to_string(closed.error()));
  return outcome < 0 ? 1 : 0;  // a positive one is the signal that asked for the end
}

int main_of(const std::vector<std::string>& arguments) {
  const std::unique_ptr<char, decltype(&std::free)> folder(getcwd(nullptr, 0), &std::free);
  Options options;
  const std::string wrong = parse_options(arguments, folder ? folder.get() : "", options);
  if (!wrong.empty()) {
    std::cerr << "vmstore-fuse: " << wrong << "\nTry: vmstore-fuse --help\n";
    return 2;
  }
  if (options.help || options.version) {
    const std::string text = options.help ? help_text() : "vmstore-fuse " VMSTORE_VERSION "\n";
    std::fputs(text.c_str(), stdout);
    return 0;
  }
  std::optional<Background> background;
  if (!options.foreground) {
    auto entered = Background::enter();
    if (!entered) return complain("going to the background: " + to_string(entered.error()));
    background.emplace(std::move(*entered));
  }
  return run(options, background);
}

}  // namespace
}  // namespace vmstore::fuse

int main(int argc, char** argv) {
  return vmstore::fuse::main_of({argv + 1, argv + argc});
}
