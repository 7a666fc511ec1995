// The named tensors of a network, in order of construction, and their keyed initial values: a
// weight depends on the seed and its name, not on construction order, rank or thread count. Layers
// are plain structs that hold tensors and call ATen.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "base/named_tensor.h"
#include "kernels/dispatch.h"

namespace lf {

// The distribution of initial values.
enum class Init {
  kZeros,
  kOnes,
  kFanIn,   // uniform in +-1/sqrt(fan in), torch's default for convolutions and linear layers
  kNormal,  // N(0, 0.02^2)
};

class ParameterTable {
 public:
  // `kernels`: what the network's operations run as.
  ParameterTable(uint64_t seed, at::Device device, const KernelChoice& kernels)
      : seed_(seed), device_(device), kernels_(kernels) {}

  const KernelChoice& kernels() const { return kernels_; }

  // A trainable tensor. `fan_in` is for kFanIn; 0: from the shape [out, in, ...].
  at::Tensor weight(const std::string& name, at::IntArrayRef shape, Init init, int64_t fan_in = 0);
  // State that is saved and loaded, but not trained.
  at::Tensor buffer(const std::string& name, const at::Tensor& value);
  at::Tensor buffer(const std::string& name, at::IntArrayRef shape, Init init);
  // A buffer that never changes and that publications count among a network's parameters.
  at::Tensor constant(const std::string& name, const at::Tensor& value);

  const std::vector<NamedTensor>& weights() const { return weights_; }
  const std::vector<NamedTensor>& buffers() const { return buffers_; }
  int64_t count() const;  // elements of all weights and constants

 private:
  uint64_t seed_;
  at::Device device_;
  KernelChoice kernels_;
  std::vector<NamedTensor> weights_, buffers_;
  int64_t constants_ = 0;
};

// A prefix of names in the table: Scope(table, "decoder") / "conv1" makes decoder.conv1.weight.
class Scope {
 public:
  Scope(ParameterTable& table, std::string prefix = "")
      : table_(&table), prefix_(std::move(prefix)) {}
  Scope operator/(const std::string& part) const {
    return {*table_, prefix_.empty() ? part : prefix_ + "." + part};
  }
  at::Tensor weight(const std::string& name, at::IntArrayRef shape, Init init,
                    int64_t fan_in = 0) const {
    return table_->weight((*this / name).prefix_, shape, init, fan_in);
  }
  at::Tensor buffer(const std::string& name, const at::Tensor& value) const {
    return table_->buffer((*this / name).prefix_, value);
  }
  at::Tensor buffer(const std::string& name, at::IntArrayRef shape, Init init) const {
    return table_->buffer((*this / name).prefix_, shape, init);
  }
  at::Tensor constant(const std::string& name, const at::Tensor& value) const {
    return table_->constant((*this / name).prefix_, value);
  }
  const std::string& prefix() const { return prefix_; }
  const KernelChoice& kernels() const { return table_->kernels(); }
  // The weights under this prefix so far, for recompute().
  std::vector<at::Tensor> weights() const;

 private:
  ParameterTable* table_;
  std::string prefix_;
};

}  // namespace lf
