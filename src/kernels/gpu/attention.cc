// attention() on a GPU: norm, one product for queries, keys and values, attention where the rows
// lie, product, residual.
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

#include "kernels/forms.h"
#include "kernels/gpu/device.h"
#include "kernels/gpu/rows.h"
#include "kernels/weights.h"
#include "kernels/work.h"

namespace lf::gpu {
namespace {

using at::Tensor;

// A task over tensors, which it keeps alive; maps are given later.
struct Call {
  explicit Call(const AttentionCall& call)
      : query_scale(plain_weight(call.weights.query_scale)),
        key_scale(plain_weight(call.weights.key_scale)),
        bias(plain_weight(call.weights.bias)),
        mask(plain_weight(call.weights.mask)),
        rotary(plain_weight(call.weights.rotary)) {
    task.outer = call.sequences.outer;
    task.tokens = call.sequences.tokens;
    task.inner = call.sequences.inner;
    task.heads = call.weights.heads;
    task.head_width = call.weights.query.size(0) / call.weights.heads;
    task.scale = static_cast<float>(call.weights.scale);
    task.query_scale = data_or_null(query_scale);
    task.key_scale = data_or_null(key_scale);
    task.bias = data_or_null(bias);
    task.mask = data_or_null(mask);
    task.rotary = data_or_null(rotary);
    task.pairs = rotary.defined() ? rotary.size(1) : 0;
  }
  Tensor query_scale, key_scale, bias, mask, rotary;
  DeviceAttention task;
};

// One row of weights or biases after the other; a bias that only one of them has is zero elsewhere.
Tensor joined(const Tensor& query, const Tensor& key_value, int64_t wide, const Tensor& like) {
  if (!query.defined() && !key_value.defined()) return {};
  const auto or_zero = [&](const Tensor& given, int64_t size) {
    return given.defined() ? given.to(like.scalar_type()) : at::zeros({size}, like.options());
  };
  return at::cat({or_zero(query, wide), or_zero(key_value, 2 * wide)});
}

int64_t flops_of(const Sequences& s, int64_t width, int64_t wide) {
  return 2 * s.outer * s.inner * s.tokens * wide * (4 * width + 2 * s.tokens);
}

// Rows that come normed are only cast.
Tensor normed(const Tensor& x, const Tensor& weight, const Tensor& bias, double epsilon,
              at::ScalarType type) {
  if (!weight.defined()) return x.to(type);
  return device_layer_norm(x, plain_weight(weight), plain_weight(bias), epsilon, type);
}

// `added` comes to x past the norm; undefined for nothing.
LayerNormGradients norm_back(const Tensor& x, const Tensor& weight, const Tensor& bias,
                             double epsilon, const Tensor& d_normal, const Tensor& added) {
  if (weight.defined()) {
    return device_layer_norm_back(x, plain_weight(weight), plain_weight(bias), epsilon, d_normal,
                                  added);
  }
  const Tensor dx = d_normal.to(x.scalar_type());
  return {added.defined() ? dx + added : dx, {}, {}};
}

// The parts of gradients that the kernel leaves.
class Sums {
 public:
  Sums(DeviceAttention& task, const Tensor& maps, bool bias_gradient) {
    const at::TensorOptions options = maps.options().dtype(at::kFloat);
    if (task.query_scale != nullptr) {
      scales_ = at::empty({task.chunks() * task.heads, 2, task.head_width}, options);
      task.scale_sums = scales_.mutable_data_ptr<float>();
    }
    if (bias_gradient) {
      bias_ = at::empty({task.chunks(), task.heads, task.tokens, task.tokens}, options);
      task.bias_sums = bias_.mutable_data_ptr<float>();
    }
  }
  Tensor of_scales() const { return scales_.defined() ? scales_.sum(0) : Tensor(); }
  Tensor of_bias() const { return bias_.defined() ? bias_.sum(0) : Tensor(); }

