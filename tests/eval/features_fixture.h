// Features drawn by a key, for the tests of this folder and of tests/mpi.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>

#include "base/random.h"
#include "eval/moments.h"

namespace lf {

// [n, dim] standard normal doubles.
inline at::Tensor normal_rows(int64_t n, int64_t dim, uint64_t seed) {
  at::Tensor rows = at::empty({n, dim}, at::kFloat);
  normal({seed, Purpose::kSampling, 0, 0}, 0, static_cast<size_t>(rows.numel()),
         rows.mutable_data_ptr<float>());
  return rows.to(at::kDouble);
}

// The same, mixed so that every two columns are correlated.
inline at::Tensor mixed_rows(int64_t n, int64_t dim, uint64_t seed) {
  return at::matmul(normal_rows(n, dim, seed), normal_rows(dim, dim, 1)) + 0.5;
}

// Of all the rows at once.
inline Moments of(const at::Tensor& rows) {
  Moments moments;
  moments.add(rows);
  return moments;
}

}  // namespace lf
