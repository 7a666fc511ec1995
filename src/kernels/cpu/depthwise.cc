// causal_depthwise() on a CPU: tensors to tasks of depthwise_rows.h.
#include <ATen/ops/empty_like.h>

#include "kernels/cpu/depthwise_rows.h"
#include "kernels/cpu/task.h"
#include "kernels/forms.h"
#include "kernels/work.h"

namespace lf::cpu {
namespace {

using at::Tensor;

struct Call {
  Call(const Tensor& x, const Tensor& weight, const Tensor& given_bias)
      : taps(plain_weight(weight.flatten(1).t())), bias(plain_weight(given_bias)) {
    task.clips = x.size(0);
    task.steps = x.size(1);
    task.height = x.size(2);
    task.width = x.size(3);
    task.channels = x.size(4);
    task.bf16_rows = x.scalar_type() == at::kBFloat16;
    task.taps = taps.const_data_ptr<float>();
    task.bias = bias.const_data_ptr<float>();
    task.x = x.const_data_ptr();
  }
  Tensor taps, bias;
  DepthwiseTask task{};
};

}  // namespace

Tensor depthwise(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  Call call(x, weight, bias);
  Tensor y = at::empty_like(x);
  call.task.y = y.mutable_data_ptr();
  LF_RECORD_WORK("depthwise", 54 * x.numel());
  over_threads(call.task.rows(), Operands::kSingle,
               [&](int64_t row) { depthwise_row(call.task, row); });
  return y;
}

DepthwiseGradients depthwise_back(const Tensor& x, const Tensor& weight, const Tensor& bias,
                                  const Tensor& dy) {
  Call call(x, weight, bias);
  DepthwiseTask& task = call.task;
  const Tensor dx = at::empty_like(x);
  const Tensor d_taps = at::empty_like(call.taps), d_bias = at::empty_like(call.bias);
  task.dy = dy.const_data_ptr();
  task.dx = dx.mutable_data_ptr();
  task.tap_gradients = d_taps.mutable_data_ptr<float>();
  task.bias_gradients = d_bias.mutable_data_ptr<float>();
  LF_RECORD_WORK("depthwise_backward", 108 * dy.numel());
  over_threads(task.rows(), Operands::kSingle, [&](int64_t row) { depthwise_row_back(task, row); });
  over_threads(task.blocks(), Operands::kSingle,
               [&](int64_t block) { depthwise_block_back(task, block); });
  return {dx, d_taps.t().reshape(weight.sizes()), d_bias};
}

}  // namespace lf::cpu
