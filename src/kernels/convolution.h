// Convolutions of 3 x 3 within images with a quarter of the multiplications: sixteen neighbouring
// results at a time come from 36 products of sums of the image with sums of the filter (Winograd's
// minimal filtering). Called by the U-Nets of src/model.
#pragma once

#include <ATen/core/Tensor.h>

namespace lf {

// images [N, C, H, W] in channels-last memory, weight [O, C, 3, 3], bias [O] or undefined, zeros
// beyond the border. The fused form is for 8 channels or more on both sides; it multiplies in
// single precision, and takes images in bfloat16 where this CPU has no faster way for them.
// Anything else is LibTorch's. It gives no gradients of gradients.
at::Tensor convolution(const at::Tensor& images, const at::Tensor& weight, const at::Tensor& bias);
at::Tensor convolution_reference(const at::Tensor& images, const at::Tensor& weight,
                                 const at::Tensor& bias);

}  // namespace lf
