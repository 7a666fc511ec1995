#include "kernels/feed_forward.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/forms.h"

namespace lf {
namespace {

class FeedForward : public torch::autograd::Function<FeedForward> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, bool gpu, bool bf16,
                            const at::Tensor& x, const at::Tensor& norm_weight,
                            const Maybe& norm_bias, const at::Tensor& in, const Maybe& in_bias,
                            const at::Tensor& out, const Maybe& out_bias, bool gated,
                            double epsilon) {
    const auto given = [](const Maybe& maybe) { return maybe.value_or(at::Tensor()); };
    const FeedForwardWeights weights{norm_weight, given(norm_bias), in,    given(in_bias),
                                     out,         given(out_bias),  gated, epsilon};
    const Made made =
        gpu ? gpu::feed_forward(weights, bf16, x, true) : cpu::feed_forward(weights, bf16, x, true);
    auto& data = context->saved_data;
    data["gpu"] = gpu;
    data["bf16"] = bf16;
    data["gated"] = gated;
    data["epsilon"] = epsilon;
    Tensors saved = {x,   weights.norm_weight, weights.norm_bias, weights.in, weights.in_bias,
                     out, weights.out_bias};
    saved.insert(saved.end(), made.kept.begin(), made.kept.end());
    context->save_for_backward(saved);
    return made.y;
  }

  static Tensors backward(torch::autograd::AutogradContext* context, const Tensors& gradients) {
    refuse_gradients_of_gradients();
    const Tensors saved = context->get_saved_variables();
    auto& data = context->saved_data;
    const at::Tensor& x = saved[0];
    const FeedForwardWeights weights{saved[1],
                                     saved[2],
                                     saved[3],
                                     saved[4],
                                     saved[5],
                                     saved[6],
                                     data["gated"].toBool(),
                                     data["epsilon"].toDouble()};
    const Tensors kept(saved.begin() + 7, saved.end());
    const at::Tensor dy = gradients[0].to(x.scalar_type()).contiguous();
    const bool bf16 = data["bf16"].toBool();
    const FeedForwardGradients d = data["gpu"].toBool()
                                       ? gpu::feed_forward_back(weights, bf16, x, kept, dy)
                                       : cpu::feed_forward_back(weights, bf16, x, kept, dy);
    return {{},
            {},
            d.x,
            d.weights.norm_weight,
            d.weights.norm_bias,
            d.weights.in,
            d.weights.in_bias,
            d.weights.out,
            d.weights.out_bias,
            {},
            {}};
  }
};

}  // namespace

at::Tensor feed_forward_reference(const at::Tensor& x, const FeedForwardWeights& weights) {
  const auto linear = [](const at::Tensor& rows, const at::Tensor& weight, const at::Tensor& bias) {
    return bias.defined() ? at::linear(rows, weight, bias) : at::linear(rows, weight);
  };
  const at::Tensor h = linear(
      at::layer_norm(x, {x.size(-1)}, weights.norm_weight, weights.norm_bias, weights.epsilon),
      weights.in, weights.in_bias);
  if (!weights.gated) return x + linear(at::gelu(h), weights.out, weights.out_bias);
  const std::vector<at::Tensor> halves = h.chunk(2, -1);
  return x + linear(halves[0] * at::gelu(halves[1]), weights.out, weights.out_bias);
}

at::Tensor feed_forward(const KernelChoice& kernels, const at::Tensor& x,
                        const FeedForwardWeights& weights) {
  const Target target = target_of(kernels, Operation::kFeedForward, x);
  const bool on_gpu = target == Target::kGpu;
  if (target == Target::kPlain || x.numel() == 0 ||
      !(on_gpu ? gpu::takes_rows(x) : cpu::takes_feed_forward(x))) {
    return feed_forward_reference(x, weights);
  }
  const at::Tensor rows = x.contiguous();
  const bool bf16 = wants_bf16(rows);
  const FeedForwardWeights& w = weights;
  if (wants_gradient({x, w.norm_weight, w.norm_bias, w.in, w.in_bias, w.out, w.out_bias})) {
    return FeedForward::apply(on_gpu, bf16, rows, w.norm_weight, Maybe(w.norm_bias), w.in,
                              Maybe(w.in_bias), w.out, Maybe(w.out_bias), w.gated, w.epsilon);
  }
  return (on_gpu ? gpu::feed_forward(w, bf16, rows, false)
                 : cpu::feed_forward(w, bf16, rows, false))
      .y;
}

}  // namespace lf
