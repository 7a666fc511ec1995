#include "base/stop_signals.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>

#include "base/error.h"

namespace lf {
namespace {

std::atomic<int> g_signal{0};
std::atomic<int> g_terminations{0};

extern "C" void on_stop_signal(int signal) {
  g_signal.store(signal);
  if (signal != SIGUSR1 && g_terminations.fetch_add(1) > 0) {
    ::_exit(static_cast<int>(Code::kInterrupted));
  }
}

}  // namespace

void catch_stop_signals() {
  struct sigaction action {};
  action.sa_handler = on_stop_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (const int signal : {SIGUSR1, SIGTERM, SIGINT}) ::sigaction(signal, &action, nullptr);
}

int last_stop_signal() { return g_signal.load(); }

}  // namespace lf
