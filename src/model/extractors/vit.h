// Vision transformers: DINOv2 (ViT-S, B, L and g with 14-pixel patches, with or without registers),
// whose normalised class token FD-DINOv2 compares, and CLIP's image tower, whose projected
// embedding is the feature. For inference only. The one layer is "features".
//
// Tensors are named as facebookresearch's or timm's DINOv2, Hugging Face's Dinov2 and CLIP, or
// OpenAI's and open_clip's CLIP. Width and depth tell the number of heads; for others than the
// published sizes, the file's metadata entry `heads` does. No tensor tells which GELU a CLIP was
// trained with: the metadata entry `activation` is gelu (LAION's), or quick_gelu, the default.
//
// The extractor is named for the network: dinov2_vitb14, dinov2_vitb14_reg, clip_vitb32,
// clip_vitl14_336, clip_vitb32_gelu. DINOv2 sees pictures stretched to 224 x 224; CLIP their
// centres, the shorter side resized to its own size. Both resize by Pillow's BICUBIC.
#pragma once

#include <memory>

#include "model/extractors/extractor.h"
#include "model/extractors/preprocessing.h"
#include "model/extractors/weights.h"

namespace lf {

bool is_vit(const Weights& weights);
std::unique_ptr<Extractor> make_vit(Weights& weights, PillowResize resize);

}  // namespace lf
