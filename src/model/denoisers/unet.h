// The diffusion U-Nets of images, DDPM's and Improved DDPM's, and the same over several frames: a
// temporal attention that begins as the identity after every spatial one, flexible diffusion's
// before it, or convolutions and attention over space and time at once (random masks). With one
// frame there are no temporal blocks, so that images and videos are compared like with like and
// weights of the image network load into the video's. Called by diffusion_model.
#pragma once

#include <memory>

#include "model/denoisers/denoiser.h"

namespace lf {

std::unique_ptr<Denoiser> make_unet(const UnetConfig& config, const DenoiserShape& shape,
                                    const Scope& scope);

}  // namespace lf
