// Evaluation by ranks of its own (evaluation.ranks), so that training does not stand still for it.
// The last ranks of the job take no part in training: they load each checkpoint that is to be
// evaluated, with its averaged weights, and send rank 0 what they found. The manifest of a
// checkpoint names the metrics that it awaits, so the next start catches up on what was cut off.
// How an evaluation is made is eval's.
#pragma once

#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "base/stop.h"
#include "comm/world.h"
#include "config/config.h"
#include "record.pb.h"
#include "train/train_job.h"

namespace lf {

// Those ranks as the training ones see them.
class Evaluators {
 public:
  using Found = std::function<void(const std::string& folder, const EvaluationRecord& record)>;
  // `training` are the first ranks of `everyone`. `found` is called on rank 0, in poll() and
  // wait().
  Evaluators(World& everyone, World& training, Found found);

  // On rank 0: published checkpoints to be evaluated, one after the other.
  void submit(const std::vector<std::string>& folders);
  void poll();
  // Collective over the training ranks: until all are evaluated, or for a reason to stop before.
  StopReason wait();
  // On rank 0, at last: they break off and end with this status, like everybody.
  void end(int status);

 private:
  World& everyone_;
  World& training_;
  const Found found_;
  const int first_;                // of the evaluating ranks, who speaks for them
  std::deque<std::string> queue_;  // on rank 0
  std::string current_;            // that they are at; "": they are free
};

// Collective over `part`, those ranks, which are the last of `everyone`: evaluates what rank 0 asks
// for until that ends. Returns the exit status that rank 0 gives.
int evaluate_apart(World& everyone, World& part, const Config& config, const TrainJob& job);

}  // namespace lf
