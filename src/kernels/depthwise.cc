#include "kernels/depthwise.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/cpu/chunk_sums.h"
#include "kernels/cpu/depthwise_rows.h"
#include "kernels/dispatch.h"
#include "kernels/gpu/forms.h"
#include "kernels/work.h"

namespace lf {
namespace {

using at::Tensor;
using Tensors = std::vector<Tensor>;

struct Call {
  Call(const Tensor& x, const Tensor& weight, const Tensor& given_bias)
      : taps(plain_weight(weight.flatten(1).t())), bias(plain_weight(given_bias)) {
    task.clips = x.size(0);
    task.steps = x.size(1);
    task.height = x.size(2);
    task.width = x.size(3);
    task.channels = x.size(4);
    task.half = x.scalar_type() == at::kBFloat16;
    task.taps = taps.const_data_ptr<float>();
    task.bias = bias.const_data_ptr<float>();
    task.x = x.const_data_ptr();
  }
  Tensor taps, bias;
  DepthwiseTask task{};
};

Tensor forward_of(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  Call call(x, weight, bias);
  Tensor y = at::empty_like(x);
  call.task.y = y.mutable_data_ptr();
  LF_RECORD_WORK("depthwise", 54 * x.numel());
  over_threads(call.task.rows(), Operands::kSingle,
               [&](int64_t row) { depthwise_row(call.task, row); });
  return y;
}

class CausalDepthwise : public torch::autograd::Function<CausalDepthwise> {
 public:
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& x,
                        const Tensor& weight, const Tensor& bias) {
    context->save_for_backward({x, weight, bias});
    return forward_of(x, weight, bias);
  }

  static Tensors backward(torch::autograd::AutogradContext* context, const Tensors& gradients) {
    refuse_gradients_of_gradients();
    const Tensors saved = context->get_saved_variables();
    Call call(saved[0], saved[1], saved[2]);
    DepthwiseTask& task = call.task;
    const Tensor dy = gradients[0].to(saved[0].scalar_type()).contiguous();
    const Tensor dx = at::empty_like(saved[0]);
    const Tensor taps = at::empty_like(call.taps), bias = at::empty_like(call.bias);
    task.dy = dy.const_data_ptr();
    task.dx = dx.mutable_data_ptr();
    task.tap_slopes = taps.mutable_data_ptr<float>();
    task.bias_slopes = bias.mutable_data_ptr<float>();
    LF_RECORD_WORK("depthwise_backward", 108 * dy.numel());
    over_threads(task.rows(), Operands::kSingle,
                 [&](int64_t row) { depthwise_row_back(task, row); });
    over_threads(task.blocks(), Operands::kSingle,
                 [&](int64_t block) { depthwise_block_back(task, block); });
    return {dx, taps.t().reshape(saved[1].sizes()), bias};
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
  const Tensor x = x_BTHWC.contiguous();
  if (target == Target::kGpu) return device_causal_depthwise(x, weight, bias);
  if (wants_gradient({x, weight, bias})) return CausalDepthwise::apply(x, weight, bias);
  return forward_of(x, weight, bias);
}

}  // namespace lf
