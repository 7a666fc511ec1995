// Reconstructions compared with their originals: a value for each frame of each clip by every
// metric of pairs.
#pragma once

#include <map>
#include <vector>

#include "comm/world.h"
#include "eval/metrics.h"
#include "eval/subject.h"

namespace lf {

class Comparison {
 public:
  // All by reference. `looks`: LPIPS, or null.
  Comparison(const std::vector<ChosenMetric>& chosen, const EvaluationConfig& config,
             const EvaluationSubject& subject, const PairDistance* looks);

  // A chunk of reconstructions that is at hand, so that it need not be made or read again.
  void add(int64_t chunk, const Chunks& chunks, const at::Tensor& made_NTHWC);

  // Collective. Compares all chunks that were not added. A result for each metric of pairs, on rank
  // 0.
  std::vector<Result> results(World& world, SubjectClips& reconstructions);

 private:
  at::Tensor judged(const at::Tensor& bytes_NTHWC) const;
  std::vector<at::Tensor> compare(int64_t first, const at::Tensor& made_NTHWC) const;
  Result result_of(const ChosenMetric& metric, const at::Tensor& values_NT) const;

  const std::vector<ChosenMetric>& chosen_;
  const EvaluationConfig& config_;
  const EvaluationSubject& subject_;
  const PairDistance* looks_;
  std::map<int64_t, std::vector<at::Tensor>> added_;  // by chunk, what compare() gave
};

}  // namespace lf
