// Whether this process should stop soon, and why: a signal (stop_signals.h), the deadline of its
// job, or a STOP file in the run folder. Loops ask stop_requested(), which costs next to nothing,
// and stop by themselves; nothing is interrupted.
#pragma once

#include <functional>
#include <string>
#include <thread>

namespace lf {

enum class StopReason { kNone = 0, kStopFile = 1, kDeadline = 2, kSignal = 3 };

// The strongest reason seen so far by this process.
StopReason stop_requested();
const char* name_of(StopReason reason);

// As if this process had received a signal: for one that another process of the job received.
void request_stop();

// While one lives, interruption_point() throws in this process if it should stop or, asked by the
// thread that made it, if `asked` says so. Loops that resume after what they have finished make
// one around a piece of work that may take minutes. The innermost counts.
class Interruptible {
 public:
  explicit Interruptible(std::function<bool()> asked = nullptr);
  ~Interruptible();
  Interruptible(const Interruptible&) = delete;
  Interruptible& operator=(const Interruptible&) = delete;
  bool is_asked() const;

 private:
  const std::function<bool()> asked_;
  const std::thread::id thread_;
  const Interruptible* const outer_;
};

// Called between the steps of such work, on any thread. Throws Code::kInterrupted; does nothing
// where there is no Interruptible, as in training.
void interruption_point();

// Unix time (seconds) from which stop_requested() returns kDeadline; 0: never.
void set_stop_deadline(double unix_seconds);

// The file whose existence means "stop cleanly"; looked for at most once a second.
void set_stop_file(const std::string& path);

// Sets RUN/STOP as the stop file and, in a job with a time limit, a deadline `margin_seconds`
// before its end.
void watch_for_stop(const std::string& run_folder, double margin_seconds);

// Unix time at which this job's allocation ends, from LASTFRAME_DEADLINE or SLURM_JOB_END_TIME; 0:
// never.
double scheduler_deadline();

}  // namespace lf
