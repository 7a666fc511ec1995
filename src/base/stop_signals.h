// The signals by which schedulers and people stop a process: SIGUSR1, SIGTERM and SIGINT. Handlers
// only note the signal; stop.h tells loops of it.
#pragma once

namespace lf {

// Installs the handlers. The second SIGTERM or SIGINT exits at once with status 75.
void catch_stop_signals();

// The number of the last signal caught, 0 if none.
int last_stop_signal();

}  // namespace lf
