// Norm, scale and shift, SiLU and residual of a U-Net's block as one operation.
#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/dispatch.h"

namespace lf {

// How x_NPC is normed: at each place over its channels, x * sqrt(C) / |x| (RMS), or in each image
// over groups of channels and all places.
struct NormKind {
  int64_t groups = 0;     // 0: RMS
  double epsilon = 1e-5;  // of group norm
  bool silu = true;       // false: no activation
};

// silu(norm(x) * gain + shift) + residual over x_NPC: images, places, channels, which is what
// channels-last images are in memory. Rows of gain and shift [M, C] are shared by N / M images in a
// row: 1 for all, clips for a clip's frames. `residual` may be undefined.
at::Tensor norm_silu(const KernelChoice& kernels, const at::Tensor& x_NPC, const NormKind& kind,
                     const at::Tensor& gain, const at::Tensor& shift,
                     const at::Tensor& residual = {});
at::Tensor norm_silu_reference(const at::Tensor& x_NPC, const NormKind& kind,
                               const at::Tensor& gain, const at::Tensor& shift,
                               const at::Tensor& residual = {});

}  // namespace lf
