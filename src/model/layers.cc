#include "model/layers.h"

#include <ATen/autocast_mode.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/upsample_nearest2d.h>

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "kernels/convolution.h"
#include "kernels/norm_silu.h"
#include "kernels/skinny_matmul.h"

namespace lf {

MapWeight::MapWeight(const Scope& scope, at::IntArrayRef shape, Init init)
    : weight_(scope.weight("weight", shape, init)), adapter_(scope.adapter(shape[1], shape[0])) {}

Conv2d::Conv2d(const Scope& scope, int64_t in, int64_t out, int64_t kernel, int64_t stride_,
               Init init)
    : kernels(scope.kernels()),
      weight(scope.weight("weight", {out, in, kernel, kernel}, init)),
      bias(scope.weight("bias", {out}, init == Init::kZeros ? Init::kZeros : Init::kFanIn,
                        in * kernel * kernel)),
      stride(stride_),
      padding(kernel / 2) {
  if (kernel == 1) adapter = scope.adapter(in, out);
}

at::Tensor Conv2d::operator()(const at::Tensor& x) const {
  if (stride == 1 && weight.size(2) == 3) return convolution(kernels, x, weight, bias);
  return at::conv2d(x, adapter ? adapted(weight, *adapter) : weight, bias, stride, padding);
}

Linear::Linear(const Scope& scope, int64_t in, int64_t out, bool with_bias, Init init)
    : kernels(scope.kernels()), weight(scope, {out, in}, init) {
  if (with_bias) {
    bias = scope.weight("bias", {out}, init == Init::kFanIn ? Init::kFanIn : Init::kZeros, in);
  }
}

at::Tensor Linear::operator()(const at::Tensor& x) const {
  return linear_map(kernels, x, weight(), bias);
}

at::Tensor FrameLinear::operator()(const at::Tensor& x) const {
  std::optional<c10::impl::ExcludeDispatchKeyGuard> single;
  if (x.is_cpu()) single.emplace(c10::autocast_dispatch_keyset);
  return Linear::operator()(x.is_cpu() ? x.to(at::kFloat) : x);
}

LayerNorm::LayerNorm(const Scope& scope, int64_t width, bool with_bias)
    : weight(scope.weight("weight", {width}, Init::kOnes)) {
  if (with_bias) bias = scope.weight("bias", {width}, Init::kZeros);
}

at::Tensor LayerNorm::operator()(const at::Tensor& x) const {
  return at::layer_norm(x, {x.size(-1)}, weight, bias);
}

TemporalConv::TemporalConv(const Scope& scope, int64_t channels, Init init)
    : weight(scope.weight("weight", {channels, channels, 3, 1}, init)),
      bias(scope.weight("bias", {channels}, init == Init::kZeros ? Init::kZeros : Init::kFanIn,
                        channels * 3)) {}

at::Tensor TemporalConv::operator()(const at::Tensor& images, int64_t frames) const {
  const int64_t channels = images.size(1), height = images.size(2), width = images.size(3);
  const at::Tensor flat = images.permute({0, 2, 3, 1})
                              .reshape({images.size(0) / frames, frames, height * width, channels})
                              .permute({0, 3, 1, 2});
  const at::Tensor out = at::conv2d(flat, weight, bias, {1, 1}, {1, 0});
  return out.permute({0, 2, 3, 1})
      .reshape({images.size(0), height, width, channels})
      .permute({0, 3, 1, 2});
}

GroupNorm::GroupNorm(const Scope& scope, int64_t channels, int64_t groups_, double epsilon_)
    : kernels(scope.kernels()),
      weight(scope.weight("weight", {channels}, Init::kOnes)),
      bias(scope.weight("bias", {channels}, Init::kZeros)),
      groups(groups_),
      epsilon(epsilon_) {
  if (groups == 0) {
    groups = std::max<int64_t>(1, std::min<int64_t>(32, channels / 4));
    while (channels % groups != 0) --groups;
  }
  if (channels % groups != 0) {
    fail(Code::kUsage, scope.prefix(), " has ", channels, " channels, which ", groups,
         " groups do not divide; choose another norm_groups or other channels");
  }
}

static at::Tensor normed(const GroupNorm& norm, const at::Tensor& images, bool silu) {
  const at::Tensor rows =
      norm_silu(norm.kernels, as_rows(images), {norm.groups, norm.epsilon, silu},
                norm.weight.unsqueeze(0), norm.bias.unsqueeze(0));
  return as_images(rows, images.size(2));
}

at::Tensor GroupNorm::operator()(const at::Tensor& images) const {
  return normed(*this, images, /*silu=*/false);
}

at::Tensor GroupNorm::with_silu(const at::Tensor& images) const {
  return normed(*this, images, /*silu=*/true);
}

at::Tensor twice_as_large(const at::Tensor& images) {
  return at::upsample_nearest2d(images, {images.size(2) * 2, images.size(3) * 2});
}

at::Tensor as_rows(const at::Tensor& images) { return images.permute({0, 2, 3, 1}).flatten(1, 2); }

at::Tensor as_images(const at::Tensor& rows, int64_t height) {
  return rows.unflatten(1, {height, rows.size(1) / height}).permute({0, 3, 1, 2});
}

}  // namespace lf
