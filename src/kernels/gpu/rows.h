// What the GPU forms of a transformer's half-layers have in common: the layer norm before the
// products and its way back, the residual after them, and tensors as device data. Called by
// device_*.cc.
#pragma once

#include <ATen/autocast_mode.h>
#include <ATen/core/Tensor.h>

#include <vector>

#include "kernels/gpu/device_operations.h"

namespace lf {

DeviceData data_of(const at::Tensor& tensor);  // nothing if undefined
DeviceResult result_of(const at::Tensor& tensor);

// What products over x are computed in: bfloat16 under autocast and for rows in it.
at::ScalarType product_type(const at::Tensor& x);

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
struct LayerNormSlopes {
  at::Tensor dx, weight, bias;
};
// `added` is what comes to x past the norm; it is added to dx.
LayerNormSlopes device_layer_norm_back(const at::Tensor& x, const at::Tensor& weight,
                                       const at::Tensor& bias, double epsilon, const at::Tensor& dy,
                                       const at::Tensor& added);

// x + branch + bias (may be undefined).
at::Tensor device_add_residual(const at::Tensor& x, const at::Tensor& branch,
                               const at::Tensor& bias);

// Gradients of `rows times the turned weight, plus bias`: of the weight and of the bias, in single
// precision; undefined where not `wanted`.
at::Tensor weight_slopes(const at::Tensor& d_rows, const at::Tensor& rows);
at::Tensor bias_slopes(const at::Tensor& d_rows, bool wanted);

}  // namespace lf
