// Fine-tuning's choice of what is trained (train.freeze, train.lora, train.optimizer.factor), held
// against the model: patterns that match nothing, phases that have nothing left to train. Which
// weight is frozen is the ParameterTable's to know.
#pragma once

#include "model/model.h"
#include "run.pb.h"

namespace lf {

// Code::kUsage, with the nearest names, if a pattern matches no weight, if there is nothing that
// adapters could be of, or if a phase has nothing to train.
void check_tuning(const TrainConfig& config, const Model& model);

// The phase without its frozen weights.
Phase trained_part(const Phase& phase);

}  // namespace lf
