// Weights computed by a formula from their names, as in tools/fixtures/formula_weights.py: whole
// networks for comparison without stored weights.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/named_tensor.h"
#include "model/extractors/weights.h"

namespace lf {

inline at::Tensor formula_tensor(const std::string& name, double low, double high,
                                 at::IntArrayRef shape) {
  uint64_t key = 0xcbf29ce484222325;
  for (const char c : name) key = (key ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  at::Tensor out = at::empty(shape, at::kFloat);
  auto* data = out.mutable_data_ptr<float>();
  for (int64_t i = 0; i < out.numel(); ++i) {
    uint64_t z = key + (static_cast<uint64_t>(i) + 1) * 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    z ^= z >> 31;
    const double u = static_cast<double>(z >> 40) / 16777216.0;
    data[i] = static_cast<float>(low + (high - low) * u);
  }
  return out;
}

// The tensors of a layout file, `NAME LOW HIGH EXTENT...` a line.
inline TensorsByName formula_tensors(const std::string& layout) {
  std::ifstream lines(layout);
  LF_CHECK(lines.good(), "cannot read ", layout);
  TensorsByName tensors;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string name;
    double low = 0, high = 0;
    words >> name >> low >> high;
    std::vector<int64_t> shape;
    for (int64_t extent = 0; words >> extent;) shape.push_back(extent);
    tensors.emplace(name, formula_tensor(name, low, high, shape));
  }
  return tensors;
}

inline Weights weights_of(TensorsByName tensors, std::map<std::string, std::string> metadata = {}) {
  return {"weights.safetensors", "0123456789abcdef", std::move(metadata), std::move(tensors),
          at::kCPU};
}

}  // namespace lf
