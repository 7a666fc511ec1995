// What a network's output says about the image: every kind of prediction is a pair of numbers per
// noise level, x = skip z + out F(in z), so that conversions between them are exact and one loss
// serves all. Free of torch. Called by the diffusion models and by tests.
#pragma once

#include "diffusion/noise_schedule.h"

namespace lf {

// x = skip z + out F, F the network's output for the input in z. F is trained towards
// image x + noise e.
struct Preconditioning {
  double skip = 0, out = 1, in = 1;
  double image = 1, noise = 0;
};
Preconditioning preconditioning(DiffusionConfig::Prediction prediction, const NoiseLevel& level,
                                double sigma_data);

// The factor of the squared error of F in the loss; 1 for UNIFORM.
double loss_weight(const DiffusionConfig& config, const NoiseLevel& level);

}  // namespace lf
