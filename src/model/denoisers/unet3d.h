// The U-Net of video diffusion models (VDM) as in the public PyTorch port: convolutions and
// attention within frames, then attention over frames, at every level. With one frame there is no
// attention over frames.
#pragma once

#include <memory>

#include "model/denoisers/denoiser.h"

namespace lf {

std::unique_ptr<Denoiser> make_unet3d(const Unet3dConfig& config, const DenoiserShape& shape,
                                      const Scope& scope);

}  // namespace lf
