#include "model/denoisers/latents.h"

#include <ATen/TensorOperators.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>

#include <utility>

namespace lf {

LatentSpace::LatentSpace(const std::string& file, const ClipShape& clip, at::Device device,
                         const OpenExport& open, SumOverRanks sum, ParameterTable& table)
    : tokenizer_(
          open_tokenizer(file, "model.diffusion.tokenizer", clip, device, table.kernels(), open)),
      sum_(std::move(sum)) {
  const auto grid = tokenizer_->grid(clip.frames);
  shape_ = {static_cast<int>(grid[0]), static_cast<int>(grid[1]), static_cast<int>(grid[2]),
            static_cast<int>(tokenizer_->latent_width())};
  const ParameterTable& fixed = tokenizer_->parameters();
  for (const auto* list : {&fixed.weights(), &fixed.buffers()}) {
    for (const NamedTensor& named : *list) table.buffer("tokenizer." + named.name, named.tensor);
  }
  mean_ = table.buffer("latents.mean", {shape_.channels}, Init::kZeros);
  deviation_ = table.buffer("latents.deviation", {shape_.channels}, Init::kOnes);
  measured_ = table.buffer("latents.measured", {1}, Init::kZeros);
}

// fp32 under autocast too: training and sampling see the same latents.
at::Tensor LatentSpace::vectors(const at::Tensor& x_BTHWC) const {
  const c10::impl::ExcludeDispatchKeyGuard single(c10::autocast_dispatch_keyset);
  return tokenizer_->latents(x_BTHWC);
}

at::Tensor LatentSpace::encode(const at::Tensor& x_BTHWC) const {
  return (vectors(x_BTHWC) - mean_) / deviation_;
}

at::Tensor LatentSpace::encode_images(const at::Tensor& x_BNHWC) const {
  return encode(x_BNHWC.flatten(0, 1).unsqueeze(1)).squeeze(1).unflatten(0, {x_BNHWC.size(0), -1});
}

at::Tensor LatentSpace::decode(const at::Tensor& z_BTHWD) const {
  return tokenizer_->clips_of_latents(z_BTHWD * deviation_ + mean_);
}

void LatentSpace::measure(const at::Tensor& x_BTHWC) {
  if (known_) return;
  known_ = measured_.item<float>() > 0;  // measured before a resume
  if (known_) return;
  const at::NoGradGuard no_grad;
  const at::Tensor rows = vectors(x_BTHWC).reshape({-1, shape_.channels}).to(at::kDouble);
  at::Tensor sums = at::cat({rows.sum(0), rows.square().sum(0), rows.new_ones({1}) * rows.size(0)});
  if (sum_) sum_(sums);
  const at::Tensor mean = sums.slice(0, 0, shape_.channels) / sums[-1];
  const at::Tensor square = sums.slice(0, shape_.channels, -1) / sums[-1];
  mean_.copy_(mean);
  deviation_.copy_((square - mean.square()).clamp_min(1e-12).sqrt());
  measured_.fill_(1);
  known_ = true;
}

}  // namespace lf
