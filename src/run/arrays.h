// Tensors from NumPy files and back. What a foreign file says is checked before memory is taken.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "base/named_tensor.h"

namespace lf {

// The whole array of a .npy file, in its element type. Damage, and types other than little-endian
// integers and floats, are Code::kData.
at::Tensor load_npy(const std::string& path);

// All arrays of a .npz archive by name, and an archive of arrays, which appears whole or not at
// all.
TensorsByName load_npz(const std::string& path);
void save_npz(const TensorsByName& arrays, const std::string& path);

}  // namespace lf
