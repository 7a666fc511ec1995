// The three networks of residual video diffusion: two recurrent ones over the frames of a video, of
// which one says the mean of the next frame and the other what is to be known to make the rest of
// it, and a denoiser of that rest. What they have seen is in a state that the caller holds, one for
// every sequence. Not a model: loss and loop over frames are rvd's. Called by it.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "model/denoisers/attention.h"

namespace lf {

// norm and leaky ReLU after each of two convolutions, on a residual path; `level` is added between
// them, where there is one.
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

// A gated recurrent unit whose products are convolutions.
struct ConvGru {
  ConvGru(const Scope& scope, int64_t channels);
  // Images of `frames` steps of time, [frames * B, C, H, W], to the states after each, from `state`
  // (undefined: zero), which becomes the last. Gradients stop every `back_frames` steps; 0:
  // nowhere.
  at::Tensor operator()(const at::Tensor& images, int64_t frames, int64_t back_frames,
                        at::Tensor& state) const;
  Conv2d input;                           // of all three gates
  at::Tensor state_gates, state_content;  // weights of what the state adds to them
};

// States of a recurrent network's levels for a batch of sequences; empty before the first frame.
using RecurrentState = Tensors;

// The way down that both recurrent networks have: a level's states after every step.
struct RecurrentLevels {
  RecurrentLevels(const Scope& scope, int64_t channels, const std::vector<int64_t>& widths,
                  bool recompute);
  Tensors operator()(const at::Tensor& images, int64_t frames, int64_t back_frames,
                     RecurrentState& state) const;
  std::vector<LeakyBlock> blocks;
  std::vector<ConvGru> units;
  std::vector<Conv2d> halves;
};

// The way up to the next frame's mean.
struct MeanDecoder {
  MeanDecoder(const Scope& scope, int64_t channels, const std::vector<int64_t>& widths,
              bool recompute);
  at::Tensor operator()(const Tensors& states) const;
  std::vector<LeakyBlock> blocks;
  Tensors doubles, double_biases;  // transposed convolutions
  Conv2d last;
};

// Denoises images, each with the context of its own: [N, width of the level, H, W] for every level.
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
  std::vector<Conv2d> halves_;
  Tensors doubles_, double_biases_;
  LeakyBlock middle1_, middle2_;
  ResidualAttention middle_attention_;
  LeakyBlock last_block_;
  Conv2d last_;
};

}  // namespace lf
