// The parents of each frame in a topology, and the Gaussian tables that give every topology the
// same noise level in each frame, so that comparing topologies isolates the Markov order. Steps
// count from the image, 0.
#pragma once

#include <vector>

#include "data/recipe/schedule.h"
#include "run.pb.h"

namespace lf {

// The parents of step s >= 1, nearest first.
std::vector<int> parents_of(RecipeConfig::Topology topology, int window, int s);

// y_s = sum_j coefficient_j y_j + fresh e over the parents j, with the marginals of `levels`.
struct NoiseStep {
  std::vector<double> coefficients;  // in the order of parents_of()
  double fresh = 0;
};
struct NoiseTable {
  std::vector<NoiseStep> steps;                 // [s], step 0 empty
  std::vector<std::vector<double>> covariance;  // [s][i], of the noises in y_s and y_i, i <= s
};
NoiseTable noise_table(const NoiseLevels& levels, RecipeConfig::Topology topology, int window);

}  // namespace lf
