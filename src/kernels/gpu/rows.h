// What the GPU forms of transformer sublayers share: the layer norm before the products and its
// backward, the residual after them, and tensors as device data.
#pragma once

#include <ATen/autocast_mode.h>
#include <ATen/core/Tensor.h>

#include <vector>

#include "kernels/gpu/device_operations.h"

namespace lf::gpu {

DeviceData data_of(const at::Tensor& tensor);  // nothing if undefined
DeviceResult result_of(const at::Tensor& tensor);

// What products are computed in.
inline at::ScalarType product_type(bool bf16) { return bf16 ? at::kBFloat16 : at::kFloat; }

// Products are given their operands in the type they are to be computed in.
class NoAutocast {
  c10::impl::ExcludeDispatchKeyGuard guard_{c10::autocast_dispatch_keyset};
};

// rows [..., depth] -> [..., features]; weight and bias are cast to the rows' type.
at::Tensor device_linear(const at::Tensor& rows, const at::Tensor& weight, const at::Tensor& bias);

// The layer norm of rows [..., width] in `type`, with its weight and bias (may be undefined), which
// are in single precision.
at::Tensor device_layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                             double epsilon, at::ScalarType type);
struct LayerNormGradients {
  at::Tensor dx, weight, bias;
};
// `added` is what comes to x past the norm; it is added to dx.
LayerNormGradients device_layer_norm_back(const at::Tensor& x, const at::Tensor& weight,
                                          const at::Tensor& bias, double epsilon,
                                          const at::Tensor& dy, const at::Tensor& added);

// x + branch + bias (may be undefined).
at::Tensor device_add_residual(const at::Tensor& x, const at::Tensor& branch,
                               const at::Tensor& bias);

// Gradients of `rows times the transposed weight, plus bias`: of the weight and of the bias, in
// single precision; undefined where not `wanted`.
at::Tensor weight_gradients(const at::Tensor& d_rows, const at::Tensor& rows);
at::Tensor bias_gradients(const at::Tensor& d_rows, bool wanted);

}  // namespace lf::gpu
