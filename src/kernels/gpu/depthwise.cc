// causal_depthwise() on a GPU.
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include "kernels/forms.h"
#include "kernels/gpu/device.h"
#include "kernels/gpu/rows.h"
#include "kernels/weights.h"
#include "kernels/work.h"

namespace lf::gpu {
namespace {

using at::Tensor;

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

}  // namespace

Tensor depthwise(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  Call call(x, weight, bias);
  Tensor y = at::empty_like(x);
  call.task.y = result_of(y);
  LF_RECORD_WORK("depthwise", 54 * x.numel());
  device_operations()->depthwise(call.task);
  return y;
}

DepthwiseGradients depthwise_back(const Tensor& x, const Tensor& weight, const Tensor& bias,
                                  const Tensor& dy) {
  Call call(x, weight, bias);
  DeviceDepthwise& task = call.task;
  const Tensor dx = at::empty_like(x);
  const Tensor parts = at::empty({task.chunks(), 28, task.channels}, call.taps.options());
  task.dy = data_of(dy);
  task.dx = result_of(dx);
  task.sums = parts.mutable_data_ptr<float>();
  LF_RECORD_WORK("depthwise_backward", 108 * dy.numel());
  device_operations()->depthwise_back(task);
  const Tensor sums = parts.sum(0);
  return {dx, sums.slice(0, 0, 27).t().reshape(weight.sizes()), sums.select(0, 27)};
}

}  // namespace lf::gpu
