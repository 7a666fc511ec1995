#include "train/heir.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/stop_signals.h"

namespace lf {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::milliseconds kTick{50};
constexpr unsigned kLongest = 600;  // seconds that saving may take
constexpr int kUrgent = 6;          // ticks until the log speaks of the heir

// Descriptors are shared with the process that forked: only the run's lock is kept. The others
// become /dev/null, since closed ones would be reused for the checkpoint's files, into which a log
// could then write.
void keep_only(const std::string& path) {
  std::error_code ignored;
  const fs::path kept = fs::canonical(path, ignored);
  const int nowhere = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  std::vector<int> others;
  for (const auto& entry : fs::directory_iterator("/proc/self/fd", ignored)) {
    if (fs::read_symlink(entry.path(), ignored) != kept) {
      others.push_back(std::atoi(entry.path().filename().c_str()));
    }
  }
  for (const int descriptor : others) {
    if (descriptor != nowhere && ::fcntl(descriptor, F_GETFD) >= 0) ::dup2(nowhere, descriptor);
  }
}

}  // namespace

Heir::Heir(std::string run_folder, std::function<void(int64_t images)> save)
    : run_folder_(std::move(run_folder)), save_(std::move(save)) {
  unsettle();
  watch_ = std::thread([this] { watch(); });
}

Heir::~Heir() {
  ended_ = true;
  if (!whole_) changing_.unlock();
  watch_.join();
  // Ranks are not killed at one moment: an error here may come of a peer that is gone already.
  if (heir_ <= 0 || std::uncaught_exceptions() > 0) return;
  ::kill(heir_, SIGKILL);
  ::waitpid(heir_, nullptr, 0);
}

void Heir::settle(int64_t images) {
  images_ = images;
  if (!whole_) changing_.unlock();
  whole_ = true;
}

void Heir::unsettle() {
  if (whole_) changing_.lock();
  whole_ = false;
}

void Heir::watch() {
  while (!ended_ && last_stop_signal() == 0) std::this_thread::sleep_for(kTick);
  int64_t images = 0;
  {
    const std::lock_guard<std::mutex> lock(changing_);
    images = images_;
    if (ended_ || images == 0) return;
    fork_heir();
  }
  for (int tick = 0; tick < kUrgent && !ended_; ++tick) std::this_thread::sleep_for(kTick);
  if (ended_ || heir_ <= 0) return;
  LF_INFO(
      "asked to stop: this step is finished first; should this process be killed before, image ",
      images, " is saved all the same");
}

void Heir::fork_heir() {
  const pid_t parent = ::getpid();
  heir_ = ::fork();
  if (heir_ == 0) inherit(parent);
  if (heir_ < 0) LF_WARN("no process could be forked to save the run if this one is killed");
}

// A forked process has one thread: what it needs of others' locks are malloc's, which fork()
// releases. Should it hang all the same, the alarm ends it.
void Heir::inherit(pid_t parent) {
  ::setsid();
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1, SIGHUP, SIGPIPE}) ::signal(signal, SIG_IGN);
  ::signal(SIGALRM, SIG_DFL);
  try {
    keep_only(run_folder_ + "/lock");
    while (::getppid() == parent) std::this_thread::sleep_for(kTick);
    ::alarm(kLongest);
    save_(images_);
  } catch (const std::exception& error) {  // as if there had been no heir
    std::ofstream(run_folder_ + "/logs/rank-0000.log", std::ios::app)
        << "the last state of the killed process could not be saved: " << error.what() << "\n";
  }
  ::_exit(0);
}

}  // namespace lf
