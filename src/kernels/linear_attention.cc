#include "kernels/linear_attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <torch/csrc/autograd/custom_function.h>

#include "base/error.h"
#include "kernels/forms.h"

namespace lf {
namespace {

using at::Tensor;

class LinearAttention : public torch::autograd::Function<LinearAttention> {
 public:
  static Tensor forward(torch::autograd::AutogradContext* context, bool gpu, bool bf16,
                        const Tensor& x, const Tensor& norm_weight, const Maybe& norm_bias,
                        const Tensor& maps, const Tensor& out, const Maybe& out_bias, int64_t heads,
                        double scale, double epsilon) {
    const LinearAttentionWeights weights{norm_weight,
                                         norm_bias.value_or(Tensor()),
                                         maps,
                                         out,
                                         out_bias.value_or(Tensor()),
                                         heads,
                                         scale,
                                         epsilon};
    const Made made = gpu ? gpu::linear_attention(weights, bf16, x, true)
                          : cpu::linear_attention(weights, bf16, x, true);
    auto& data = context->saved_data;
    data["gpu"] = gpu;
    data["bf16"] = bf16;
    data["heads"] = heads;
    data["scale"] = scale;
    data["epsilon"] = epsilon;
    Tensors saved = {x, norm_weight, weights.norm_bias, maps, out, weights.out_bias};
    saved.insert(saved.end(), made.kept.begin(), made.kept.end());
    context->save_for_backward(saved);
    return made.y;
  }

  static Tensors backward(torch::autograd::AutogradContext* context, const Tensors& gradients) {
    refuse_gradients_of_gradients();
    const Tensors saved = context->get_saved_variables();
    auto& data = context->saved_data;
    const Tensor& x = saved[0];
    const LinearAttentionWeights weights{saved[1],
                                         saved[2],
                                         saved[3],
                                         saved[4],
                                         saved[5],
                                         data["heads"].toInt(),
                                         data["scale"].toDouble(),
                                         data["epsilon"].toDouble()};
    const Tensors kept(saved.begin() + 6, saved.end());
    const Tensor dy = gradients[0].to(x.scalar_type()).contiguous();
    const bool bf16 = data["bf16"].toBool();
    const LinearAttentionGradients d = data["gpu"].toBool()
                                           ? gpu::linear_attention_back(weights, bf16, x, kept, dy)
                                           : cpu::linear_attention_back(weights, bf16, x, kept, dy);
    return {{},
            {},
            d.x,
            d.weights.norm_weight,
            d.weights.norm_bias,
            d.weights.query_key_value,
            d.weights.out,
            d.weights.out_bias,
            {},
            {},
            {}};
  }
};

}  // namespace

Tensor linear_attention_reference(const Tensor& x_NPC, const LinearAttentionWeights& weights) {
  const Tensor normal = at::layer_norm(x_NPC, {x_NPC.size(2)}, weights.norm_weight,
                                       weights.norm_bias, weights.epsilon);
  std::vector<Tensor> parts;  // [N, heads, P, head width]
  for (const Tensor& part : at::linear(normal, weights.query_key_value).chunk(3, -1)) {
    parts.push_back(part.unflatten(2, {weights.heads, -1}).transpose(1, 2));
  }
  const Tensor query = parts[0].softmax(-1) * weights.scale, key = parts[1].softmax(-2);
  const Tensor context = key.transpose(-1, -2).matmul(parts[2]);
  const Tensor mixed = query.to(context.scalar_type()).matmul(context).transpose(1, 2).flatten(2);
  return x_NPC + (weights.out_bias.defined() ? at::linear(mixed, weights.out, weights.out_bias)
                                             : at::linear(mixed, weights.out));
}

Tensor linear_attention(const KernelChoice& kernels, const Tensor& x_NPC,
                        const LinearAttentionWeights& weights) {
  LF_CHECK(x_NPC.dim() == 3 && weights.out.size(1) % weights.heads == 0 &&
               weights.query_key_value.size(0) == 3 * weights.out.size(1),
           "weights of linear attention that do not fit each other");
  const Target target = target_of(kernels, Operation::kLinearAttention, x_NPC);
  const bool on_gpu = target == Target::kGpu;
  if (target == Target::kPlain || x_NPC.numel() == 0 ||
      (on_gpu && !gpu::takes_linear_attention(x_NPC, weights))) {
    return linear_attention_reference(x_NPC, weights);
  }
  const Tensor x = x_NPC.contiguous();
  const bool bf16 = wants_bf16(x);
  const LinearAttentionWeights& w = weights;
  if (wants_gradient({x, w.norm_weight, w.norm_bias, w.query_key_value, w.out, w.out_bias})) {
    return LinearAttention::apply(on_gpu, bf16, x, w.norm_weight, Maybe(w.norm_bias),
                                  w.query_key_value, w.out, Maybe(w.out_bias), w.heads, w.scale,
                                  w.epsilon);
  }
  return (on_gpu ? gpu::linear_attention(w, bf16, x, false)
                 : cpu::linear_attention(w, bf16, x, false))
      .y;
}

}  // namespace lf
