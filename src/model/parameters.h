// The named tensors of a network, in order of construction, and their keyed initial values: a
// weight depends on the seed and its name, not on construction order, rank or thread count. It also
// knows which weights are trained: frozen ones take no gradient, and linear maps may have low-rank
// adapters. Layers are plain structs that hold tensors and call ATen.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <vector>

#include "base/named_tensor.h"
#include "kernels/dispatch.h"

namespace lf {

class TrainConfig;

// The distribution of initial values.
enum class Init {
  kZeros,
  kOnes,
  kFanIn,   // uniform in +-1/sqrt(fan in), torch's default for convolutions and linear layers
  kNormal,  // N(0, 0.02^2)
};

// Which weights are trained (train.freeze, train.lora). Patterns are those of base/glob.h.
struct Tuning {
  std::vector<std::string> freeze;  // what matches one of these is not
  int64_t rank = 0;                 // of adapters; 0: none, and all others are trained
  double scale = 1;                 // alpha / rank
  std::vector<std::string> full;    // with adapters: also what matches one of these

  static Tuning of(const TrainConfig& config);
  bool trains(const std::string& name) const;
};

// A low-rank adapter: what is added to a weight W [out, in] is scale B A.
struct Adapter {
  at::Tensor a, b;  // [rank, in], [out, rank]
  double scale = 1;
};
// W + scale B A, in the shape of W, which may end in [1, 1].
at::Tensor adapted(const at::Tensor& weight, const Adapter& adapter);
// The ends of its tensors' names where W is NAME.weight: NAME.lora_A.weight, NAME.lora_B.weight.
constexpr const char* kAdapterA = "lora_A.weight";
constexpr const char* kAdapterB = "lora_B.weight";

class ParameterTable {
 public:
  // `kernels`: what the network's operations run as.
  ParameterTable(uint64_t seed, at::Device device, const KernelChoice& kernels, Tuning tuning = {})
      : seed_(seed), device_(device), kernels_(kernels), tuning_(std::move(tuning)) {}
  ParameterTable(const TrainConfig& config, at::Device device);

  const KernelChoice& kernels() const { return kernels_; }

  // A tensor that gradients move unless it is frozen. `fan_in` is for kFanIn; 0: from the shape
  // [out, in, ...].
  at::Tensor weight(const std::string& name, at::IntArrayRef shape, Init init, int64_t fan_in = 0);
  // That of the linear map `prefix`, B being 0; none where there are no adapters, or where it would
  // have as many elements as the map.
  std::optional<Adapter> adapter(const std::string& prefix, int64_t in, int64_t out);
  // State that is saved and loaded, but not trained.
  at::Tensor buffer(const std::string& name, const at::Tensor& value);
  at::Tensor buffer(const std::string& name, at::IntArrayRef shape, Init init);
  // A buffer that never changes and that publications count among a network's parameters.
  at::Tensor constant(const std::string& name, const at::Tensor& value);

  const std::vector<NamedTensor>& weights() const { return weights_; }
  const std::vector<NamedTensor>& buffers() const { return buffers_; }
  const std::vector<NamedTensor>& trained() const { return trained_; }      // of the weights
  const std::vector<NamedTensor>& frozen() const { return frozen_; }        // the others
  const std::vector<std::string>& constants() const { return constants_; }  // of the buffers
  const Tuning& tuning() const { return tuning_; }
  int64_t count() const;  // elements of all weights and constants

 private:
  uint64_t seed_;
  at::Device device_;
  KernelChoice kernels_;
  Tuning tuning_;
  std::vector<NamedTensor> weights_, buffers_, trained_, frozen_;
  std::vector<std::string> constants_;
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
  std::optional<Adapter> adapter(int64_t in, int64_t out) const {
    return table_->adapter(prefix_, in, out);
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
