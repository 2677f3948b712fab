// SPDX-License-Identifier: Apache-2.0
#include "cli/process.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "cli/interrupt.h"

namespace vmstore::cli {
namespace {

constexpr std::size_t kCaptureBytesMax = std::size_t{4} << 20;
constexpr std::string_view kListenPid = "LISTEN_PID=";

/// argv, the environment and the descriptors, laid out before the fork.
class ExecImage {
 public:
  explicit ExecImage(const ProcessSpec& spec) : spec_(spec) {
    for (const std::string& argument : spec.argv) arguments_.push_back(argument);
    for (char** entry = environ; *entry != nullptr; ++entry) {
      const std::string_view text(*entry);
      if (!text.starts_with("LISTEN_") && !is_replaced(text)) environment_.emplace_back(text);
    }
    for (const auto& [name, value] : spec.environment) environment_.push_back(name + "=" + value);
    if (spec.listen_fd >= 0) {
      environment_.emplace_back("LISTEN_FDS=1");
      environment_.push_back(std::string(kListenPid) + std::string(20, '\0'));
    }
    for (std::string& argument : arguments_) argv_.push_back(argument.data());
    for (std::string& entry : environment_) envp_.push_back(entry.data());
    argv_.push_back(nullptr);
    envp_.push_back(nullptr);
    if (spec.listen_fd >= 0) listen_pid_ = envp_[envp_.size() - 2] + kListenPid.size();
  }

  /// In the child. Returns only when it failed, with errno set.
  void run(pid_t parent) {
    if (spec_.die_with_parent) {
      if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent) return;
    }
    setpgid(0, 0);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGALRM, SIGPIPE, SIGCHLD}) {
      std::signal(number, SIG_DFL);
    }
    if (!place_descriptors()) return;
    if (listen_pid_ != nullptr) write_decimal(listen_pid_, getpid());
    execve(argv_[0], argv_.data(), envp_.data());
  }

 private:
  [[nodiscard]] bool place_descriptors() const {
    // Copies above 10 first: a descriptor's target may be another one's source.
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    const std::array<int, 4> sources{spec_.stdin_fd >= 0 ? spec_.stdin_fd : null,
                                     spec_.stdout_fd,
                                     spec_.stderr_fd,
                                     spec_.listen_fd};
    std::array<int, 4> copies{-1, -1, -1, -1};
    for (std::size_t i = 0; i < sources.size(); ++i) {
      if (sources[i] < 0) continue;
      copies[i] = fcntl(sources[i], F_DUPFD_CLOEXEC, 10);
      if (copies[i] < 0) return false;
    }
    for (std::size_t i = 0; i < copies.size(); ++i) {
      if (copies[i] >= 0 && dup2(copies[i], static_cast<int>(i)) < 0) return false;
    }
    const unsigned first_hidden = spec_.listen_fd >= 0 ? 4 : 3;
    return close_range(first_hidden, ~0U, CLOSE_RANGE_CLOEXEC) == 0;
  }

  [[nodiscard]] bool is_replaced(std::string_view entry) const {
    const std::string_view name = entry.substr(0, entry.find('='));
    return std::any_of(spec_.environment.begin(), spec_.environment.end(), [&](const auto& added) {
      return added.first == name;
    });
  }

  static void write_decimal(char* into, pid_t pid) {
    std::array<char, 20> digits{};
    std::size_t count = 0;
    for (auto rest = static_cast<unsigned>(pid); rest != 0; rest /= 10) {
      digits[count++] = static_cast<char>('0' + rest % 10);
    }
    while (count > 0) *into++ = digits[--count];
    *into = '\0';
  }

  const ProcessSpec& spec_;
  std::vector<std::string> arguments_;
  std::vector<std::string> environment_;
  std::vector<char*> argv_;
  std::vector<char*> envp_;
  char* listen_pid_ = nullptr;
};

/// The errno the child could not exec with; 0 when it did.
int exec_error(int pipe_end) {
  int error = 0;
  ssize_t got = 0;
  do {
    got = read(pipe_end, &error, sizeof(error));
  } while (got < 0 && errno == EINTR);
  return got == static_cast<ssize_t>(sizeof(error)) ? error : 0;
}

std::string own_folder() {
  std::error_code error;
  const auto path = std::filesystem::read_symlink("/proc/self/exe", error);
  return error ? std::string() : path.parent_path().string();
}

bool is_executable(const std::string& path) {
  return access(path.c_str(), X_OK) == 0 && !std::filesystem::is_directory(path);
}

/// Where the build tree makes the programs that this one starts.
std::string build_tree_folder(std::string_view name) {
  if (name == "vmstored") return "storaged";
  if (name == "vmstore-fuse") return "fuse";
  if (name.starts_with("vmstore-bench")) return "bench";
  return {};
}

/// Takes the whole lines from the front of `text`.
Answer<void> hand_over_lines(std::string& text, const LineFunction& on_line) {
  std::size_t from = 0;
  for (auto end = text.find('\n'); end != std::string::npos; end = text.find('\n', from)) {
    VMS_CHECK(on_line(std::string_view(text).substr(from, end - from)));
    from = end + 1;
  }
  text.erase(0, from);
  return {};
}

bool drain(int fd, std::string& into) {
  std::array<char, 16384> buffer{};
  const ssize_t got = read(fd, buffer.data(), buffer.size());
  if (got <= 0) return got < 0 && errno == EINTR;
  if (into.size() < kCaptureBytesMax) into.append(buffer.data(), static_cast<std::size_t>(got));
  return true;
}

}  // namespace

