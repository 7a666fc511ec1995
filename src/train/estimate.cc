#include "train/estimate.h"

#include <ATen/ops/zeros.h>

#include <algorithm>

#include "base/error.h"
#include "kernels/peak_bytes.h"

namespace lf {
namespace {

int64_t peak_of_step(Model& model, const ClipShape& shape, int64_t clips) {
  return peak_bytes_of([&] {
    Clips batch{
        at::zeros({clips, shape.frames, shape.height, shape.width, shape.channels}, at::kFloat),
        at::zeros({clips}, at::kLong), 0, 0};
    if (const int64_t images = model.images_per_clip(); images > 0) {
      batch.images_BNHWC =
          at::zeros({clips, images, shape.height, shape.width, shape.channels}, at::kFloat);
    }
    model.loss(batch, 0, true).total.backward();
    for (const NamedTensor& weight : model.parameters().weights())
      weight.tensor.mutable_grad().reset();
  });
}

}  // namespace

MemoryEstimate estimate_memory(Model& model, const Config& config, const ClipShape& shape,
                               int ranks) {
  const auto weights = static_cast<uint64_t>(model.parameters().count()) * sizeof(float);
  const EmaConfig& ema = config.train().ema();
  const int averages =
      (ema.half_life_images() > 0 || ema.power_width() > 0 ? 1 : 0) + ema.tracked_widths_size();
  const int64_t one = peak_of_step(model, shape, 1), two = peak_of_step(model, shape, 2);
  const int64_t local = std::max<int64_t>(
      1, config.train().batch() / std::max(1, ranks * config.train().accumulation()));
  MemoryEstimate out;
  // Weight, gradient, two moments, averages.
  out.weights = weights * static_cast<uint64_t>(4 + averages);
  out.per_clip = static_cast<uint64_t>(std::max<int64_t>(0, two - one));
  out.total = out.weights + out.per_clip * static_cast<uint64_t>(local);
  return out;
}

}  // namespace lf
