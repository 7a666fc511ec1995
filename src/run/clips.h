// From what is in a store to what the model takes: stored pixels become floats in [-1, 1] on the
// device, and the batch gets the key of its random numbers; pictures go the way back.
#pragma once

#include "config/config.h"
#include "data/loader/loader.h"
#include "model/model.h"
#include "run/device_frames.h"

namespace lf {

// `frames`: makes the frames if the loader read only the last ones; nullptr: they are all there.
Clips clips_from_batch(const Batch& batch, uint64_t seed, at::Device device,
                       const DeviceFrames* frames = nullptr);

// Clips first..first + count - 1 of the store as they are stored: draw 0, not mirrored, with the
// side columns of `columns`, or with all that hold floats. What lies beyond the last clip is the
// first again.
Clips clips_in_order(const Store& store, int64_t first, int64_t count, at::Device device,
                     const LoaderConfig* columns = nullptr);

// [-1, 1] -> 0..255, rounded half to even and clipped, in host memory.
at::Tensor bytes_of(const at::Tensor& x);

// The shape of the clips this config trains on: the store's if there is one, else what a build of
// its source and recipe would make, for which the data is opened only if the config does not tell.
struct ClipFormat {
  ClipShape shape;
  Element element = Element::kUint8;  // of the corrupted frames, as they are read
};
ClipFormat format_of_config(const Config& config);
inline ClipShape shape_of_config(const Config& config) { return format_of_config(config).shape; }

}  // namespace lf