 private:
  Tensor scales_, bias_;
};

}  // namespace

bool takes_attention(const Tensor& x, const Sequences& sequences, const AttentionWeights& weights) {
  if (!takes_rows(x)) return false;
  DeviceAttention task;
  task.outer = sequences.outer;
  task.tokens = sequences.tokens;
  task.inner = sequences.inner;
  task.heads = weights.heads;
  task.head_width = weights.query.size(0) / weights.heads;
  return device_operations()->takes_attention(task);
}

Made attention(const AttentionCall& given, const Tensor& x, const Tensor& residual, bool keep) {
  const AttentionWeights& weights = given.weights;
  const at::ScalarType type = product_type(given.bf16);
  const Tensor rows = x.view({-1, x.size(-1)});
  const int64_t wide = weights.query.size(0);
  LF_RECORD_WORK("attention", flops_of(given.sequences, x.size(-1), wide));
  Call call(given);
  const Tensor in = at::cat({weights.query, weights.key_value}).to(type),
               out = weights.out.to(type);
  const Tensor normal = normed(rows, weights.norm_weight, weights.norm_bias, weights.epsilon, type);
  const Tensor maps =
      device_linear(normal, in, joined(weights.query_bias, weights.key_value_bias, wide, normal));
  const Tensor mixed = at::empty({rows.size(0), wide}, normal.options());
  call.task.maps = data_of(maps);
  call.task.mixed = result_of(mixed);
  device_operations()->attention(call.task);
  const Tensor y =
      device_add_residual(residual.defined() ? residual.view(rows.sizes()) : rows,
                          device_linear(mixed, out, {}), plain_weight(weights.out_bias));
  return {y.view(x.sizes()), keep ? Tensors{in, out, maps, mixed} : Tensors{}};
}

AttentionGradients attention_back(const AttentionCall& given, const Tensor& x, const Tensors& kept,
                                  const Tensor& dy) {
  const NoAutocast as_they_are;
  const AttentionWeights& weights = given.weights;
  const Tensor &in = kept[0], &out = kept[1], &maps = kept[2], &mixed = kept[3];
  const Tensor rows = x.view({-1, x.size(-1)}), d_rows = dy.view(rows.sizes());
  const int64_t wide = mixed.size(1);
  LF_RECORD_WORK("attention_backward", 2 * flops_of(given.sequences, x.size(-1), wide));
  const Tensor d_product = d_rows.to(maps.scalar_type());
  Call call(given);
  const Sums sums(call.task, maps, given.bias_gradient);
  const Tensor d_mixed = at::mm(d_product, out), d_maps = at::empty_like(maps);
  call.task.maps = data_of(maps);
  call.task.d_mixed = data_of(d_mixed);
  call.task.d_maps = result_of(d_maps);
  device_operations()->attention_back(call.task);
  const Tensor normal =
      normed(rows, weights.norm_weight, weights.norm_bias, weights.epsilon, maps.scalar_type());
  const LayerNormGradients norm =
      norm_back(rows, weights.norm_weight, weights.norm_bias, weights.epsilon, at::mm(d_maps, in),
                given.residual ? Tensor() : d_rows);
  const Tensor d_in = weight_gradients(d_maps, normal);
  const Tensor d_bias =
      bias_gradients(d_maps, weights.query_bias.defined() || weights.key_value_bias.defined());
  const auto part = [&](const Tensor& bias, int64_t from, int64_t to) {
    return bias.defined() ? d_bias.slice(0, from, to) : Tensor();
  };
  const Tensor scales = sums.of_scales();
  AttentionGradients all{norm.dx.view(x.sizes()), {}};
  AttentionWeights& d = all.weights;
  d.norm_weight = norm.weight;
  d.norm_bias = norm.bias;
  d.query = d_in.slice(0, 0, wide);
  d.query_bias = part(weights.query_bias, 0, wide);
  d.key_value = d_in.slice(0, wide);
  d.key_value_bias = part(weights.key_value_bias, wide, 3 * wide);
  d.out = weight_gradients(d_product, mixed);
  d.out_bias = bias_gradients(d_rows, weights.out_bias.defined());
  if (scales.defined()) {
    d.query_scale = scales.select(0, 0);
    d.key_scale = scales.select(0, 1);
  }
  d.bias = sums.of_bias();
  return all;
}

}  // namespace lf::gpu
