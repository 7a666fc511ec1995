// Which cleaner frames each frame is made from, and the Gaussian tables that give every topology
// the same noise in each frame, so that comparing topologies isolates the Markov order. Steps are
// counted from the image, 0. Called by recipe and the corruption operators.
#pragma once

#include <vector>

#include "data/recipe/schedule.h"
#include "run.pb.h"

namespace lf {

// The steps that step s >= 1 is made from, nearest first.
std::vector<int> parents_of(RecipeConfig::Topology topology, int window, int s);

// y_s = sum_j coefficient_j y_j + fresh e over the parents, for the marginals of `levels`.
struct NoiseStep {
  std::vector<double> coefficients;  // as parents_of
  double fresh = 0;
};
struct NoiseTable {
  std::vector<NoiseStep> steps;                 // [s], step 0 empty
  std::vector<std::vector<double>> covariance;  // of the noises in y_s and y_i, i <= s
};
NoiseTable noise_table(const NoiseLevels& levels, RecipeConfig::Topology topology, int window);

}  // namespace lf
