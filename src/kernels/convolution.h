// 3x3 convolutions within images with a quarter of the multiplications (Winograd's minimal
// filtering, F(4x4, 3x3)): 16 neighbouring results come from 36 products of a transformed image
// tile with the transformed filter.
#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/dispatch.h"

namespace lf {

// images [N, C, H, W] in channels-last memory, weight [O, C, 3, 3], bias [O] or undefined, zeros
// beyond the border. Or weight [O, 3C, 3, 3], over space and time: then images are clips of
// `frames`, each seen with_neighbours(). The fused form is for 8 channels or more on both sides; it
// multiplies in single precision, and takes images in bf16 where this CPU has no faster way for
// them. Anything else is LibTorch's. It gives no gradients of gradients.
at::Tensor convolution(const KernelChoice& kernels, const at::Tensor& images,
                       const at::Tensor& weight, const at::Tensor& bias, int64_t frames = 1);
at::Tensor convolution_reference(const at::Tensor& images, const at::Tensor& weight,
                                 const at::Tensor& bias, int64_t frames = 1);

// Images [B*T, C, H, W] with the channels of the frame before and of the frame after, zeros where
// there is none: [B*T, 3C, H, W], the earliest first. A convolution of these is one over space and
// time, in the form that processors are fastest at.
at::Tensor with_neighbours(const at::Tensor& images, int64_t frames);

}  // namespace lf
