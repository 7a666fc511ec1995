// From what the loader read to what the model takes: stored pixels become floats in [-1, 1] on the
// device, and the batch gets the key of its random numbers. Called by the trainer and by
// evaluation; pictures go the way back.
#pragma once

#include "data/loader.h"
#include "model/model.h"

namespace lf {

Clips clips_from_batch(const Batch& batch, uint64_t seed, at::Device device);

// [-1, 1] -> 0..255, rounded half to even and clipped, in host memory.
at::Tensor bytes_of(const at::Tensor& x);

ClipShape shape_of_clips(const Store& store);

}  // namespace lf
