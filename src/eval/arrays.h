// Tensors from NumPy files and back: features and images in .npy, statistics of features in .npz as
// pytorch-fid keeps them. What a foreign file says is checked before memory is taken. Called by
// evaluate's commands, and by the caches of chunks and of reference statistics.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "base/named_tensor.h"
#include "eval/moments.h"

namespace lf {

// The whole array, in the element type of the file. Damage, and types that are no little-endian
// numbers, are Code::kData.
at::Tensor load_npy(const std::string& path);

// [n, d] features as doubles; a single dimension, or numbers that are not finite, are Code::kData.
at::Tensor load_features(const std::string& path);

// All arrays of an archive by name, and an archive of arrays, which appears whole or not at all.
TensorsByName load_npz(const std::string& path);
void save_npz(const TensorsByName& arrays, const std::string& path);

// Mean and covariance in a file of pytorch-fid's layout: mu [d], sigma [d, d], and, in ours, n.
struct Statistics {
  Moments moments;
  int64_t n = 0;  // samples they were made from; 0: the file does not say
};
Statistics load_statistics(const std::string& path);
void save_statistics(const Moments& moments, const std::string& path);

}  // namespace lf
