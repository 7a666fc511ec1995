// linear_attention() on a GPU, see device_forms.h: norm, one product for queries, keys and values,
// linear attention where the rows lie, product, residual.
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/cpu/chunk_sums.h"
#include "kernels/dispatch.h"
#include "kernels/gpu/device.h"
#include "kernels/gpu/forms.h"
#include "kernels/gpu/rows.h"
#include "kernels/work.h"

namespace lf {
namespace {

using at::Tensor;
using Maybe = std::optional<Tensor>;  // a weight that a layer may do without
using Tensors = std::vector<Tensor>;

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

struct Made {
  Tensor y, maps, mixed, in, out;  // the weights as the products had them
  Tensor statistics, context;
};

Tensor scratch_of(const DeviceLinearAttention& task, at::TensorOptions options) {
  return at::empty({task.frames * task.heads * task.slices() * task.part_size()}, options);
}

Made forward_of(const Tensor& x, const LinearAttentionWeights& weights) {
  const at::ScalarType type = product_type(x);
  const int64_t wide = weights.out.size(1);
  DeviceLinearAttention task = task_of(x, weights.heads, wide, weights.scale);
  LF_RECORD_WORK("linear_attention", flops_of(task, x.size(-1)));
  const at::TensorOptions single = x.options().dtype(at::kFloat);
  Made made;
  made.in = weights.query_key_value.to(type);
  made.out = weights.out.to(type);
  const Tensor normal = device_layer_norm(x, plain_weight(weights.norm_weight),
                                          plain_weight(weights.norm_bias), weights.epsilon, type);
  made.maps = device_linear(normal, made.in, {});
  made.mixed = at::empty({x.size(0), x.size(1), wide}, normal.options());
  made.statistics = at::empty({x.size(0), 2 * wide}, single);
  made.context = at::empty({x.size(0), wide * task.head_width}, single);
  const Tensor parts = scratch_of(task, single);
  task.maps = data_of(made.maps);
  task.mixed = result_of(made.mixed);
  task.statistics = made.statistics.mutable_data_ptr<float>();
  task.context = made.context.mutable_data_ptr<float>();
  task.parts = parts.mutable_data_ptr<float>();
  device_operations()->linear_attention(task);
  made.y = device_add_residual(x, device_linear(made.mixed, made.out, {}),
                               plain_weight(weights.out_bias));
  return made;
}

class DeviceLinearAttentionLayer : public torch::autograd::Function<DeviceLinearAttentionLayer> {
 public:
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& x,
                        const Tensor& norm_weight, const Maybe& norm_bias, const Tensor& maps,
                        const Tensor& out, const Maybe& out_bias, int64_t heads, double scale,
                        double epsilon) {
    const Tensor shift = norm_bias.value_or(Tensor());
    const Made made = forward_of(
        x, {norm_weight, shift, maps, out, out_bias.value_or(Tensor()), heads, scale, epsilon});
    context->saved_data["heads"] = heads;
    context->saved_data["scale"] = scale;
    context->saved_data["epsilon"] = epsilon;
    context->saved_data["out_bias"] = out_bias && out_bias->defined();
    context->save_for_backward({x, norm_weight, shift, made.in, made.out, made.maps, made.mixed,
                                made.statistics, made.context});
    return made.y;
  }

  static Tensors backward(torch::autograd::AutogradContext* context, const Tensors& gradients) {
    refuse_gradients_of_gradients();
    const NoAutocast as_they_are;
    const Tensors saved = context->get_saved_variables();
    const Tensor &x = saved[0], &in = saved[3], &out = saved[4], &maps = saved[5],
                 &mixed = saved[6];
    const double epsilon = context->saved_data["epsilon"].toDouble();
    DeviceLinearAttention task = task_of(x, context->saved_data["heads"].toInt(), mixed.size(2),
                                         context->saved_data["scale"].toDouble());
    LF_RECORD_WORK("linear_attention_backward", 2 * flops_of(task, x.size(-1)));
    const Tensor dy = gradients[0].to(x.scalar_type()).contiguous();
    const Tensor dy_half = dy.to(maps.scalar_type());
    const Tensor d_mixed = at::mm(dy_half.flatten(0, 1), out), d_maps = at::empty_like(maps);
    const Tensor d_context = at::empty_like(saved[8]),
                 parts = scratch_of(task, d_context.options());
    task.maps = data_of(maps);
    task.d_mixed = data_of(d_mixed);
    task.d_maps = result_of(d_maps);
    task.statistics = saved[7].mutable_data_ptr<float>();
    task.context = saved[8].mutable_data_ptr<float>();
    task.d_context = d_context.mutable_data_ptr<float>();
    task.parts = parts.mutable_data_ptr<float>();
    device_operations()->linear_attention_back(task);
    const Tensor norm_weight = plain_weight(saved[1]), norm_bias = plain_weight(saved[2]);
    const Tensor normal = device_layer_norm(x, norm_weight, norm_bias, epsilon, maps.scalar_type());
    const LayerNormSlopes norm = device_layer_norm_back(x, norm_weight, norm_bias, epsilon,
                                                        at::mm(d_maps.flatten(0, 1), in), dy);
    return {norm.dx,
            norm.weight,
            norm.bias,
            weight_slopes(d_maps, normal),
            weight_slopes(dy_half, mixed),
            bias_slopes(dy, context->saved_data["out_bias"].toBool()),
            {},
            {},
            {}};
  }
};

}  // namespace

bool device_takes_linear_attention(const Tensor& x, const LinearAttentionWeights& weights) {
  return device_takes_rows(x) && device_operations()->takes_linear_attention(
                                     task_of(x, weights.heads, weights.out.size(1), weights.scale));
}

Tensor device_linear_attention(const Tensor& x_NPC, const LinearAttentionWeights& weights) {
  const LinearAttentionWeights& w = weights;
  if (wants_gradient({x_NPC, w.norm_weight, w.norm_bias, w.query_key_value, w.out, w.out_bias})) {
    return DeviceLinearAttentionLayer::apply(x_NPC, w.norm_weight, Maybe(w.norm_bias),
                                             w.query_key_value, w.out, Maybe(w.out_bias), w.heads,
                                             w.scale, w.epsilon);
  }
  return forward_of(x_NPC, weights).y;
}

}  // namespace lf
