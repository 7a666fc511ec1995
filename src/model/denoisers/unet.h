// The diffusion U-Nets of DDPM and Improved DDPM, and their extensions to several frames: temporal
// attention, initially the identity, after every spatial one; flexible diffusion's before it; or
// convolutions and attention over space and time jointly (random masks). With one frame there are
// no temporal blocks: weights of the image network load into the video network.
#pragma once

#include <memory>

#include "model/denoisers/denoiser.h"

namespace lf {

std::unique_ptr<Denoiser> make_unet(const UnetConfig& config, const DenoiserShape& shape,
                                    const Scope& scope);

}  // namespace lf
