// Features, and statistics of them, in NumPy's files: features in .npy, statistics in .npz as
// pytorch-fid keeps them.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "eval/moments.h"

namespace lf {

// [n, d] features as doubles. Code::kData unless there are two dimensions and all values are
// finite.
at::Tensor load_features(const std::string& path);

// Mean and covariance in pytorch-fid's layout: mu [d], sigma [d, d], and, in ours, n.
struct Statistics {
  Moments moments;
  int64_t n = 0;  // samples they were made from; 0: the file does not say
};
Statistics load_statistics(const std::string& path);
void save_statistics(const Moments& moments, const std::string& path);

}  // namespace lf
