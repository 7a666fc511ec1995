// Inputs of foreign networks from bytes: resized by each network's own rule, in [-1, 1], RGB,
// channels-last. Resizing of sources is data/image/resize.h's; networks that were trained on
// pictures resized by Pillow are handed it as a function, since model does not know data.
#pragma once

#include <functional>

#include "model/extractors/extractor.h"
#include "run.pb.h"

namespace lf {

// uint8 [N, H, W, 1 or 3] -> float32 [N, 3, H, W], grey repeated; 0..255.
at::Tensor rgb_images(const at::Tensor& images_NHWC);

// uint8 [N, H, W, 1 or 3] -> float32 [N, 3, side, side] in [-1, 1] (tf1 and clean: up to 127/128).
at::Tensor prepare_images(const at::Tensor& images_NHWC, Preprocessing id, int64_t side);

// uint8 [N, H, W, C] -> uint8 [N, height, width, C], as Pillow does.
using PillowResize = std::function<at::Tensor(const at::Tensor& images_NHWC, int64_t height,
                                              int64_t width, SourceConfig::Filter filter)>;

}  // namespace lf
