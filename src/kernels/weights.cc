#include "kernels/weights.h"

#include <ATen/core/grad_mode.h>

namespace lf {

at::Tensor plain_weight(const at::Tensor& weight) {
  if (!weight.defined()) return weight;
  // Most are so already, and a layer over one token reads many.
  const bool plain = weight.scalar_type() == at::kFloat && weight.is_contiguous();
  if (plain && !at::GradMode::is_enabled()) return weight;
  return weight.detach().to(at::kFloat).contiguous();
}

const float* data_or_null(const at::Tensor& weight) {
  return weight.defined() ? weight.const_data_ptr<float>() : nullptr;
}

}  // namespace lf
