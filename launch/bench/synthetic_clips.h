// Clips of noise in the shape that a config gives, for measurements that read no store. Called by
// bench step and bench sample.
#pragma once

#include "comm/world.h"
#include "model/model.h"
#include "run.pb.h"

namespace lf {

// What the loader would bring this rank of a batch of `count` clips, and, for a model that wants
// them, the images and texts beside them.
Clips synthetic_clips(const Config& config, const ClipShape& shape, int64_t count,
                      int64_t images_per_clip, const World& world, at::Device device);

}  // namespace lf
