// What to do after a step, and what a run shows of itself. After every step the ranks agree, in one
// small message, whether to save, validate, evaluate, show or stop; rank 0 keeps the log, the
// progress and status.json. Never looks at a tensor; saving is the Saver's, training the
// Trainer's.
#pragma once

#include <chrono>
#include <functional>
#include <limits>
#include <memory>
#include <string>

#include "base/stop.h"
#include "comm/watchdog.h"
#include "comm/world.h"
#include "config/config.h"
#include "train/divergence.h"
#include "train/run_log.h"
#include "train/spike.h"
#include "train/tally.h"

namespace lf {

struct Verdict {
  bool save = false, validate = false, preview = false, evaluate = false;
  bool stop = false;  // all ranks, now; a checkpoint first
};

// The number of the run's newest start; 0: there is none.
int64_t newest_life(const std::string& run_folder);

class Coordinator {
 public:
  // Collective. `images` is where the run takes up; `end` where this process is to stop.
  Coordinator(World& world, const Config& config, const std::string& run_folder, int64_t images,
              int64_t end);
  ~Coordinator();  // while an error unwinds, status.json says so

  // Collective, after every step: `before` and `after` count images around it. `settle` completes
  // the tally before it is reported.
  Verdict after_step(int64_t before, int64_t after, StepTally& tally, const Watchdog* watchdog,
                     const std::function<void()>& settle);

  // Collective, before the first step: what was due after the step that ended at `images` and was
  // not done, as the process that made the step was asked to stop.
  Verdict left_over(int64_t images);

  // While training waits for what was due, between its parts: shows that, in the words of `what`
  // ("making the preview") and `how_far`, and that the process is alive.
  void waits_for(int64_t images, const std::string& what, const std::string& how_far,
                 std::chrono::steady_clock::time_point since);
  // Whether the ranks have agreed to stop for another reason than that the last step is made.
  bool asked_to_stop() const { return reason_ != StopReason::kNone; }
  // Collective, after what was due: whether the ranks are to stop, and the next start is to look
  // for what is left_over().
  bool stopped_meanwhile();

  // A line for metrics.jsonl and TensorBoard, on rank 0 only.
  void event(int64_t images, const std::string& name,
             const std::vector<std::pair<std::string, double>>& values);
  void preview(int64_t images, const std::string& name, const std::string& png, int height,
               int width);
  void results(const EvaluationRecord& record);

  // status.json for the last time, and the exit status: 75 if the ranks stopped for a signal or the
  // deadline, else 0. With `broken_off`, for a reason that came after the last step, the run is not
  // finished, though it has made all steps.
  int end(int64_t images, const std::string& checkpoint, StopReason broken_off);
  // status.json of a process that was killed, written by its heir.
  void killed(int64_t images, const std::string& checkpoint);

  // The newest checkpoint and what it cost; by that the time of the next is chosen.
  void note_saved(const std::string& checkpoint, double seconds) {
    checkpoint_ = checkpoint;
    save_seconds_ = seconds;
  }
  int64_t total_skipped() const { return skipped_; }

 private:
  void watch_loss(int64_t images, double loss);
  std::string divergence() const;  // "" if the run has not diverged
  void report(int64_t images, StepTally& tally, const Watchdog* watchdog);
  void write_status(const std::string& state, int64_t images);
  // What is to be looked at between the step that ended at `after` and the next.
  Verdict looks(int64_t before, int64_t after) const;

  World& world_;
  const Config& config_;
  const std::string folder_;
  const int64_t end_;
  std::unique_ptr<RunLog> log_;  // on rank 0
  StopReason reason_ = StopReason::kNone;
  bool undone_ = false;  // something that was due may not be done
  std::chrono::steady_clock::time_point reported_, saved_, status_written_, straggler_told_;
  int64_t reported_images_;
  int64_t skipped_ = 0, skipped_in_a_row_ = 0;
  int64_t life_ = 0;  // of this start of the run, on rank 0
  double loss_ = 0, images_per_second_ = 0, save_seconds_ = 0;
  SpikeWatch spikes_;
  DivergenceWatch divergence_{std::numeric_limits<double>::quiet_NaN()};
  int64_t diverged_at_ = 0;  // images at which that was found
  int straggler_rank_ = -1;  // the last one warned of
  std::string checkpoint_, straggler_;
  std::string waited_for_;  // the last one that was said to take long
};

}  // namespace lf
