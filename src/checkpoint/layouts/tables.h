// The layouts' tables, one file a family.
#pragma once

#include "checkpoint/layouts/layout.h"

namespace lf {

extern const NetworkLayout kLucidrainsUnet3d, kDiffusersUnet2d, kDit, kDiffusersAutoencoderKl,
    kPhenakiCvivit, kImprovedDiffusion, kGuidedDiffusion, kTamingVqgan, kDiffusersVq;

}  // namespace lf
