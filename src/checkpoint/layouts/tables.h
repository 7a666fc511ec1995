// The layouts' tables, one file a family.
#pragma once

#include <utility>

#include "checkpoint/layouts/layout.h"

namespace lf {

// Names in files made before diffusers 0.19, and what they are now.
inline constexpr std::pair<const char*, const char*> kOlderDiffusers[] = {
    {".query.", ".to_q."},
    {".key.", ".to_k."},
    {".value.", ".to_v."},
    {".proj_attn.", ".to_out.0."}};

extern const NetworkLayout kLucidrainsUnet3d, kDiffusersUnet2d, kDit, kDiffusersAutoencoderKl,
    kPhenakiCvivit, kImprovedDiffusion, kGuidedDiffusion, kTamingVqgan, kDiffusersVq;

}  // namespace lf
