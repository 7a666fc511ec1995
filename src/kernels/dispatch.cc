#include "kernels/dispatch.h"

#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "base/error.h"
#include "kernels/gpu/device.h"
#include "run.pb.h"

namespace lf {
const std::vector<OperationRow>& operation_table() {
  // In the order of Operation.
  static const std::vector<OperationRow> table = {
      {"attention", "norm, attention of up to 64 tokens and residual, in space or in time", true,
       true},
      {"feed_forward", "norm, linear map, GELU or gated GELU, linear map and residual", true, true},
      {"depthwise", "causal 3x3x3 convolution of each channel by itself, with residual", true,
       true},
      {"nearest_code", "the nearest vector of a codebook, without a table of distances", true,
       true},
      {"norm_silu", "RMS or group norm, scale and shift, SiLU and residual", true, true},
      {"linear_attention", "norm, linear attention within each frame and residual", true, true},
      {"skinny_matmul",
       "linear map of 4 to 64 rows: sampled tokens, noise levels, patches of small images", true,
       false},
      {"convolution", "3x3 convolution with a quarter of the multiplications", true, false},
      {"long_attention", "softmax(q k^T) v of at least 64 tokens and four times a head of up to 64",
       true, false},
      {"token_layer", "a transformer's layer over one new token of each sequence, with a cache",
       true, false},
  };
  return table;
}

KernelChoice kernel_choice(const TrainConfig& config) {
  return {config.kernels() == REFERENCE ? Form::kReference : Form::kFused, config.gpu_kernels()};
}

Target target_of(const KernelChoice& kernels, Operation operation, const at::Tensor& x) {
  const OperationRow& row = operation_table()[static_cast<size_t>(operation)];
  const bool takes = x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16;
  if (kernels.form == Form::kReference || !takes) return Target::kPlain;
  const DeviceOperations* gpu = kernels.gpu && row.cuda ? device_operations() : nullptr;
  if (gpu != nullptr && (x.is_cuda() || gpu->on_host)) return Target::kGpu;
  return x.is_cpu() && row.cpu ? Target::kCpu : Target::kPlain;
}

bool wants_gradient(at::TensorList tensors) {
  return at::GradMode::is_enabled() &&
         std::any_of(tensors.begin(), tensors.end(),
                     [](const auto& one) { return one.defined() && one.requires_grad(); });
}

void refuse_gradients_of_gradients() {
  LF_CHECK(!at::GradMode::is_enabled(),
           "gradients of gradients do not go through this operation; is its plain form wanted "
           "(train.kernels=REFERENCE), or a block that is not recomputed?");
}

bool wants_bf16(const at::Tensor& x) {
  const at::DeviceType device = x.device().type();
  return x.scalar_type() == at::kBFloat16 ||
         (at::autocast::is_autocast_enabled(device) &&
          at::autocast::get_autocast_dtype(device) == at::kBFloat16);
}

}  // namespace lf
