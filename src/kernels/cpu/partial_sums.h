// Partial sums that the chunks of a backward pass have made, added up in the order of chunks into
// the gradients of weights: the same bits on any number of threads.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace lf {

// Sums of `count` chunks, `size` floats each.
class PartialSums {
 public:
  PartialSums(int64_t count, int64_t size);
  float* data() const { return sums_.mutable_data_ptr<float>(); }

  // A matrix of rows of padded(width) floats that begins at `at` of each chunk.
  at::Tensor matrix(int64_t at, int64_t rows, int64_t width) const;
  at::Tensor transposed(int64_t at, int64_t rows, int64_t width) const;  // [width, rows]
  // A vector of 16 lanes an element; plain ones of one float an element.
  at::Tensor lanes(int64_t at, int64_t numbers) const;
  at::Tensor plain(int64_t at, int64_t numbers) const;

 private:
  int64_t count_, size_;
  at::Tensor sums_;
};

}  // namespace lf
