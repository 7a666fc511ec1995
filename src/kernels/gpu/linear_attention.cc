// linear_attention() on a GPU: norm, one product for queries, keys and values, linear attention
// where the rows lie, product, residual.
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

DeviceLinearAttention task_of(const Tensor& x_NPC, int64_t heads, int64_t wide, double scale) {
  DeviceLinearAttention task;
  task.frames = x_NPC.size(0);
  task.places = x_NPC.size(1);
  task.heads = heads;
  task.head_width = wide / heads;
  task.scale = static_cast<float>(scale);
  return task;
}

int64_t flops_of(const DeviceLinearAttention& task, int64_t width) {
  return 2 * task.frames * task.heads * task.head_width * task.places *
         (4 * width + 2 * task.head_width);
}

Tensor scratch_of(const DeviceLinearAttention& task, at::TensorOptions options) {
  return at::empty({task.frames * task.heads * task.slices() * task.part_size()}, options);
}

}  // namespace

bool takes_linear_attention(const Tensor& x, const LinearAttentionWeights& weights) {
  return takes_rows(x) && device_operations()->takes_linear_attention(
                              task_of(x, weights.heads, weights.out.size(1), weights.scale));
}

Made linear_attention(const LinearAttentionWeights& weights, bool bf16, const Tensor& x,
                      bool keep) {
  const at::ScalarType type = product_type(bf16);
  const int64_t wide = weights.out.size(1);
  DeviceLinearAttention task = task_of(x, weights.heads, wide, weights.scale);
  LF_RECORD_WORK("linear_attention", flops_of(task, x.size(-1)));
  const at::TensorOptions single = x.options().dtype(at::kFloat);
  const Tensor in = weights.query_key_value.to(type), out = weights.out.to(type);
  const Tensor normal = device_layer_norm(x, plain_weight(weights.norm_weight),
                                          plain_weight(weights.norm_bias), weights.epsilon, type);
  const Tensor maps = device_linear(normal, in, {});
  const Tensor mixed = at::empty({x.size(0), x.size(1), wide}, normal.options());
  const Tensor statistics = at::empty({x.size(0), 2 * wide}, single);
  const Tensor context = at::empty({x.size(0), wide * task.head_width}, single);
  const Tensor parts = scratch_of(task, single);
  task.maps = data_of(maps);
  task.mixed = result_of(mixed);
  task.statistics = statistics.mutable_data_ptr<float>();
  task.context = context.mutable_data_ptr<float>();
  task.parts = parts.mutable_data_ptr<float>();
  device_operations()->linear_attention(task);
  const Tensor y =
      device_add_residual(x, device_linear(mixed, out, {}), plain_weight(weights.out_bias));
  return {y, keep ? Tensors{in, out, maps, mixed, statistics, context} : Tensors{}};
}

LinearAttentionGradients linear_attention_back(const LinearAttentionWeights& weights, bool /*bf16*/,
                                               const Tensor& x, const Tensors& kept,
                                               const Tensor& dy) {
  const NoAutocast as_they_are;
  const Tensor &in = kept[0], &out = kept[1], &maps = kept[2], &mixed = kept[3];
  DeviceLinearAttention task = task_of(x, weights.heads, mixed.size(2), weights.scale);
  LF_RECORD_WORK("linear_attention_backward", 2 * flops_of(task, x.size(-1)));
  const Tensor d_product = dy.to(maps.scalar_type());
  const Tensor d_mixed = at::mm(d_product.flatten(0, 1), out), d_maps = at::empty_like(maps);
  const Tensor d_context = at::empty_like(kept[5]), parts = scratch_of(task, d_context.options());
  task.maps = data_of(maps);
  task.d_mixed = data_of(d_mixed);
  task.d_maps = result_of(d_maps);
  task.statistics = kept[4].mutable_data_ptr<float>();
  task.context = kept[5].mutable_data_ptr<float>();
  task.d_context = d_context.mutable_data_ptr<float>();
  task.parts = parts.mutable_data_ptr<float>();
  device_operations()->linear_attention_back(task);
  const Tensor norm_weight = plain_weight(weights.norm_weight),
               norm_bias = plain_weight(weights.norm_bias);
  const Tensor normal =
      device_layer_norm(x, norm_weight, norm_bias, weights.epsilon, maps.scalar_type());
  const LayerNormGradients norm = device_layer_norm_back(x, norm_weight, norm_bias, weights.epsilon,
                                                         at::mm(d_maps.flatten(0, 1), in), dy);
  LinearAttentionGradients all{norm.dx, {}};
  all.weights.norm_weight = norm.weight;
  all.weights.norm_bias = norm.bias;
  all.weights.query_key_value = weight_gradients(d_maps, normal);
  all.weights.out = weight_gradients(d_product, mixed);
  all.weights.out_bias = bias_gradients(dy, weights.out_bias.defined());
  return all;
}

}  // namespace lf::gpu
