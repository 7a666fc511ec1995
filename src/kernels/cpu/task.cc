#include "kernels/cpu/task.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

namespace lf {

void over_threads(int64_t count, Operands operands, const std::function<void(int64_t)>& body) {
  at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) body(i);
    end_products(operands);
  });
}

static Left with_bf16(Left left, int64_t rows, int64_t depth, Operands operands,
                      std::vector<at::Tensor>& kept) {
  if (operands == Operands::kSingle) return left;
  kept.push_back(at::empty({bf16_left_size(rows, depth)}, at::kBFloat16));
  left.bf16 = bf16_left(left, rows, depth, static_cast<Bf16*>(kept.back().mutable_data_ptr()));
  return left;
}

Left left_of(const at::Tensor& weight, Operands operands, std::vector<at::Tensor>& kept) {
  return with_bf16({weight.const_data_ptr<float>(), weight.size(1), 1}, weight.size(0),
                   weight.size(1), operands, kept);
}

Left transposed_left_of(const at::Tensor& weight, Operands operands,
                        std::vector<at::Tensor>& kept) {
  return with_bf16({weight.const_data_ptr<float>(), 1, weight.size(1)}, weight.size(1),
                   weight.size(0), operands, kept);
}

}  // namespace lf
