#include "kernels/dispatch.h"

#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <atomic>

#include "base/error.h"
#include "kernels/gpu/device_operations.h"

namespace lf {
namespace {

std::atomic<Form>& current() {
  static std::atomic<Form> form = Form::kFused;
  return form;
}

std::atomic<const DeviceOperations*>& installed() {
  static std::atomic<const DeviceOperations*> operations = nullptr;
  return operations;
}

}  // namespace

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
      {"few_rows",
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

void choose_form(Form form) { current() = form; }
Form chosen_form() { return current().load(std::memory_order_relaxed); }

void install_device_operations(const DeviceOperations* operations) { installed() = operations; }
const DeviceOperations* device_operations() { return installed().load(std::memory_order_acquire); }

bool fused(Operation operation, const at::Tensor& x) {
  const OperationRow& row = operation_table()[static_cast<size_t>(operation)];
  const bool takes = x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16;
  return chosen_form() == Form::kFused && takes &&
         ((x.is_cpu() && row.cpu) || (x.is_cuda() && row.cuda && device_operations() != nullptr));
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

bool wants_bfloat16(const at::Tensor& x) {
  const at::DeviceType device = x.device().type();
  return x.scalar_type() == at::kBFloat16 ||
         (at::autocast::is_autocast_enabled(device) &&
          at::autocast::get_autocast_dtype(device) == at::kBFloat16);
}

Operands operands_for(const at::Tensor& x) {
  return operands_here(wants_bfloat16(x) ? Operands::kBfloat16 : Operands::kSingle);
}

}  // namespace lf
