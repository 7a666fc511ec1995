#include "model/parameters.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <cmath>

#include "base/error.h"
#include "base/hash.h"
#include "base/random.h"

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

at::Tensor ParameterTable::weight(const std::string& name, at::IntArrayRef shape, Init init,
                                  int64_t fan_in) {
  for (const NamedTensor& other : weights_)
    LF_CHECK(other.name != name, "two weights named ", name);
  at::Tensor value = initial_value(seed_, name, shape, init, fan_in).to(device_);
  // Convolutions run in channels-last memory: a weight stored so needs no reordering in each step,
  // and its gradient has the layout of its bucket. (clone(): contiguous() ignores 1x1 kernels.)
  if (value.dim() == 4) value = value.clone(at::MemoryFormat::ChannelsLast);
  value.set_requires_grad(true);
  weights_.push_back({name, value});
  return value;
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
  constants_ += value.numel();
  return buffer(name, value);
}

int64_t ParameterTable::count() const {
  int64_t elements = constants_;
  for (const NamedTensor& weight : weights_) elements += weight.tensor.numel();
  return elements;
}

}  // namespace lf
