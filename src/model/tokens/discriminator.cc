#include "model/tokens/discriminator.h"

#include <ATen/TensorOperators.h>
#include <ATen/autocast_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/leaky_relu.h>
#include <ATen/ops/relu.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>

#include "base/error.h"
#include "kernels/skinny_matmul.h"

namespace lf {

Discriminator::Discriminator(const Scope& scope, const GanConfig& config, const ClipShape& shape)
    : kernels_(scope.kernels()) {
  const int64_t smallest = std::min(shape.height, shape.width) >> config.layers();
  if (smallest < 3) {
    fail(Code::kUsage, "gan.layers=", config.layers(), " needs images of ", 3 << config.layers(),
         " pixels or more, clips are ", shape.height, "x", shape.width,
         "; give fewer layers or larger images");
  }
  const auto add = [&](int64_t in, int64_t out, int64_t stride, bool norm) {
    const Scope place = scope / std::to_string(layers_.size());
    layers_.push_back({place.weight("weight", {out, in, 4, 4}, Init::kNormal),
                       place.weight("bias", {out}, Init::kZeros),
                       stride,
                       {}});
    if (norm) layers_.back().norm.emplace_back(place / "norm", out);
  };
  int64_t channels = config.width();
  add(shape.channels, channels, 2, false);
  for (int i = 1; i <= config.layers(); ++i) {
    const int64_t next = std::min<int64_t>(config.width() << i, 8 * int64_t{config.width()});
    add(channels, next, i < config.layers() ? 2 : 1, true);
    channels = next;
  }
  add(channels, 1, 1, false);
}

// Up to this many output pixels an image, one product of all patches is faster than LibTorch's
// convolution: at 3x3 the adversarial step takes a quarter less; 16 pixels gain nothing, 49 lose.
constexpr int64_t kFewPixels = 9;

at::Tensor conv_padded_by_one(const KernelChoice& kernels, const at::Tensor& x,
                              const at::Tensor& weight, const at::Tensor& bias, int64_t stride) {
  const auto extent = [&](int64_t axis) {
    return (x.size(axis) + 2 - weight.size(axis)) / stride + 1;
  };
  const int64_t height = extent(2), width = extent(3);
  if (!x.is_cpu() || height * width > kFewPixels) return at::conv2d(x, weight, bias, stride, 1);
  // Patches in the weight's layout, channels last.
  const at::Tensor padded = at::constant_pad_nd(x.permute({0, 2, 3, 1}), {0, 0, 1, 1, 1, 1});
  const at::Tensor patches = padded.unfold(1, weight.size(2), stride)
                                 .unfold(2, weight.size(3), stride)
                                 .permute({0, 1, 2, 4, 5, 3})
                                 .reshape({x.size(0) * height * width, -1});
  return linear_map(kernels, patches, weight.permute({0, 2, 3, 1}).flatten(1), bias)
      .view({x.size(0), height, width, weight.size(0)})
      .permute({0, 3, 1, 2});
}

at::Tensor Discriminator::operator()(const at::Tensor& images) const {
  at::Tensor h = images;
  for (size_t i = 0; i + 1 < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    h = conv_padded_by_one(kernels_, h, layer.weight, layer.bias, layer.stride);
    for (const GroupNorm& norm : layer.norm) {  // LibTorch's: R1 needs double backward
      h = at::group_norm(h, norm.groups, norm.weight, norm.bias, norm.epsilon);
    }
    h = at::leaky_relu(h, 0.2);
  }
  // The last layer in fp32 under autocast too: the gradients of its bias cancel over real and made
  // images, which may come in different precisions.
  const c10::impl::ExcludeDispatchKeyGuard single(c10::autocast_dispatch_keyset);
  const Layer& last = layers_.back();
  return conv_padded_by_one(kernels_, h.to(at::kFloat), last.weight, last.bias, last.stride);
}

at::Tensor hinge_loss(const at::Tensor& real_logits, const at::Tensor& fake_logits) {
  return 0.5 * (at::relu(1 - real_logits).mean() + at::relu(1 + fake_logits).mean());
}

at::Tensor r1_penalty(const at::Tensor& logits, const at::Tensor& real) {
  const c10::impl::ExcludeDispatchKeyGuard single(c10::autocast_dispatch_keyset);
  const at::Tensor gradient =
      torch::autograd::grad({logits.sum()}, {real}, {},
                            /*retain_graph=*/true, /*create_graph=*/true)[0];
  return 0.5 * gradient.square().sum() / static_cast<double>(real.size(0));
}

at::Tensor adaptive_weight(const at::Tensor& a, const at::Tensor& b,
                           const std::vector<at::Tensor>& weights, double limit,
                           const SumOverRanks& sum) {
  const auto gradient = [&](const at::Tensor& loss) {
    std::vector<at::Tensor> parts;
    for (const at::Tensor& part :
         torch::autograd::grad({loss}, weights, {}, /*retain_graph=*/true)) {
      parts.push_back(part.to(at::kFloat).flatten());
    }
    return at::cat(parts);
  };
  const at::Tensor first = gradient(a);
  at::Tensor both = at::cat({first, gradient(b), first.new_ones({1})});  // the last counts ranks
  if (sum) sum(both);
  both = both / both[-1];
  const int64_t n = first.size(0);
  return (both.slice(0, 0, n).norm() / (both.slice(0, n, 2 * n).norm() + 1e-4)).clamp_max(limit);
}

}  // namespace lf
