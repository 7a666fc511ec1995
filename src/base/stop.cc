#include "base/stop.h"

#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "base/stop_signals.h"
#include "base/text.h"

namespace lf {
namespace {

std::atomic<bool> g_requested{false};
std::atomic<double> g_deadline{0};
std::atomic<const Interruptible*> g_interruptible{nullptr};

std::mutex g_mutex;  // of what follows
std::string g_stop_file;
Clock::time_point g_looked;
bool g_stop_file_seen = false;

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

StopReason stop_requested() {
  if (last_stop_signal() != 0 || g_requested.load()) return StopReason::kSignal;
  const double deadline = g_deadline.load();
  if (deadline > 0 && unix_now() >= deadline) return StopReason::kDeadline;
  return stop_file_seen() ? StopReason::kStopFile : StopReason::kNone;
}

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

Interruptible::Interruptible(std::function<bool()> asked)
    : asked_(std::move(asked)),
      thread_(std::this_thread::get_id()),
      outer_(g_interruptible.exchange(this)) {}

Interruptible::~Interruptible() { g_interruptible.store(outer_); }

bool Interruptible::is_asked() const {
  if (stop_requested() != StopReason::kNone) return true;
  return asked_ && std::this_thread::get_id() == thread_ && asked_();
}

void interruption_point() {
  const Interruptible* work = g_interruptible.load();
  if (work != nullptr && work->is_asked()) fail(Code::kInterrupted, "asked to stop; run it again");
}

void request_stop() { g_requested.store(true); }

void set_stop_deadline(double unix_seconds) { g_deadline.store(unix_seconds); }

void set_stop_file(const std::string& path) {
  const std::lock_guard<std::mutex> lock(g_mutex);
  g_stop_file = path;
  g_looked = {};
  g_stop_file_seen = false;
}

void watch_for_stop(const std::string& run_folder, double margin_seconds) {
  set_stop_file(run_folder + "/STOP");
  if (const double deadline = scheduler_deadline(); deadline > 0) {
    set_stop_deadline(std::max(1.0, deadline - margin_seconds));  // 0 would mean never
  }
}

double scheduler_deadline() {
  // Job scripts set the first; newer SLURM sets the second itself.
  for (const char* name : {"LASTFRAME_DEADLINE", "SLURM_JOB_END_TIME"}) {
    const char* text = std::getenv(name);
    double seconds = 0;
    if (text != nullptr && parse(text, &seconds) && seconds > 0) return seconds;
  }
  return 0;
}

}  // namespace lf
