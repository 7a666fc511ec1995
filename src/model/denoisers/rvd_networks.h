// The three networks of residual video diffusion: a recurrent network that predicts the mean of the
// next frame, another whose states condition the denoiser, and the denoiser of the residual. The
// caller holds the recurrent states. Not a model: loss and sampling loop are rvd's.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "model/denoisers/attention.h"

namespace lf {

// x + two layers of convolution - norm - leaky ReLU; a linear map of `level_NE`, if the block has
// one, is added between them.
struct LeakyBlock {
  LeakyBlock(const Scope& scope, int64_t in, int64_t out, int64_t level_width, bool recompute);
  at::Tensor operator()(const at::Tensor& x, const at::Tensor& level_NE = {}) const;

 private:
  at::Tensor run(const at::Tensor& x, const at::Tensor& level_NE) const;
  Conv2d conv1_, conv2_;
  GroupNorm norm1_, norm2_;
  std::optional<Linear> level_;
  std::optional<Conv2d> skip_;
  Tensors weights_;
  bool recompute_;
};

// A convolutional gated recurrent unit.
struct ConvGru {
  ConvGru(const Scope& scope, int64_t channels);
  // Images of `frames` time steps, [frames * B, C, H, W] -> the states after each. Starts from
  // `state` (undefined: zero), which becomes the last. Gradients are cut every `back_frames` steps;
  // 0: never.
  at::Tensor operator()(const at::Tensor& images, int64_t frames, int64_t back_frames,
                        at::Tensor& state) const;
  Conv2d input;                           // of all three gates
  at::Tensor state_gates, state_content;  // weights of the state's contribution
};

// States of a recurrent network's levels for a batch of sequences; empty before the first frame.
using RecurrentState = Tensors;

// The encoder of both recurrent networks: the states of every level after every time step.
struct RecurrentLevels {
  RecurrentLevels(const Scope& scope, int64_t channels, const std::vector<int64_t>& widths,
                  bool recompute);
  Tensors operator()(const at::Tensor& images, int64_t frames, int64_t back_frames,
                     RecurrentState& state) const;
  std::vector<LeakyBlock> blocks;
  std::vector<ConvGru> units;
  std::vector<Conv2d> downsample;
};

// The decoder of the next frame's mean.
struct MeanDecoder {
  MeanDecoder(const Scope& scope, int64_t channels, const std::vector<int64_t>& widths,
              bool recompute);
  at::Tensor operator()(const Tensors& states) const;
  std::vector<LeakyBlock> blocks;
  Tensors upsample, upsample_bias;  // of transposed convolutions
  Conv2d last;
};

// Denoises images, each with its own context: [N, width of the level, H, W] for every level.
struct ContextDenoiser {
  ContextDenoiser(const Scope& scope, int64_t channels, const std::vector<int64_t>& widths,
                  bool recompute);
  at::Tensor operator()(const at::Tensor& images, const at::Tensor& signal_N,
                        const Tensors& context) const;

 private:
  struct Level {
    LeakyBlock first, second;
    LinearAttention attention;
  };
  int64_t width_;
  Linear level1_, level2_;
  std::vector<Level> down_, up_;
  std::vector<Conv2d> downsample_;
  Tensors upsample_, upsample_bias_;
  LeakyBlock middle1_, middle2_;
  ResidualAttention middle_attention_;
  LeakyBlock last_block_;
  Conv2d last_;
};

}  // namespace lf
