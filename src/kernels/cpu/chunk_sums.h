// The sums that the chunks of a fused backward have made, added up in the order of chunks into
// tensors: gradients of weights. And the glue that fused forms have in common. Called by the fused
// operations.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

#include "kernels/cpu/products.h"

namespace lf {

// Sums of `count` chunks, `size` floats each.
class ChunkSums {
 public:
  ChunkSums(int64_t count, int64_t size);
  float* data() const { return sums_.mutable_data_ptr<float>(); }

  // A matrix of rows of padded(width) floats that begins at `at` of each chunk.
  at::Tensor matrix(int64_t at, int64_t rows, int64_t width) const;
  at::Tensor turned(int64_t at, int64_t rows, int64_t width) const;  // [width, rows]
  // A vector of 16 lanes a number; plain ones of one float a number.
  at::Tensor lanes(int64_t at, int64_t numbers) const;
  at::Tensor plain(int64_t at, int64_t numbers) const;

 private:
  int64_t count_, size_;
  at::Tensor sums_;
};

// body(i) for i below `count`, dealt out over the threads; bfloat16 products may be used within.
void over_threads(int64_t count, Operands operands, const std::function<void(int64_t)>& body);

// A weight [rows, depth] as the left matrix of products, and turned round; with `operands` their
// bfloat16 copies, which live in `kept`.
Left left_of(const at::Tensor& weight, Operands operands, std::vector<at::Tensor>& kept);
Left turned_left_of(const at::Tensor& weight, Operands operands, std::vector<at::Tensor>& kept);

// What products over x are computed in: bfloat16 under autocast and for rows in it, where this CPU
// can.
Operands operands_for(const at::Tensor& x);

// Single precision and contiguous, as kernels read weights; undefined stays so.
at::Tensor plain_weight(const at::Tensor& weight);
const float* data_or_null(const at::Tensor& weight);

}  // namespace lf
