// causal_depthwise() and nearest_code() on a GPU, see device_forms.h.
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
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
using Tensors = std::vector<Tensor>;

// A task over tensors, which it keeps alive.
struct Call {
  Call(const Tensor& x, const Tensor& weight, const Tensor& given_bias)
      : taps(plain_weight(weight.flatten(1).t())), bias(plain_weight(given_bias)) {
    task.clips = x.size(0);
    task.steps = x.size(1);
    task.height = x.size(2);
    task.width = x.size(3);
    task.channels = x.size(4);
    task.taps = taps.const_data_ptr<float>();
    task.bias = bias.const_data_ptr<float>();
    task.x = data_of(x);
  }
  Tensor taps, bias;
  DeviceDepthwise task;
};

Tensor forward_of(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  Call call(x, weight, bias);
  Tensor y = at::empty_like(x);
  call.task.y = result_of(y);
  LF_RECORD_WORK("depthwise", 54 * x.numel());
  device_operations()->depthwise(call.task);
  return y;
}

class DeviceCausalDepthwise : public torch::autograd::Function<DeviceCausalDepthwise> {
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
    DeviceDepthwise& task = call.task;
    const Tensor dy = gradients[0].to(saved[0].scalar_type()).contiguous();
    const Tensor dx = at::empty_like(saved[0]);
    const Tensor parts = at::empty({task.chunks(), 28, task.channels}, call.taps.options());
    task.dy = data_of(dy);
    task.dx = result_of(dx);
    task.sums = parts.mutable_data_ptr<float>();
    LF_RECORD_WORK("depthwise_backward", 108 * dy.numel());
    device_operations()->depthwise_back(task);
    const Tensor sums = parts.sum(0);
    return {dx, sums.slice(0, 0, 27).t().reshape(saved[1].sizes()), sums.select(0, 27)};
  }
};

}  // namespace

Tensor device_causal_depthwise(const Tensor& x_BTHWC, const Tensor& weight, const Tensor& bias) {
  if (wants_gradient({x_BTHWC, weight, bias})) {
    return DeviceCausalDepthwise::apply(x_BTHWC, weight, bias);
  }
  return forward_of(x_BTHWC, weight, bias);
}

Tensor device_nearest_code(const Tensor& rows, const Tensor& codebook) {
  const NoAutocast single;
  const Tensor z = plain_weight(rows), codes = plain_weight(codebook);
  const Tensor squares = codes.square().sum(1);
  Tensor ids = at::empty({z.size(0)}, z.options().dtype(at::kLong));
  DeviceSearch task;
  task.count = z.size(0);
  task.dim = z.size(1);
  task.size = codes.size(0);
  task.rows = z.const_data_ptr<float>();
  task.codes = codes.const_data_ptr<float>();
  task.squares = squares.const_data_ptr<float>();
  task.ids = ids.mutable_data_ptr<int64_t>();
  const Tensor least = at::empty({task.parts(), task.count}, z.options());
  const Tensor best = at::empty({task.parts(), task.count}, z.options().dtype(at::kInt));
  task.least = least.mutable_data_ptr<float>();
  task.best = best.mutable_data_ptr<int32_t>();
  LF_RECORD_WORK("nearest_code", 2 * z.numel() * codes.size(0));
  device_operations()->nearest_code(task);
  return ids;
}

}  // namespace lf
