#include "kernels/dispatch.h"

#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <atomic>

namespace lf {
namespace {

std::atomic<Form>& current() {
  static std::atomic<Form> form = Form::kFused;
  return form;
}

}  // namespace

const std::vector<OperationRow>& operation_table() {
  // In the order of Operation.
  static const std::vector<OperationRow> table = {
      {"attention", "norm, attention of up to 64 tokens and residual, in space or in time", true,
       false},
      {"feed_forward", "norm, linear map, GELU or gated GELU, linear map and residual", true,
       false},
      {"depthwise", "causal 3x3x3 convolution of each channel by itself, with residual", true,
       false},
      {"nearest_code", "the nearest vector of a codebook, without a table of distances", true,
       false},
      {"norm_silu", "RMS or group norm, scale and shift, SiLU and residual", true, false},
      {"linear_attention", "norm, linear attention within each frame and residual", true, false},
      {"few_rows", "linear map of 4 to 64 rows, as sampling makes them one token at a time", true,
       false},
      {"convolution", "3x3 convolution with a quarter of the multiplications", true, false},
  };
  return table;
}

void choose_form(Form form) { current() = form; }
Form chosen_form() { return current().load(std::memory_order_relaxed); }

bool fused(Operation operation, const at::Tensor& x) {
  const OperationRow& row = operation_table()[static_cast<size_t>(operation)];
  const bool takes = x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16;
  return chosen_form() == Form::kFused && takes &&
         ((x.is_cpu() && row.cpu) || (x.is_cuda() && row.cuda));
}

bool wants_gradient(at::TensorList tensors) {
  return at::GradMode::is_enabled() &&
         std::any_of(tensors.begin(), tensors.end(),
                     [](const auto& one) { return one.defined() && one.requires_grad(); });
}

Operands operands_for(const at::Tensor& x) {
  const bool half = x.scalar_type() == at::kBFloat16 ||
                    (at::autocast::is_autocast_enabled(at::kCPU) &&
                     at::autocast::get_autocast_dtype(at::kCPU) == at::kBFloat16);
  return operands_here(half ? Operands::kBfloat16 : Operands::kSingle);
}

}  // namespace lf
