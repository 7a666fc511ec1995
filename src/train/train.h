// Where training starts: all ranks train, or the last evaluation.ranks of them evaluate.
#pragma once

#include "comm/world.h"
#include "config/config.h"
#include "train/train_job.h"

namespace lf {

// Collective. Trains, or evaluates, until the run or the slice is finished or something asks it to
// stop. Returns the exit status, the same on all ranks.
int run_training(World& world, const Config& config, const TrainJob& job);

}  // namespace lf
