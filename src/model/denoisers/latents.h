// The latent space of a trained tokenizer, each channel normalised to mean 0 and variance 1 over
// the first batch of training. The tokenizer is frozen; its weights are buffers of the model's
// table, so that a checkpoint holds all that sampling needs.
#pragma once

#include <memory>

#include "model/tokens/tokenizer.h"

namespace lf {

class LatentSpace {
 public:
  // `clip` in pixels. Throws Code::kUsage if the file's tokenizer does not fit such clips.
  LatentSpace(const std::string& file, const ClipShape& clip, at::Device device,
              const OpenExport& open, SumOverRanks sum, ParameterTable& table);

  ClipShape shape() const { return shape_; }  // of the latents of a clip
  // Latent time steps of so many frames, and back. Throws Code::kUsage if no clip has so many.
  int64_t steps(int64_t frames) const { return tokenizer_->grid(frames)[0]; }
  int64_t frames(int64_t steps) const { return tokenizer_->frames(steps); }

  at::Tensor encode(const at::Tensor& x_BTHWC) const;
  // Independent images [B, N, H, W, C], each a clip of its own.
  at::Tensor encode_images(const at::Tensor& x_BNHWC) const;
  at::Tensor decode(const at::Tensor& z_BTHWD) const;
  // Measures mean and deviation on these clips, once. Collective.
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
