// The runs of a sweep: which there are, how far each is, and doing them, several at a time. A run
// is trained, measured and remembered as a row; a row that is known, here or in the sweep's file of
// rows, is a run that is done.
#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "sweep/rows.h"
#include "sweep/workshop.h"

namespace lf {

struct ArmRun {
  enum class State { kWaiting, kRunning, kFailed, kFinished };
  size_t arm = 0;  // of the plan
  int seed = 0;
  bool asked = true;  // by --only; of the others rows are shown
  State state = State::kWaiting;
  std::string hash = {};    // of its row
  std::string folder = {};  // "runs/V-0-HASH", below the sweep's
  std::string error = {};   // of a failed one
  RunRow row = {};          // of a finished one
};
const char* name_of(ArmRun::State state);  // "FINISHED"

// The runs in the order in which they are done, seed by seed: of the arms asked for, and of those
// that are not extra.
std::vector<ArmRun> runs_of(const SweepPlan& plan, const std::vector<size_t>& asked);
// With what Identities say of them.
void identify(std::vector<ArmRun>& runs, const SweepPlan& plan, const Identities& identities);

// What the sweep has trained and what is known of each arm, for those that do its runs.
struct Shared {
  const SweepPlan& plan;
  Workshop& workshop;
  const Identities& identities;
  std::vector<ArmSize> sizes;                     // by arm; those chosen
  std::map<std::string, std::string> extractors;  // measure -> hash of the weights
  bool short_sweep = false;                       // its rows stay here
  std::string program;                            // version, for rows
};

class Runs {
 public:
  Runs(Shared& shared, std::vector<ArmRun> runs);

  // Rows that are here or in the sweep's file.
  void find_finished();
  // Does what is waiting, `jobs` at a time; `changed` is called after each run, one at a time.
  // Throws Code::kInterrupted if this process is to stop.
  void run_all(int jobs, const std::function<void()>& changed);
  // Does the one with this index, if it is not done.
  void run_one(size_t index);

  const std::vector<ArmRun>& runs() const { return runs_; }
  // Of those that are asked for, the ones that are not finished.
  std::vector<size_t> waiting() const;

 private:
  void work(size_t index);
  RunRow row_of(const ArmRun& run) const;
  Config config_of(const ArmRun& run) const;
  void tell(const ArmRun& run, double seconds) const;
  void watch(const std::function<bool()>& done) const;
  double work_of(const ArmRun& run) const;
  double work_done() const;

  Shared& shared_;
  std::vector<ArmRun> runs_;
  mutable std::mutex mutex_;  // of runs_
};

}  // namespace lf
