// A run folder as something to evaluate: a checkpoint's model with its averaged weights, and the
// stores that its config names.
#pragma once

#include <string>
#include <vector>

#include "comm/world.h"
#include "eval/report.h"

namespace lf {

struct RunRequest {
  std::string folder;             // of the run
  std::string checkpoint;         // a checkpoint's folder; "": the run's newest whole one
  std::vector<std::string> sets;  // "a.b=value", over the config of the checkpoint
  int threads = 0;                // 0: the share of a rank in the cores of its machine
  int64_t reference_count = 0;    // EvaluationSubject's
};

// Collective. The results, on rank 0; they are also in RUN/evaluations.
std::vector<Result> evaluate_run(World& world, const RunRequest& request);

}  // namespace lf
