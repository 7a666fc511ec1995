// Clips of noise in the shape that a config gives, for measurements without a store.
#pragma once

#include "comm/world.h"
#include "model/model.h"
#include "run.pb.h"

namespace lf {

// This rank's share of a batch of `count` clips, with the images and text embeddings that the model
// takes.
Clips synthetic_clips(const Config& config, const ClipShape& shape, int64_t count,
                      int64_t images_per_clip, const World& world, at::Device device);

}  // namespace lf
