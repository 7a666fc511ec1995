#include "sweep/children.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "base/stop.h"

extern char** environ;

namespace lf {
namespace {

constexpr int kPollMilliseconds = 100;
constexpr int64_t kLastWords = 4096;  // bytes of a log that are looked at for them

// Words as execve takes them.
class Words {
 public:
  explicit Words(std::vector<std::string> words) : words_(std::move(words)) {
    for (std::string& word : words_) pointers_.push_back(word.data());
    pointers_.push_back(nullptr);
  }
  char** data() { return pointers_.data(); }

 private:
  std::vector<std::string> words_;
  std::vector<char*> pointers_;
};

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() { close(); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

 private:
  int fd_;
};

// One thread a rank, unless the environment says otherwise: several runs share the cores.
std::vector<std::string> environment_of(const std::string& program) {
  std::vector<std::string> out;
  for (char** entry = environ; *entry != nullptr; ++entry) out.emplace_back(*entry);
  if (std::getenv("OMP_NUM_THREADS") == nullptr) out.emplace_back("OMP_NUM_THREADS=1");
  std::erase_if(out, [](const std::string& entry) { return entry.starts_with("LASTFRAME="); });
  out.push_back("LASTFRAME=" + program);
  return out;
}

// In the child: only what is safe after a fork of a process with threads.
[[noreturn]] void become(char** words, char** environment, int out, int log, int at_death,
                         pid_t parent) {
  ::setsid();  // the terminal's Ctrl-C reaches only the sweep
  ::prctl(PR_SET_PDEATHSIG, at_death);
  if (::getppid() != parent) ::_exit(static_cast<int>(Code::kInterrupted));
  ::dup2(out, STDOUT_FILENO);
  ::dup2(log, STDERR_FILENO);
  ::execve(words[0], words, environment);
  const char* why = std::strerror(errno);
  if (::write(STDERR_FILENO, why, std::strlen(why)) < 0) ::_exit(126);
  ::_exit(127);
}

// What the child wrote to stdout; on the way it is told once to stop if this process is to.
std::string read_all(int fd, pid_t child, int stop_signal, Clock::time_point until, bool& told) {
  std::string text;
  std::array<char, 1 << 16> piece{};
  while (true) {
    pollfd ready{fd, POLLIN, 0};
    const int count = ::poll(&ready, 1, kPollMilliseconds);
    if (!told && stop_requested() != StopReason::kNone) {
      told = true;
      ::kill(child, stop_signal);
    }
    if (!told && Clock::now() > until) {
      told = true;
      ::kill(child, SIGKILL);
    }
    if (count <= 0) continue;
    const ssize_t size = ::read(fd, piece.data(), piece.size());
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) return text;
    text.append(piece.data(), static_cast<size_t>(size));
  }
}

int status_of(pid_t child) {
  int state = 0;
  while (::waitpid(child, &state, 0) < 0) {
    if (errno != EINTR) return static_cast<int>(Code::kBug);
  }
  return WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state);
}

// The last line that was written to a log from an offset on, without the program's name.
std::string last_words(int log, off_t begin) {
  struct stat info {};
  if (::fstat(log, &info) != 0) return "";
  const off_t from = std::max<off_t>(begin, info.st_size - kLastWords);
  std::string text(static_cast<size_t>(std::max<off_t>(0, info.st_size - from)), '\0');
  const ssize_t size = ::pread(log, text.data(), text.size(), from);
  text.resize(static_cast<size_t>(std::max<ssize_t>(0, size)));
  while (!text.empty() && text.back() == '\n') text.pop_back();
  text = text.substr(text.rfind('\n') + 1);
  const std::string name = "lastframe: ";
  return text.starts_with(name) ? text.substr(name.size()) : text;
}

struct Ended {
  int status = 0;
  bool told = false;       // to stop
  std::string out, words;  // its stdout; the last it wrote to the log
};

