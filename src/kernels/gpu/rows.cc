#include "kernels/gpu/rows.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/linear.h>

#include "kernels/forms.h"
#include "kernels/gpu/device.h"
#include "kernels/weights.h"

namespace lf::gpu {

using at::Tensor;

DeviceData data_of(const Tensor& tensor) {
  if (!tensor.defined()) return {};
  return {tensor.const_data_ptr(), tensor.scalar_type() == at::kBFloat16};
}

DeviceResult result_of(const Tensor& tensor) {
  return {tensor.mutable_data_ptr(), tensor.scalar_type() == at::kBFloat16};
}

// Wider rows are not normed by the kernels.
bool takes_rows(const Tensor& x) { return x.size(-1) <= kMostDeviceChannels; }

Tensor device_linear(const Tensor& rows, const Tensor& weight, const Tensor& bias) {
  const NoAutocast as_they_are;
  const Tensor map = weight.to(rows.scalar_type());
  return bias.defined() ? at::linear(rows, map, bias.to(rows.scalar_type()))
                        : at::linear(rows, map);
}

namespace {

DeviceNorm norm_task(const Tensor& x, const Tensor& weight, const Tensor& bias, double epsilon) {
  DeviceNorm task;
  task.kind = DeviceNorm::Kind::kLayer;
  task.images = 1;
  task.channels = x.size(-1);
  task.places = x.numel() / task.channels;
  task.epsilon = static_cast<float>(epsilon);
  task.gain = weight.const_data_ptr<float>();
  task.shift = data_or_null(bias);
  task.x = data_of(x);
  return task;
}

}  // namespace

Tensor device_layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double epsilon,
                         at::ScalarType type) {
  DeviceNorm task = norm_task(x, weight, bias, epsilon);
  Tensor y = at::empty_like(x, x.options().dtype(type));
  task.y = result_of(y);
  device_operations()->norm(task);
  return y;
}

LayerNormGradients device_layer_norm_back(const Tensor& x, const Tensor& weight, const Tensor& bias,
                                          double epsilon, const Tensor& dy, const Tensor& added) {
  DeviceNorm task = norm_task(x, weight, bias, epsilon);
  Tensor dx = at::empty_like(x);
  const Tensor sums = at::empty({task.slices(), 2, task.channels}, x.options().dtype(at::kFloat));
  task.dy = data_of(dy);
  task.added = data_of(added);
  task.dx = result_of(dx);
  task.sums = sums.mutable_data_ptr<float>();
  device_operations()->norm_back(task);
  const Tensor gradients = sums.sum(0);
  return {dx, gradients.select(0, 0), bias.defined() ? gradients.select(0, 1) : Tensor()};
}

Tensor device_add_residual(const Tensor& x, const Tensor& branch, const Tensor& bias) {
  DeviceResidual task;
  task.width = x.size(-1);
  task.rows = x.numel() / task.width;
  task.x = data_of(x);
  task.branch = data_of(branch);
  task.bias = data_or_null(bias);
  Tensor y = at::empty_like(x);
  task.y = result_of(y);
  device_operations()->add_residual(task);
  return y;
}

Tensor weight_gradients(const Tensor& d_rows, const Tensor& rows) {
  const NoAutocast as_they_are;
  return d_rows.flatten(0, -2).t().mm(rows.flatten(0, -2)).to(at::kFloat);
}

Tensor bias_gradients(const Tensor& d_rows, bool wanted) {
  return wanted ? d_rows.flatten(0, -2).sum(0, /*keepdim=*/false, at::kFloat) : Tensor();
}

}  // namespace lf::gpu
