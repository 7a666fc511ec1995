// From tensors to the tasks of CPU kernels: operands of products, and work dealt over threads.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "kernels/cpu/products.h"
#include "kernels/weights.h"

namespace lf {

// body(i) for i below `count`, dealt over the threads; bf16 products may be used within.
void over_threads(int64_t count, Operands operands, const std::function<void(int64_t)>& body);

// A weight [rows, depth] as the left matrix of products, and transposed; with `operands` their
// bf16 copies, which live in `kept`.
Left left_of(const at::Tensor& weight, Operands operands, std::vector<at::Tensor>& kept);
Left transposed_left_of(const at::Tensor& weight, Operands operands, std::vector<at::Tensor>& kept);

// bf16 if wanted and this CPU multiplies it.
inline Operands operands_of(bool bf16) {
  return operands_here(bf16 ? Operands::kBf16 : Operands::kSingle);
}

}  // namespace lf
