// Prediction targets: from a network's output to the image. Every kind of prediction is affine per
// noise level, x = skip z + out F(in z), so that conversions are exact and one loss serves all.
// Without torch.
#pragma once

#include "diffusion/noise_schedule.h"

namespace lf {

// x = skip z + out F, where F is the network's output for the input in z. The target of F is
// image x + noise e.
struct Preconditioning {
  double skip = 0, out = 1, in = 1;
  double image = 1, noise = 0;
};
Preconditioning preconditioning(DiffusionConfig::Prediction prediction, const NoiseLevel& level,
                                double sigma_data);

// The factor of F's error in the loss: of its square, or its root of the absolute error (L1). 1 for
// UNIFORM.
double loss_weight(const DiffusionConfig& config, const NoiseLevel& level);

}  // namespace lf
