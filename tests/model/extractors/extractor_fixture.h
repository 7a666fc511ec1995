// Shared by the extractors' tests: fixture files, relative differences, bytes as clips.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/linalg_vector_norm.h>

#include "checkpoint/tensors.h"
#include "tests/error_of.h"
#include "tests/model/extractors/formula_weights_fixture.h"

namespace lf {

inline TensorsByName fixture(const std::string& name) {
  return by_name(load_tensor_file(real_file_system(), str(LF_FIXTURES, "/extractors/", name)));
}

inline std::string layout_file(const std::string& name) {
  return str(LF_FIXTURES, "/extractors/", name, ".layout");
}

// The largest relative difference of a row from its reference, by norms.
inline double row_error(const at::Tensor& made, const at::Tensor& reference) {
  LF_CHECK(made.sizes() == reference.sizes(), "other shapes");
  const at::Tensor difference =
      at::linalg_vector_norm((made - reference).to(at::kDouble).flatten(1), 2, at::IntArrayRef{1});
  const at::Tensor size =
      at::linalg_vector_norm(reference.to(at::kDouble).flatten(1), 2, at::IntArrayRef{1});
  return (difference / size).max().item<double>();
}

inline at::Tensor as_clips(const at::Tensor& images_NHWC) { return images_NHWC.unsqueeze(1); }

}  // namespace lf
