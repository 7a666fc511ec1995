// Schedules: how strength grows over the steps of a recipe, and the noise levels of a schedule.
// Pure functions; the operators give a strength its meaning. Steps count from the cleanest, 1, to
// the most corrupted.
#pragma once

#include <string>
#include <vector>

#include "run.pb.h"

namespace lf {

// Levels of steps 1..steps, rising to 1: LINEAR, COSINE or GEOMETRIC. Throws Code::kUsage naming
// `option` for other schedules.
std::vector<double> level_table(RecipeConfig::Schedule schedule, int steps,
                                const std::string& option);

// Step strengths r_i total / sqrt(sum_j r_j^2) with r rising linearly from 1 to `ratio`: their
// squares sum to total^2.
std::vector<double> ramp_sigmas(int steps, double total, double ratio);

// The step from each total to the next: sqrt(total_i^2 - total_{i-1}^2).
std::vector<double> steps_between(const std::vector<double>& totals);

// alpha-bar of DDPM's 1000-step table (beta linear from 1e-4 to 0.02) after t steps.
double ddpm_alpha_bar(int t);

// Frame s is alpha[s] x + sigma[s] e; index 0 is the image (1, 0).
struct NoiseLevels {
  std::vector<double> alpha, sigma;
};
NoiseLevels noise_levels(const NoiseConfig& config, int steps);

}  // namespace lf
