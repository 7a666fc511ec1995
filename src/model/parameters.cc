#include "model/parameters.h"

#include <ATen/autocast_mode.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/glob.h"
#include "base/hash.h"
#include "base/random.h"
#include "run.pb.h"

namespace lf {

static at::Tensor initial_value(uint64_t seed, const std::string& name, at::IntArrayRef shape,
                                Init init, int64_t fan_in) {
  if (init == Init::kZeros) return at::zeros(shape, at::kFloat);
  if (init == Init::kOnes) return at::ones(shape, at::kFloat);
  at::Tensor value = at::empty(shape, at::kFloat);
  const auto count = static_cast<size_t>(value.numel());
  auto* data = value.mutable_data_ptr<float>();
  const Stream stream{seed, Purpose::kInitialWeights, fnv1a(name), 0};
  if (init == Init::kNormal) {
    normal(stream, 0, count, data);
    for (size_t i = 0; i < count; ++i) data[i] *= 0.02F;
    return value;
  }
  if (fan_in == 0) {
    fan_in = 1;
    for (size_t d = 1; d < shape.size(); ++d) fan_in *= shape[d];
  }
  const float bound = 1.0F / std::sqrt(static_cast<float>(fan_in));
  uniform(stream, 0, count, data);
  for (size_t i = 0; i < count; ++i) data[i] = (2 * data[i] - 1) * bound;
  return value;
}

static bool matches_one(const std::vector<std::string>& patterns, const std::string& name) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [&](const std::string& pattern) { return matches_glob(pattern, name); });
}

Tuning Tuning::of(const TrainConfig& config) {
  const LoraConfig& lora = config.lora();
  Tuning tuning;
  tuning.freeze.assign(config.freeze().begin(), config.freeze().end());
  tuning.rank = lora.rank();
  if (tuning.rank == 0) return tuning;
  if (lora.alpha() > 0) tuning.scale = lora.alpha() / static_cast<double>(tuning.rank);
  tuning.full.assign(lora.full().begin(), lora.full().end());
  return tuning;
}

bool Tuning::trains(const std::string& name) const {
  if (matches_one(freeze, name)) return false;
  return rank == 0 || name.ends_with(kAdapterA) || name.ends_with(kAdapterB) ||
         matches_one(full, name);
}

at::Tensor adapted(const at::Tensor& weight, const Adapter& adapter) {
  // In fp32 under autocast too: what is added may be small beside W.
  const c10::impl::ExcludeDispatchKeyGuard single(c10::autocast_dispatch_keyset);
  const at::Tensor rows = weight.flatten(1);
  return at::addmm(rows, adapter.b, adapter.a, 1, adapter.scale).view(weight.sizes());
}

ParameterTable::ParameterTable(const TrainConfig& config, at::Device device)
    : ParameterTable(config.seed(), device, kernel_choice(config), Tuning::of(config)) {}

at::Tensor ParameterTable::weight(const std::string& name, at::IntArrayRef shape, Init init,
                                  int64_t fan_in) {
  for (const NamedTensor& other : weights_)
    LF_CHECK(other.name != name, "two weights named ", name);
  at::Tensor value = initial_value(seed_, name, shape, init, fan_in).to(device_);
  // Convolutions run in channels-last memory: a weight stored so needs no reordering in each step,
  // and its gradient has the layout of its bucket. (clone(): contiguous() ignores 1x1 kernels.)
  if (value.dim() == 4) value = value.clone(at::MemoryFormat::ChannelsLast);
  const bool trained = tuning_.trains(name);
  value.set_requires_grad(trained);
  weights_.push_back({name, value});
  (trained ? trained_ : frozen_).push_back({name, value});
  return value;
}

std::optional<Adapter> ParameterTable::adapter(const std::string& prefix, int64_t in, int64_t out) {
  const int64_t rank = tuning_.rank;
  if (rank == 0 || rank * (in + out) >= in * out) return std::nullopt;
  // What is trained in full needs none, and where adapters are frozen B would stay 0.
  if (tuning_.trains(prefix + ".weight") || !tuning_.trains(prefix + "." + kAdapterA)) {
    return std::nullopt;
  }
  Adapter made;
  made.a = weight(prefix + "." + kAdapterA, {rank, in}, Init::kFanIn);
  made.b = weight(prefix + "." + kAdapterB, {out, rank}, Init::kZeros);
  made.scale = tuning_.scale;
  return made;
}

at::Tensor ParameterTable::buffer(const std::string& name, const at::Tensor& value) {
  buffers_.push_back({name, value.to(device_)});
  return buffers_.back().tensor;
}

std::vector<at::Tensor> Scope::weights() const {
  std::vector<at::Tensor> found;
  for (const NamedTensor& weight : table_->weights()) {
    if (weight.name.starts_with(prefix_ + ".")) found.push_back(weight.tensor);
  }
  return found;
}

at::Tensor ParameterTable::buffer(const std::string& name, at::IntArrayRef shape, Init init) {
  return buffer(name, initial_value(seed_, name, shape, init, 0));
}

at::Tensor ParameterTable::constant(const std::string& name, const at::Tensor& value) {
  constants_.push_back(name);
  return buffer(name, value);
}

int64_t ParameterTable::count() const {
  int64_t elements = 0;
  for (const NamedTensor& weight : weights_) elements += weight.tensor.numel();
  for (const NamedTensor& buffer : buffers_) {
    if (std::find(constants_.begin(), constants_.end(), buffer.name) != constants_.end()) {
      elements += buffer.tensor.numel();
    }
  }
  return elements;
}

}  // namespace lf
