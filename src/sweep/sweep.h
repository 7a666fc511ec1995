// A sweep from its file to its results: what it would be, doing it, and how far it is. The command
// reads the options; a batch system's jobs do parts of it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sweep/plan.h"
#include "sweep/results.h"

namespace lf {

struct SweepCall {
  std::string folder;         // of results
  std::string only;           // arms
  double budget_seconds = 0;  // 0: the sweep's images
  int jobs = 1, ranks = 1;
  bool allow_short = false;
  std::string program;  // version, for results
};

// One planned run and what it would take.
struct PlannedRun {
  std::string arm;
  int seed = 0;
  int64_t images = 0, steps = 0;
  double seconds = 0;  // 0: not known
  std::string hash;    // of its row; "" where the data are not there
  bool finished = false;
};
struct SweepForecast {
  std::vector<PlannedRun> runs;
  std::vector<ArmSize> sizes;  // by arm of the plan
  double seconds = 0;          // of the whole, `jobs` at a time; 0: not known
  std::string unknown;         // why a time is not known
};
// Needs no data and trains nothing. The calibration is that of the call's folder, if there is one.
SweepForecast forecast(SweepPlan& plan, const SweepCall& call);

// Does all and prints the table. Throws Code::kInterrupted after the results were written; returns
// the exit status: 1 if a run failed.
int run_sweep(SweepPlan& plan, const SweepCall& call);

// What all runs share, as the first job of an array does it, and one run, as its elements do. Both
// with the images that `fix_images` wrote down.
int prepare_sweep(SweepPlan& plan, const SweepCall& call);
int run_element(SweepPlan& plan, const SweepCall& call, int64_t element);
// Finds the images as run_sweep does and keeps them in the folder; returns the number of runs.
int64_t fix_images(SweepPlan& plan, const SweepCall& call);

// Where each run is, a line each, as the folder tells.
std::string status_text(SweepPlan& plan, const SweepCall& call);

}  // namespace lf
