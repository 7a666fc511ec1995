// The evaluation of a model over all ranks: samples by their numbers, or reconstructions of clips,
// turned into features and compared with a reference, every result with where it comes from. The
// answer does not depend on the number of ranks. Also the same for two sets of files.
#pragma once

#include <string>
#include <vector>

#include "comm/world.h"
#include "data/store/store.h"
#include "eval/metrics.h"
#include "eval/report.h"
#include "eval/subject.h"
#include "model/model.h"
#include "run.pb.h"

namespace lf {

// Collective. The results on rank 0, in the order of config.metrics; elsewhere none.
// Code::kInterrupted on every rank if one was asked to stop.
std::vector<Result> evaluate_model(World& world, const EvaluationConfig& config,
                                   const EvaluationSubject& subject);

// Code::kUsage, before anything long begins, if this model of this store could not be judged so.
void check_evaluation(const EvaluationConfig& config, const ClipShape& shape, const Model& model);

// Collective. Two folders, arrays or stores, or statistics (.npz) in place of `real`. With
// `save_as`, the made set's statistics go to that .npz file. Without `real` only metrics of the
// made set are computed.
std::vector<Result> evaluate_files(World& world, const Config& config, const MetricOptions& options,
                                   at::Device device, const std::string& real,
                                   const std::string& fake, const std::string& save_as);

}  // namespace lf
