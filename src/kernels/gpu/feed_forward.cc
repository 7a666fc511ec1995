// feed_forward() on a GPU: norm, product, activation, product, residual.
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>

#include "kernels/forms.h"
#include "kernels/gpu/device.h"
#include "kernels/gpu/rows.h"
#include "kernels/weights.h"
#include "kernels/work.h"

namespace lf::gpu {
namespace {

using at::Tensor;

DeviceActivation activation_of(const Tensor& h, bool gated) {
  DeviceActivation task;
  task.hidden = gated ? h.size(-1) / 2 : h.size(-1);
  task.rows = h.numel() / h.size(-1);
  task.gated = gated;
  task.h = data_of(h);
  return task;
}

Tensor hidden_of(const Tensor& h, const DeviceActivation& task) {
  return at::empty({task.rows, task.hidden}, h.options());
}

// Products are much faster over rows that begin at multiples of 16 bytes, which a hidden width of
// 8/3 of the width does not give. Hidden features that are added are zero.
int64_t with_padding(int64_t hidden) { return (hidden + 7) / 8 * 8; }

// Rows (or elements) of the map in, either part padded; and back.
Tensor padded_maps(const Tensor& maps, int64_t hidden) {
  const int64_t more = with_padding(hidden) - hidden;
  if (!maps.defined() || more == 0) return maps;
  const Tensor halves = maps.unflatten(0, {-1, hidden});
  return (maps.dim() == 1 ? at::constant_pad_nd(halves, {0, more})
                          : at::constant_pad_nd(halves, {0, 0, 0, more}))
      .flatten(0, 1);
}
Tensor without_padding(const Tensor& maps, int64_t hidden) {
  if (!maps.defined() || with_padding(hidden) == hidden) return maps;
  return maps.unflatten(0, {-1, with_padding(hidden)}).slice(1, 0, hidden).flatten(0, 1);
}

}  // namespace

Made feed_forward(const FeedForwardWeights& weights, bool bf16, const Tensor& given, bool keep) {
  const at::ScalarType type = product_type(bf16);
  const Tensor x = given.view({-1, given.size(-1)});
  LF_RECORD_WORK("feed_forward", 2 * x.size(0) * (weights.in.numel() + weights.out.numel()));
  const int64_t hidden = weights.out.size(1);
  const Tensor in = padded_maps(weights.in.to(type), hidden);
  Tensor out = weights.out.to(type);
  if (const int64_t more = with_padding(hidden) - hidden; more > 0) {
    out = at::constant_pad_nd(out, {0, more});
  }
  const Tensor normal = device_layer_norm(x, plain_weight(weights.norm_weight),
                                          plain_weight(weights.norm_bias), weights.epsilon, type);
  const Tensor h = device_linear(normal, in, padded_maps(weights.in_bias, hidden));
  DeviceActivation task = activation_of(h, weights.gated);
  const Tensor active = hidden_of(h, task);
  task.y = result_of(active);
  device_operations()->activation(task);
  const Tensor y =
      device_add_residual(x, device_linear(active, out, {}), plain_weight(weights.out_bias));
  return {y.view(given.sizes()), keep ? Tensors{in, out, h} : Tensors{}};
}

FeedForwardGradients feed_forward_back(const FeedForwardWeights& weights, bool /*bf16*/,
                                       const Tensor& given, const Tensors& kept,
                                       const Tensor& given_dy) {
  const NoAutocast as_they_are;
  const Tensor &in = kept[0], &out = kept[1], &h = kept[2];
  const Tensor x = given.view({-1, given.size(-1)}), dy = given_dy.view(x.sizes());
  const int64_t hidden = weights.out.size(1);
  LF_RECORD_WORK("feed_forward_backward", 4 * x.size(0) * (in.numel() + out.numel()));
  const Tensor d_product = dy.to(h.scalar_type());
  DeviceActivation task = activation_of(h, weights.gated);
  const Tensor active = hidden_of(h, task), d_active = at::mm(d_product, out);
  const Tensor dh = at::empty_like(h);
  task.y = result_of(active);
  task.dy = data_of(d_active);
  task.dh = result_of(dh);
  device_operations()->activation_back(task);
  // The norm is computed again: reading it costs as much as reading x.
  const Tensor norm_weight = plain_weight(weights.norm_weight),
               norm_bias = plain_weight(weights.norm_bias);
  const Tensor normal =
      device_layer_norm(x, norm_weight, norm_bias, weights.epsilon, h.scalar_type());
  const LayerNormGradients norm =
      device_layer_norm_back(x, norm_weight, norm_bias, weights.epsilon, at::mm(dh, in), dy);
  FeedForwardGradients all{norm.dx.view(given.sizes()), {}};
  all.weights.norm_weight = norm.weight;
  all.weights.norm_bias = norm.bias;
  all.weights.in = without_padding(weight_gradients(dh, normal), hidden);
  all.weights.in_bias = without_padding(bias_gradients(dh, weights.in_bias.defined()), hidden);
  all.weights.out = weight_gradients(d_product, active).slice(1, 0, hidden);
  all.weights.out_bias = bias_gradients(dy, weights.out_bias.defined());
  return all;
}

}  // namespace lf::gpu
