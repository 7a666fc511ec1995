// The signals by which schedulers and people stop a process: SIGUSR1, SIGTERM and SIGINT. The
// handlers only note the signal; loops ask stop_requested() (stop.h).
#pragma once

namespace lf {

// Installs the handlers. The second SIGTERM or SIGINT exits at once with status 75.
void catch_stop_signals();

// The number of the last signal caught, 0 if none.
int last_stop_signal();

}  // namespace lf
