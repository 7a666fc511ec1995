#include "run/device_frames.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/tensor.h>

#include <algorithm>

#include "data/store/store.h"
#include "kernels/gpu/device.h"

namespace lf {
namespace {

// The keys of each clip's random numbers, on the device.
struct Keys {
  at::Tensor items, draws, mirrored;
  at::Tensor noise;  // [frames - 1, clips, 2]
};

Keys keys_of(const Store& store, const Batch& batch, int64_t steps, at::Device device) {
  std::vector<int64_t> items;
  std::vector<int32_t> draws, noise;
  std::vector<uint8_t> mirrored;
  std::vector<uint64_t> seeds;
  for (const OrderEntry& entry : batch.clips) {
    const ClipKey key = store.key(entry.clip, entry.draw);
    items.push_back(static_cast<int64_t>(key.clip));
    draws.push_back(static_cast<int32_t>(key.draw));
    mirrored.push_back(entry.flip ? 1 : 0);
    seeds.push_back(key.seed);
  }
  for (int s = 1; s <= steps; ++s) {
    for (const uint64_t seed : seeds) {
      for (const uint32_t word : Recipe::noise_key(seed, s)) {
        noise.push_back(static_cast<int32_t>(word));
      }
    }
  }
  const auto clips = static_cast<int64_t>(items.size());
  return {at::tensor(items).to(device), at::tensor(draws).to(device),
          at::tensor(mirrored).to(device), at::tensor(noise).view({steps, clips, 2}).to(device)};
}

DeviceFrame task_of(const FrameFormula& formula, const at::Tensor& blur) {
  DeviceFrame task;
  task.parents = static_cast<int>(formula.parents.size());
  std::copy(formula.parents.begin(), formula.parents.end(), task.parent);
  task.sums = !formula.weights.empty();
  std::copy(formula.weights.begin(), formula.weights.end(), task.weight);
  task.offset = formula.offset;
  if (blur.defined()) {
    task.blur = blur.const_data_ptr<float>();
    task.radius = blur.numel() - 1;
  }
  task.noise = formula.noise;
  return task;
}

// [frames, clips, ...] grey levels as the loader gives them.
at::Tensor shown(const at::Tensor& made, const at::Tensor& mirrored, const BatchLayout& layout) {
  DeviceShow show;
  show.clips = made.size(1);
  show.frames = made.size(0);
  show.height = layout.shape.height;
  show.width = layout.shape.width;
  show.channels = layout.shape.channels;
  show.made = made.const_data_ptr<float>();
  show.fp16 = layout.element == Element::kFp16;
  show.mirrored = mirrored.const_data_ptr<uint8_t>();
  const at::Tensor out =
      at::empty({show.clips, show.frames, show.height, show.width, show.channels}, made.options());
  show.out = out.mutable_data_ptr<float>();
  device_operations()->show(show);
  return out;
}

const uint32_t* words(const at::Tensor& ints) {
  return reinterpret_cast<const uint32_t*>(ints.const_data_ptr<int32_t>());
}

}  // namespace

std::unique_ptr<DeviceFrames> DeviceFrames::of(std::shared_ptr<const Store> store,
                                               at::Device device, const KernelChoice& kernels) {
  if (device_operations() == nullptr || !kernels.gpu || kernels.form != Form::kFused ||
      store->index().mode() != RECOMPUTED) {
    return nullptr;
  }
  std::vector<FrameFormula> formulas = store->recipe().formulas();
  const bool takes =
      !formulas.empty() && std::all_of(formulas.begin(), formulas.end(), [](const auto& one) {
        return one.parents.size() <= DeviceFrame::kMostParents;
      });
  if (!takes) return nullptr;
  return std::unique_ptr<DeviceFrames>(
      new DeviceFrames(std::move(store), std::move(formulas), device));
}

DeviceFrames::DeviceFrames(std::shared_ptr<const Store> store, std::vector<FrameFormula> formulas,
                           at::Device device)
    : store_(std::move(store)), formulas_(std::move(formulas)), device_(device) {
  for (const FrameFormula& formula : formulas_) {
    blurs_.push_back(formula.blur.empty() ? at::Tensor() : at::tensor(formula.blur).to(device));
  }
}

at::Tensor DeviceFrames::clips(const Batch& batch) const {
  const BatchLayout& layout = batch.layout;
  const auto clips = static_cast<int64_t>(layout.clips);
  const int64_t frames = layout.shape.frames, size = static_cast<int64_t>(layout.clean_bytes);
  const Keys keys = keys_of(*store_, batch, frames - 1, device_);
  const auto floats = at::TensorOptions(device_).dtype(at::kFloat);
  const at::Tensor made = at::empty({frames, clips, size}, floats);
  const at::Tensor images = at::from_blob(batch.frames + layout.clean_offset, {clips, size},
                                          {static_cast<int64_t>(layout.clean_stride), 1},
                                          at::TensorOptions().dtype(at::kByte));
  made.select(0, 0).copy_(images.to(device_));
  const at::Tensor sum = at::empty({clips, size}, floats), columns = at::empty_like(sum);
  for (size_t i = 0; i < formulas_.size(); ++i) {
    DeviceFrame task = task_of(formulas_[i], blurs_[i]);
    task.clips = clips;
    task.height = layout.shape.height;
    task.width = layout.shape.width;
    task.channels = layout.shape.channels;
    task.frames = made.mutable_data_ptr<float>();
    task.frame = static_cast<int64_t>(i) + 1;
    const at::Tensor noise = keys.noise[static_cast<int64_t>(i)];
    task.keys = words(noise);
    task.items = reinterpret_cast<const uint64_t*>(keys.items.const_data_ptr<int64_t>());
    task.draws = words(keys.draws);
    task.sum = sum.mutable_data_ptr<float>();
    task.columns = columns.mutable_data_ptr<float>();
    device_operations()->frame(task);
  }
  return shown(made, keys.mirrored, layout);
}

}  // namespace lf
