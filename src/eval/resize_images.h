// Tensors of images resized as Pillow does it, for extractors whose networks were trained on such.
// The arithmetic is data/image/resize.h's.
#pragma once

#include <ATen/core/Tensor.h>

#include "run.pb.h"

namespace lf {

// uint8 [N, H, W, C] -> uint8 [N, height, width, C], on the CPU.
at::Tensor resize_images(const at::Tensor& images_NHWC, int64_t height, int64_t width,
                         SourceConfig::Filter filter);

}  // namespace lf
