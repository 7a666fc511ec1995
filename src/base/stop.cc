#include "base/stop.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <mutex>

#include "base/clock.h"

namespace lf {
namespace {

std::atomic<int> g_signal{0};
std::atomic<int> g_terminations{0};
std::atomic<bool> g_told{false};
std::atomic<double> g_deadline{0};
std::mutex g_mutex;
std::string g_stop_file;
Clock::time_point g_looked;
bool g_stop_file_seen = false;

extern "C" void on_stop_signal(int signal) {
  g_signal.store(signal);
  if (signal != SIGUSR1 && g_terminations.fetch_add(1) > 0) ::_exit(75);
}

bool stop_file_seen() {
  const std::lock_guard<std::mutex> lock(g_mutex);
  if (g_stop_file_seen || g_stop_file.empty()) return g_stop_file_seen;
  const auto now = Clock::now();
  if (now - g_looked < std::chrono::seconds(1)) return false;
  g_looked = now;
  struct stat status {};
  g_stop_file_seen = ::stat(g_stop_file.c_str(), &status) == 0;
  return g_stop_file_seen;
}

}  // namespace

void catch_stop_signals() {
  struct sigaction action {};
  action.sa_handler = on_stop_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (const int signal : {SIGUSR1, SIGTERM, SIGINT}) ::sigaction(signal, &action, nullptr);
}

void set_stop_deadline(double unix_seconds) { g_deadline.store(unix_seconds); }

void set_stop_file(const std::string& path) {
  const std::lock_guard<std::mutex> lock(g_mutex);
  g_stop_file = path;
  g_looked = {};
  g_stop_file_seen = false;
}

void request_stop() { g_told.store(true); }

StopReason stop_requested() {
  if (g_signal.load() != 0 || g_told.load()) return StopReason::kSignal;
  const double deadline = g_deadline.load();
  if (deadline > 0) {
    if (unix_now() >= deadline) return StopReason::kDeadline;
  }
  return stop_file_seen() ? StopReason::kStopFile : StopReason::kNone;
}

int last_stop_signal() { return g_signal.load(); }

const char* name_of(StopReason reason) {
  switch (reason) {
    case StopReason::kNone:
      return "none";
    case StopReason::kStopFile:
      return "a STOP file";
    case StopReason::kDeadline:
      return "the deadline";
    case StopReason::kSignal:
      return "a signal";
  }
  return "?";
}

}  // namespace lf