Ended run_child(const std::vector<std::string>& words, const std::vector<std::string>& variables,
                const std::string& log, int stop, int at_death, Clock::time_point until) {
  const bool late = Clock::now() > until;
  if (late || stop_requested() != StopReason::kNone) fail(Code::kInterrupted, "asked to stop");
  Words command(words), environment(variables);
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) fail(Code::kBug, "pipe: ", std::strerror(errno));
  Descriptor in(ends[0]), out(ends[1]);
  Descriptor told(::open(log.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
  if (told.get() < 0) {
    fail(Code::kStorage, "cannot write ", printable(log), ": ", std::strerror(errno));
  }
  const off_t begin = ::lseek(told.get(), 0, SEEK_END);
  const pid_t parent = ::getpid(), child = ::fork();
  if (child < 0) fail(Code::kBug, "fork: ", std::strerror(errno));
  if (child == 0) {
    become(command.data(), environment.data(), out.get(), told.get(), at_death, parent);
  }
  out.close();
  Ended ended;
  ended.out = read_all(in.get(), child, stop, until, ended.told);
  ended.status = status_of(child);
  ended.words = last_words(told.get(), begin);
  if (ended.words.empty()) ended.words = "it said nothing";
  return ended;
}

// build/release/lastframe of a checkout, or bin/lastframe of an installation.
std::string launch_local(const std::string& program) {
  const std::filesystem::path folder = std::filesystem::path(program).parent_path();
  for (const char* place : {"../../launch/local", "../share/lastframe/launch/local"}) {
    const std::filesystem::path path = (folder / place).lexically_normal();
    if (std::filesystem::exists(path)) return path.string();
  }
  fail(Code::kUsage, "--ranks starts runs by launch/local, which is neither in ",
       printable(folder.string()),
       "/../../launch nor in ../share/lastframe/launch; name another "
       "launcher, such as LASTFRAME_LAUNCHER='mpirun -n 2 --bind-to none'");
}

}  // namespace

std::string own_program() {
  std::array<char, 4096> path{};
  const ssize_t size = ::readlink("/proc/self/exe", path.data(), path.size() - 1);
  LF_CHECK(size > 0, "no /proc/self/exe");
  return path.data();
}

std::string output_of(const std::vector<std::string>& words, const std::string& log) {
  std::vector<std::string> command = {"/usr/bin/env"};
  command.insert(command.end(), words.begin(), words.end());
  const Ended ended = run_child(command, environment_of(own_program()), log, SIGTERM, SIGTERM,
                                Clock::time_point::max());
  if (ended.status == 0) return ended.out;
  fail(Code::kUsage, words.front(), " ended with status ", ended.status, ": ", ended.words);
}

Children::Children(ChildSettings settings) : settings_(std::move(settings)) {
  const char* given = std::getenv("LASTFRAME_LAUNCHER");
  if (given != nullptr && *given != '\0') {
    launcher_ = split(given, ' ');
    std::erase(launcher_, "");
    // execve looks into no PATH, and this does.
    launcher_.insert(launcher_.begin(), "/usr/bin/env");
  } else if (settings_.ranks > 1) {
    local_ = true;
    launcher_ = {launch_local(settings_.program),
                 "-n",
                 std::to_string(settings_.ranks),
                 "--restarts",
                 "0",
                 "--"};
  }
}

std::vector<std::string> Children::command_of(const std::vector<std::string>& words, On on) const {
  std::vector<std::string> all;
  const bool launched = on == On::kAllRanks && !launcher_.empty();
  if (launched) all = launcher_;
  if (!launched || !local_) all.push_back(settings_.program);
  all.insert(all.end(), words.begin(), words.end());
  return all;
}

std::string Children::call(const std::vector<std::string>& words, const std::string& log,
                           On on) const {
  const bool launched = on == On::kAllRanks && !launcher_.empty();
  // launch/local takes USR1 to be for others; a launcher passes what it gets on to its ranks, so a
  // child that dies with us gets what lets them save, and a process alone is just gone.
  const int stop = launched && local_ ? SIGTERM : SIGUSR1;
  const Ended ended =
      run_child(command_of(words, on), environment_of(settings_.program),
                settings_.logs + "/" + log, stop, launched ? stop : SIGKILL, settings_.until);
  if (ended.status == 0) return ended.out;
  if (ended.told || ended.status == static_cast<int>(Code::kInterrupted)) {
    fail(Code::kInterrupted, "asked to stop");
  }
  const bool known = ended.status >= static_cast<int>(Code::kUsage) &&
                     ended.status <= static_cast<int>(Code::kStorage);
  fail(known ? static_cast<Code>(ended.status) : Code::kBug, "`lastframe ", words.front(),
       "` ended with status ", ended.status, ": ", ended.words);
}

std::string Children::json(std::vector<std::string> words, const std::string& log, On on) const {
  words.emplace_back("--json");
  std::string text = call(words, log, on);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text.substr(text.rfind('\n') + 1);
}

}  // namespace lf
