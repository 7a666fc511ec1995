// Inputs of foreign networks from bytes: resized by each network's own rule, in [-1, 1], RGB,
// channels-last. Resizing of sources is data/image/resize.h's.
#pragma once

#include "model/extractors/extractor.h"

namespace lf {

// uint8 [N, H, W, 1 or 3] -> float32 [N, 3, H, W], grey repeated; 0..255.
at::Tensor rgb_images(const at::Tensor& images_NHWC);

// uint8 [N, H, W, 1 or 3] -> float32 [N, 3, side, side] in [-1, 1] (tf1 and clean: up to 127/128).
at::Tensor prepare_images(const at::Tensor& images_NHWC, Preprocessing id, int64_t side);

}  // namespace lf
