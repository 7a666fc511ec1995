// How much memory a step needs, found by running one: the model is built, and the peak of one
// forward and backward on one and on two clips gives the bytes a clip adds. For `train --dry-run`
// and `plan`; nothing here trains.
#pragma once

#include <cstdint>

#include "model/model.h"
#include "run.pb.h"

namespace lf {

struct MemoryEstimate {
  uint64_t weights = 0;   // with gradients, optimiser state and averages
  uint64_t per_clip = 0;  // activations at their peak, for each clip of a micro-batch
  uint64_t total = 0;     // of one rank
};

MemoryEstimate estimate_memory(Model& model, const Config& config, const ClipShape& shape,
                               int ranks);

}  // namespace lf
