// The space of a trained tokenizer's vectors, each of their numbers scaled to mean 0 and variance 1
// over the first batch of training, as the space in which diffusion goes on. The tokenizer stands
// still; its weights are buffers of the model's table, so that a checkpoint holds all that sampling
// needs. Called by diffusion_model.
#pragma once

#include <memory>

#include "model/tokens/tokenizer.h"

namespace lf {

class LatentSpace {
 public:
  // `clip` in pixels. Code::kUsage if the file's tokenizer cannot take such clips.
  LatentSpace(const std::string& file, const ClipShape& clip, at::Device device,
              const OpenExport& open, SumOverRanks sum, ParameterTable& table);

  ClipShape shape() const { return shape_; }  // of the latents of a clip
  // Steps of time that so many frames make, and back. Code::kUsage if no clip has so many.
  int64_t steps(int64_t frames) const { return tokenizer_->grid(frames)[0]; }
  int64_t frames(int64_t steps) const { return tokenizer_->frames(steps); }

  at::Tensor encode(const at::Tensor& x_BTHWC) const;
  // Independent images [B, N, H, W, C], each a clip of its own.
  at::Tensor encode_images(const at::Tensor& x_BNHWC) const;
  at::Tensor decode(const at::Tensor& z_BTHWD) const;
  // Takes the scale from these clips, unless it is known. Collective.
  void measure(const at::Tensor& x_BTHWC);

 private:
  at::Tensor vectors(const at::Tensor& x_BTHWC) const;

  std::unique_ptr<Tokenizer> tokenizer_;
  SumOverRanks sum_;
  ClipShape shape_;
  at::Tensor mean_, deviation_, measured_;  // buffers, [D], [D], [1]
  bool known_ = false;
};

}  // namespace lf
