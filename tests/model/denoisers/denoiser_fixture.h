// Small networks and noisy clips for the tests of networks and models.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <memory>
#include <string>
#include <vector>

#include "base/random.h"
#include "config/config.h"
#include "model/denoisers/diffusion_model.h"
#include "model/denoisers/dit.h"
#include "model/denoisers/unet.h"
#include "model/denoisers/unet3d.h"

namespace lf {

// A network with the table of its weights.
struct SmallNetwork {
  explicit SmallNetwork(const KernelChoice& kernels = {}) : table(7, at::kCPU, kernels) {}
  ParameterTable table;
  std::unique_ptr<Denoiser> denoiser;
  at::Tensor operator()(const NoisyClips& clips) const {
    const at::NoGradGuard no_grad;
    return (*denoiser)(clips);
  }
};

inline std::unique_ptr<SmallNetwork> small_network(const std::string& kind, int frames,
                                                   bool position = true, int64_t classes = 0,
                                                   const KernelChoice& kernels = {},
                                                   int64_t token_width = 0) {
  auto network = std::make_unique<SmallNetwork>(kernels);
  const DenoiserShape shape{{frames, 8, 8, 3}, 3, classes, token_width, false, token_width > 0};
  const Scope scope(network->table);
  if (kind == "unet") {
    UnetConfig config;
    config.set_width(16);
    config.add_multipliers(1);
    config.add_multipliers(2);
    config.set_blocks(1);
    config.add_attention(8);
    config.set_heads(2);
    config.set_temporal_position(position);
    network->denoiser = make_unet(config, shape, scope);
  } else if (kind == "dit") {
    DitConfig config;
    config.set_width(16);
    config.set_layers(2);
    config.set_heads(2);
    config.set_temporal_position(position);
    network->denoiser = make_dit(config, shape, scope);
  } else {
    Unet3dConfig config;
    config.set_dim(16);
    config.add_multipliers(1);
    config.add_multipliers(2);
    config.set_heads(2);
    config.set_head_width(8);
    config.set_temporal_position(position);
    network->denoiser = make_unet3d(config, shape, scope);
  }
  return network;
}

// Sets zero-initialised weights to keyed values, so that no path is hidden, except those whose name
// contains one of `left`.
inline void wake_up(const ParameterTable& table, const std::vector<std::string>& left = {}) {
  const at::NoGradGuard no_grad;
  for (const NamedTensor& weight : table.weights()) {
    bool stays = false;
    for (const std::string& part : left)
      stays = stays || weight.name.find(part) != std::string::npos;
    if (stays || weight.tensor.count_nonzero().item<int64_t>() > 0) continue;
    const at::Tensor values = at::zeros(weight.tensor.sizes());
    normal({std::hash<std::string>{}(weight.name), Purpose::kInitialWeights, 0, 0, 0}, 0,
           static_cast<size_t>(values.numel()), values.mutable_data_ptr<float>());
    weight.tensor.copy_(values * 0.1);
  }
}

inline at::Tensor some_numbers(at::IntArrayRef shape, uint64_t seed) {
  const at::Tensor values = at::zeros(shape);
  normal({seed, Purpose::kGenerated, 0, 0, 0}, 0, static_cast<size_t>(values.numel()),
         values.mutable_data_ptr<float>());
  return values;
}

inline NoisyClips noisy_clips(int64_t clips, int64_t frames) {
  NoisyClips noisy;
  noisy.z_BTHWC = some_numbers({clips, frames, 8, 8, 3}, 11);
  noisy.signal_BT = at::full({clips, frames}, 300.0F);
  noisy.index_BT = at::arange(frames).unsqueeze(0);
  return noisy;
}

inline Clips some_clips(int64_t count, int64_t frames, int64_t first_position = 0) {
  Clips clips{at::zeros({count, 1}), at::full({count}, -1, at::kLong), 3, first_position};
  clips.x_BTHWC = keyed_uniform(clips, Purpose::kGenerated, 0, {frames, 8, 8, 3}) * 2 - 1;
  return clips;
}

// A model of a small network, a U-Net unless `more` chooses another, for clips of 8x8.
inline std::unique_ptr<DiffusionModel> small_model(int frames,
                                                   const std::vector<std::string>& more = {}) {
  Config config =
      load_config("", {"model.unet.width=16", "model.unet.multipliers=1,2", "model.unet.blocks=1",
                       "model.unet.attention=8", "model.unet.heads=2", "model.diffusion.steps=100",
                       "model.diffusion.sampler.steps=4"});
  set_options(config, more);
  return std::make_unique<DiffusionModel>(config, ClipShape{frames, 8, 8, 3}, at::kCPU);
}

}  // namespace lf
