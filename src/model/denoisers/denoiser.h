// The interface of denoising networks, and the embeddings of noise levels, classes and text that
// they share. Every frame has its own noise level, index in the video and role, so that one network
// serves joint diffusion, prediction and autoregressive generation. Not a model: losses and
// samplers are diffusion_model's.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "diffusion/frame_plan.h"
#include "model/layers.h"
#include "model/model.h"

namespace lf {

// Inputs of a denoiser. B is 1 in `index_BT` and `role_BT` if they hold for all clips.
struct NoisyClips {
  at::Tensor z_BTHWC;
  at::Tensor signal_BT;         // float, each frame's noise level as it is embedded: 0 to 1000
  at::Tensor index_BT;          // int64, index of each frame in the video
  at::Tensor role_BT;           // uint8, FrameRole; undefined: every frame attends to all
  at::Tensor labels_B;          // int64, -1 for none; undefined: none
  at::Tensor text;              // [B, E] or, tokens, [B, L, E]; zeros for none; undefined: none
  const Clips* keys = nullptr;  // of dropout; null: no dropout

  int64_t frames() const { return z_BTHWC.size(1); }
};

struct DenoiserShape {
  ClipShape clip;            // `frames`: the most in one call
  int64_t out_channels = 0;  // the output is [B, T, H, W, out_channels]
  int64_t classes = 0;
  int64_t text_width = 0;    // 0: no text
  bool recompute = false;    // blocks keep their inputs only (recompute.h)
  bool text_tokens = false;  // texts are tokens, which are attended to (text_attention.h)
};

class Denoiser {
 public:
  virtual ~Denoiser() = default;
  virtual at::Tensor operator()(const NoisyClips& clips) const = 0;
};

// Sinusoidal embedding [..., width] of values [...], at width / 2 frequencies from 1 down to
// 10000^(-i / (width / 2)), cosines first (Improved DDPM); or down to 1 / 10000 itself, sines first
// (lucidrains).
enum class Sinusoid { kCosineFirst, kSineFirst };
at::Tensor sinusoid(const at::Tensor& values, int64_t width, Sinusoid kind);

// Adds class and text embeddings to the embeddings of noise levels: a vector for each class and one
// for no class; a linear map of the text or of the mean of its tokens.
struct ConditionEmbedding {
  ConditionEmbedding(const Scope& scope, const DenoiserShape& shape, int64_t width);
  at::Tensor operator()(const at::Tensor& level_BTE, const NoisyClips& clips) const;
  at::Tensor classes;  // undefined without
  std::optional<Linear> text;
};

// The elements' errors in the loss, by model.diffusion.error: squared or absolute.
at::Tensor errors_of(const DiffusionConfig& config, const at::Tensor& difference);

// Dropout by keys: a clip's mask depends on its position and the layer only.
at::Tensor dropped(const at::Tensor& images, double rate, const Clips& keys, uint32_t layer);

// Throws Code::kUsage, naming `option`, unless every level but the last can halve height and width.
void check_levels(const ClipShape& shape, size_t levels, const char* option);

}  // namespace lf
