// Why a process should end soon: SIGUSR1 or SIGTERM, a deadline, or a STOP file in the run folder.
// Handlers only set a flag; the training loop reads it once a step and the ranks agree on it. Not
// a scheduler of anything. Called by train, eval, data/store/build and launch.
#pragma once

#include <cstdint>
#include <string>

namespace lf {

enum class StopReason { kNone = 0, kStopFile = 1, kDeadline = 2, kSignal = 3 };

// Installs the handlers of SIGUSR1, SIGTERM and SIGINT. The second SIGTERM or SIGINT ends the
// process at once with status 75.
void catch_stop_signals();

// Unix time (seconds) after which stop_requested() says kDeadline; 0: never.
void set_stop_deadline(double unix_seconds);

// The file whose existence means "stop cleanly"; looked for at most once a second.
void set_stop_file(const std::string& path);

// As if this process had got a signal: another one of the job did, and told it.
void request_stop();

// The strongest reason seen so far by this process.
StopReason stop_requested();

// The number of the last signal caught, 0 if none; for messages and for `doctor --smoke`.
int last_stop_signal();

const char* name_of(StopReason reason);

}  // namespace lf
