// The diffusion transformer (DiT) over patches of images, and the same over videos: a block of
// attention within frames and one over frames by turns, both scaled, shifted and gated by the noise
// level and what is to be shown. Gates begin shut, so that every block begins as the identity; with
// one frame there are no blocks over frames. Called by diffusion_model.
#pragma once

#include <memory>

#include "model/denoisers/denoiser.h"

namespace lf {

std::unique_ptr<Denoiser> make_dit(const DitConfig& config, const DenoiserShape& shape,
                                   const Scope& scope);

}  // namespace lf
