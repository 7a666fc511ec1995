// The patch discriminator of the token autoencoders and its losses: hinge, R1 and the adaptive
// weight. Its norms take statistics of one image each, so that they do not depend on ranks.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "model/layers.h"
#include "model/model.h"
#include "run.pb.h"

namespace lf {

// 4x4 convolutions: `layers` with stride 2, one with stride 1, and one to the logits. 32 pixels and
// 3 layers give 2x2 logits.
class Discriminator {
 public:
  // Throws Code::kUsage for images that are too small.
  Discriminator(const Scope& scope, const GanConfig& config, const ClipShape& shape);
  at::Tensor operator()(const at::Tensor& images) const;  // fp32 logits

 private:
  struct Layer {
    at::Tensor weight, bias;
    int64_t stride;
    std::vector<GroupNorm> norm;  // none, or one
  };
  KernelChoice kernels_;
  std::vector<Layer> layers_;
};

// conv2d with padding 1; on CPUs as one product of all patches where the outputs are few.
at::Tensor conv_padded_by_one(const KernelChoice& kernels, const at::Tensor& x,
                              const at::Tensor& weight, const at::Tensor& bias, int64_t stride);

// Mean over images of max(0, 1 - D(real)) and max(0, 1 + D(fake)), halved.
at::Tensor hinge_loss(const at::Tensor& real_logits, const at::Tensor& fake_logits);

// Half the mean over images of the squared gradient of `logits` with respect to `real`, which
// requires gradients. Differentiable (double backward).
at::Tensor r1_penalty(const at::Tensor& logits, const at::Tensor& real);

// |d a / d weights| / |d b / d weights| of the mean losses over all ranks, at most `limit`;
// detached. Collective.
at::Tensor adaptive_weight(const at::Tensor& a, const at::Tensor& b,
                           const std::vector<at::Tensor>& weights, double limit,
                           const SumOverRanks& sum);

}  // namespace lf
