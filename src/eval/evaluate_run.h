// A run folder as something to evaluate: its config, its newest whole checkpoint (or another), the
// averaged weights, its stores. Called by `lastframe evaluate`.
#pragma once

#include <string>
#include <vector>

#include "comm/world.h"
#include "eval/report.h"

namespace lf {

struct RunRequest {
  std::string run_folder;
  std::string checkpoint;         // a checkpoint's folder; "": the run's newest whole one
  std::vector<std::string> sets;  // "a.b=value", over the run's config
};

// Collective. The results, on rank 0; they are also in RUN/evaluations.
std::vector<Result> evaluate_run(World& world, const RunRequest& request);

}  // namespace lf
