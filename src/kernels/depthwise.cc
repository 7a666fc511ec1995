#include "kernels/depthwise.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/forms.h"

namespace lf {
namespace {

using at::Tensor;

class CausalDepthwise : public torch::autograd::Function<CausalDepthwise> {
 public:
  static Tensor forward(torch::autograd::AutogradContext* context, bool gpu, const Tensor& x,
                        const Tensor& weight, const Tensor& bias) {
    context->saved_data["gpu"] = gpu;
    context->save_for_backward({x, weight, bias});
    return gpu ? gpu::depthwise(x, weight, bias) : cpu::depthwise(x, weight, bias);
  }

  static Tensors backward(torch::autograd::AutogradContext* context, const Tensors& gradients) {
    refuse_gradients_of_gradients();
    const Tensors saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1], &bias = saved[2];
    const Tensor dy = gradients[0].to(x.scalar_type()).contiguous();
    const DepthwiseGradients d = context->saved_data["gpu"].toBool()
                                     ? gpu::depthwise_back(x, weight, bias, dy)
                                     : cpu::depthwise_back(x, weight, bias, dy);
    return {{}, d.x, d.weight, d.bias};
  }
};

}  // namespace

// As 2-D convolutions of the three time slices, which LibTorch is fast at.
Tensor causal_depthwise_reference(const Tensor& x_BTHWC, const Tensor& weight, const Tensor& bias) {
  const int64_t steps = x_BTHWC.size(1), channels = x_BTHWC.size(4);
  Tensor sum;
  for (int64_t back = 0; back < 3 && back < steps; ++back) {
    // What lies `back` steps before the steps from `back` on.
    const Tensor images = x_BTHWC.slice(1, 0, steps - back).flatten(0, 1).permute({0, 3, 1, 2});
    const Tensor seen = at::conv2d(images, weight.select(2, 2 - back), {}, 1, 1, 1, channels)
                            .permute({0, 2, 3, 1})
                            .unflatten(0, {x_BTHWC.size(0), steps - back});
    sum = back == 0 ? seen + bias : at::cat({sum.slice(1, 0, back), sum.slice(1, back) + seen}, 1);
  }
  return x_BTHWC + sum;
}

Tensor causal_depthwise(const KernelChoice& kernels, const Tensor& x_BTHWC, const Tensor& weight,
                        const Tensor& bias) {
  const Target target = target_of(kernels, Operation::kDepthwise, x_BTHWC);
  if (target == Target::kPlain || x_BTHWC.numel() == 0) {
    return causal_depthwise_reference(x_BTHWC, weight, bias);
  }
  const bool on_gpu = target == Target::kGpu;
  const Tensor x = x_BTHWC.contiguous();
  if (wants_gradient({x, weight, bias})) return CausalDepthwise::apply(on_gpu, x, weight, bias);
  return on_gpu ? gpu::depthwise(x, weight, bias) : cpu::depthwise(x, weight, bias);
}

}  // namespace lf
