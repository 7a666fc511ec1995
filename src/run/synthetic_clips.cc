#include "run/synthetic_clips.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

namespace lf {

static at::Tensor noise(at::IntArrayRef shape, uint64_t seed, const World& world, uint32_t kind,
                        at::Device device) {
  at::Tensor values = at::empty(shape);
  uniform({seed, Purpose::kGenerated, static_cast<uint64_t>(world.rank()), kind}, 0,
          static_cast<size_t>(values.numel()), values.mutable_data_ptr<float>());
  return values.mul_(2).sub_(1).to(device);
}

Clips synthetic_clips(const Config& config, const ClipShape& shape, int64_t count,
                      int64_t images_per_clip, const World& world, at::Device device) {
  const int64_t share = count / world.size();
  Clips clips;
  clips.seed = config.train().seed();
  clips.first_position = share * world.rank();
  clips.x_BTHWC = noise({share, shape.frames, shape.height, shape.width, shape.channels},
                        clips.seed, world, 0, device);
  if (images_per_clip > 0) {
    clips.images_BNHWC = noise({share, images_per_clip, shape.height, shape.width, shape.channels},
                               clips.seed, world, 1, device);
  }
  const DiffusionConfig& diffusion = config.model().diffusion();
  if (!diffusion.text().empty()) {
    const int64_t values = int64_t{diffusion.text_width()} * std::max(diffusion.text_tokens(), 1);
    clips.side.push_back({diffusion.text(), noise({share, values}, clips.seed, world, 2, device)});
  }
  // Class 0 exists in every labelled set.
  clips.labels_B = at::zeros({share}, at::TensorOptions().dtype(at::kLong).device(device));
  clips.label_range = {0, 0};
  return clips;
}

}  // namespace lf
