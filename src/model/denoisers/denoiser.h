// The one interface of all networks that denoise, and what they share: embeddings of noise levels
// and of what a clip shows. A frame has a noise level, a place in the video and a role of its own,
// so that joint diffusion, prediction and frame by frame generation are one network's uses. Not a
// model: losses and samplers are diffusion_model's. Called by it; implemented by unet and unet3d.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "diffusion/frame_plan.h"
#include "model/layers.h"
#include "model/model.h"

namespace lf {

// What a network is asked. B is 1 in `index_BT` and `role_BT` if all clips agree.
struct NoisyClips {
  at::Tensor z_BTHWC;
  at::Tensor signal_BT;         // float, what it is told of each frame's noise: 0 to 1000
  at::Tensor index_BT;          // int64, where in the video each frame stands
  at::Tensor role_BT;           // uint8, FrameRole; undefined: all frames see all
  at::Tensor labels_B;          // int64, -1 for none; undefined: none
  at::Tensor text_BE;           // an embedding of what is shown, zeros for none; undefined: none
  const Clips* keys = nullptr;  // of dropout; null: no dropout

  int64_t frames() const { return z_BTHWC.size(1); }
};

struct DenoiserShape {
  ClipShape clip;            // its frames: the most that are seen at a time
  int64_t out_channels = 0;  // of the output, which is [B, T, H, W, out_channels]
  int64_t classes = 0;
  int64_t text_width = 0;  // 0: the network reads no text
  bool recompute = false;  // blocks keep their inputs only (recompute.h)
};

class Denoiser {
 public:
  virtual ~Denoiser() = default;
  virtual at::Tensor operator()(const NoisyClips& clips) const = 0;
};

// Angles of a number at `width` / 2 frequencies from 1 down: 10000^(-i / (width / 2)), cosines
// first (Improved DDPM); or to 1 / 10000 itself, sines first (lucidrains).
enum class Sinusoid { kCosineFirst, kSineFirst };
at::Tensor sinusoid(const at::Tensor& numbers, int64_t width, Sinusoid kind);

// What clips are to show, added to the embeddings of their noise levels: a vector for each class
// and one for no class, and a linear map of the text.
struct Conditioning {
  Conditioning(const Scope& scope, const DenoiserShape& shape, int64_t width);
  at::Tensor operator()(const at::Tensor& level_BTE, const NoisyClips& clips) const;
  at::Tensor classes;  // undefined without
  std::optional<Linear> text;
};

// Numbers dropped by keys: the mask of a clip depends on its position and the layer alone.
at::Tensor dropped(const at::Tensor& images, double rate, const Clips& keys, uint32_t layer);

// Checks that every level but the last can halve height and width; Code::kUsage naming `option`.
void check_levels(const ClipShape& shape, size_t levels, const char* option);

}  // namespace lf
