// The diffusion transformer (DiT) over patches of images, and its extension to videos: blocks of
// attention within frames and over frames alternate. Scale, shift and gate of each come from noise
// level, class and text (adaLN-Zero), so that every block is initially the identity. With one frame
// there are no blocks over frames.
#pragma once

#include <memory>

#include "model/denoisers/denoiser.h"

namespace lf {

std::unique_ptr<Denoiser> make_dit(const DitConfig& config, const DenoiserShape& shape,
                                   const Scope& scope);

}  // namespace lf
