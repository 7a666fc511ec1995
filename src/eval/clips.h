// From what is in a store to what the model takes: stored pixels become floats in [-1, 1] on the
// device, and the batch gets the key of its random numbers. Called by the trainer, previews and
// evaluation.
#pragma once

#include "data/loader.h"
#include "model/model.h"

namespace lf {

Clips clips_from_batch(const Batch& batch, uint64_t seed, at::Device device);

// Clips first..first + count - 1 of the store, as they are stored: draw 0, not mirrored.
Clips clips_in_order(const Store& store, int64_t first, int64_t count, at::Device device);

ClipShape shape_of_clips(const Store& store);

}  // namespace lf
