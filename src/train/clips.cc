#include "train/clips.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/tensor.h>

namespace lf {

static at::Tensor wrap(void* data, at::IntArrayRef shape, at::IntArrayRef strides,
                       at::ScalarType type) {
  return at::from_blob(data, shape, strides, at::TensorOptions().dtype(type));
}

Clips clips_from_batch(const Batch& batch, uint64_t seed, at::Device device) {
  const BatchLayout& layout = batch.layout;
  const auto clips = static_cast<int64_t>(layout.clips);
  const int64_t frames = layout.shape.frames, height = layout.shape.height,
                width = layout.shape.width, channels = layout.shape.channels;
  const int64_t frame = height * width * channels;
  // Copied to the device as stored, a quarter of the bytes of floats, and turned into floats there.
  const auto floats = [&](const at::Tensor& stored) {
    return stored.to(device, /*non_blocking=*/true).to(at::kFloat);
  };
  Clips out;
  if (layout.element == Element::kUint8) {
    const at::Tensor stored =
        wrap(batch.frames, {clips, frames, height, width, channels},
             {frames * frame, frame, width * channels, channels, 1}, at::kByte);
    out.x_BTHWC = floats(stored).mul_(1.0 / 127.5).sub_(1.0);
  } else {
    const at::Tensor corrupted =
        wrap(batch.frames, {clips, frames - 1, height, width, channels},
             {(frames - 1) * frame, frame, width * channels, channels, 1}, at::kHalf);
    const at::Tensor clean =
        wrap(batch.frames + layout.clean_offset, {clips, 1, height, width, channels},
             {frame, frame, width * channels, channels, 1}, at::kByte);
    out.x_BTHWC = at::cat({floats(corrupted), floats(clean).mul_(1.0 / 127.5).sub_(1.0)}, 1);
  }
  std::vector<int64_t> labels(batch.labels.begin(), batch.labels.end());
  out.labels_B = wrap(labels.data(), {clips}, {1}, at::kLong).clone().to(device);
  for (const SideBatch& side : batch.side) {
    if (side.floats.empty()) continue;
    const auto width = static_cast<int64_t>(side.floats.size()) / clips;
    out.side.push_back(
        {side.column.name, at::tensor(side.floats).reshape({clips, width}).to(device)});
  }
  out.seed = seed;
  out.first_position = static_cast<int64_t>(batch.position);
  return out;
}

ClipShape shape_of_clips(const Store& store) {
  const FrameShape shape = store.clip_shape();
  return {shape.frames, shape.height, shape.width, shape.channels};
}

}  // namespace lf