UniqueFd& UniqueFd::operator=(UniqueFd&& other) noexcept {
  if (this != &other) {
    reset();
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

UniqueFd::~UniqueFd() {
  reset();
}

void UniqueFd::reset() noexcept {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

Answer<pid_t> start_process(const ProcessSpec& spec) {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return Failure::from(last_os_error(), spec.argv[0]);
  UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  ExecImage image(spec);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return Failure::from(last_os_error(), spec.argv[0]);
  if (pid == 0) {
    image.run(parent);
    const int error = errno;
    static_cast<void>(!write(writer.get(), &error, sizeof(error)));
    _exit(127);
  }
  writer.reset();
  if (const int error = exec_error(reader.get()); error != 0) {
    waitpid(pid, nullptr, 0);
    return Failure::from(Error(errno_to_errc(error), error), spec.argv[0], "is it installed?");
  }
  return pid;
}

ChildProcess::~ChildProcess() {
  if (is_running()) {
    kill(pid_, SIGKILL);
    wait();
  }
}

bool ChildProcess::is_running() {
  if (pid_ < 0) return false;
  const pid_t got = waitpid(pid_, &status_, WNOHANG);
  if (got == pid_ || (got < 0 && errno == ECHILD)) pid_ = -1;
  return pid_ >= 0;
}

int ChildProcess::wait() {
  while (pid_ >= 0) {
    const pid_t got = waitpid(pid_, &status_, 0);
    if (got == pid_ || (got < 0 && errno != EINTR)) pid_ = -1;
  }
  return status_;
}

Answer<CapturedRun> run_and_capture(std::vector<std::string> argv) {
  return run_and_capture(std::move(argv), {});
}

Answer<CapturedRun> run_and_capture(std::vector<std::string> argv, const LineFunction& on_line) {
  std::array<int, 2> out_ends{};
  std::array<int, 2> err_ends{};
  if (pipe2(out_ends.data(), O_CLOEXEC) != 0) return Failure::from(last_os_error(), argv[0]);
  UniqueFd out(out_ends[0]);
  UniqueFd out_writer(out_ends[1]);
  if (pipe2(err_ends.data(), O_CLOEXEC) != 0) return Failure::from(last_os_error(), argv[0]);
  UniqueFd err(err_ends[0]);
  UniqueFd err_writer(err_ends[1]);
  ProcessSpec spec;
  spec.argv = std::move(argv);
  spec.stdout_fd = out_writer.get();
  spec.stderr_fd = err_writer.get();
  VMS_TRY(const pid_t pid, start_process(spec));
  ChildProcess child(pid);
  out_writer.reset();
  err_writer.reset();
  CapturedRun run;
  while (out || err) {
    if (interrupted()) return interruption();
    std::array<pollfd, 2> fds{pollfd{out.get(), POLLIN, 0}, pollfd{err.get(), POLLIN, 0}};
    if (poll(fds.data(), fds.size(), 200) <= 0) continue;
    if (fds[0].revents != 0 && !drain(out.get(), run.out)) out.reset();
    if (fds[1].revents != 0 && !drain(err.get(), run.err)) err.reset();
    if (on_line) VMS_CHECK(hand_over_lines(run.out, on_line));
  }
  const int status = child.wait();
  run.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return run;
}

Answer<std::string> find_program(std::string_view name, std::string_view package) {
  const std::string folder = own_folder();
  if (!folder.empty()) {
    const std::string beside = folder + "/" + std::string(name);
    if (is_executable(beside)) return beside;
    const std::string in_tree = folder + "/../" + build_tree_folder(name) + "/" + std::string(name);
    if (!build_tree_folder(name).empty() && is_executable(in_tree)) return in_tree;
  }
  const char* path = std::getenv("PATH");
  std::string_view rest = path == nullptr ? "/usr/local/bin:/usr/bin:/bin" : path;
  while (!rest.empty()) {
    const std::string_view part = rest.substr(0, rest.find(':'));
    rest.remove_prefix(std::min(rest.size(), part.size() + 1));
    const std::string candidate = std::string(part) + "/" + std::string(name);
    if (!part.empty() && is_executable(candidate)) return candidate;
  }
  std::string hint = "it is looked for beside vmstore and in PATH";
  if (!package.empty()) hint = "install the package " + std::string(package);
  return Failure::make(ExitCode::usage, std::string(name), "program not found", std::move(hint));
}

std::string find_nbdkit_plugin() {
  constexpr std::string_view kFile = "nbdkit-vmstore-plugin.so";
  if (const char* named = std::getenv("VMSTORE_NBDKIT_PLUGIN"); named != nullptr) return named;
  const std::string folder = own_folder();
  for (const std::string_view place : {"/", "/../nbd-plugin/"}) {
    const std::string candidate = folder + std::string(place) + std::string(kFile);
    if (!folder.empty() && access(candidate.c_str(), R_OK) == 0) return candidate;
  }
  return "vmstore";
}

std::string describe_exit(int wait_status) {
  if (WIFSIGNALED(wait_status)) {
    const int number = WTERMSIG(wait_status);
    return "signal " + std::to_string(number) + " (" + strsignal(number) + ")";
  }
  return "status " + std::to_string(WEXITSTATUS(wait_status));
}

}  // namespace vmstore::cli
