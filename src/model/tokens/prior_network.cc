#include "model/tokens/prior_network.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>

#include <optional>

#include "base/error.h"

namespace lf {

PriorNetwork::Layer::Layer(const Scope& scope, int64_t width)
    : norm1(scope / "norm1", width),
      norm2(scope / "norm2", width),
      qkv(scope / "qkv", width, 3 * width, true, Init::kNormal),
      out(scope / "out", width, width, true, Init::kNormal),
      wide(scope / "wide", width, 4 * width, true, Init::kNormal),
      narrow(scope / "narrow", 4 * width, width, true, Init::kNormal) {}

TokenLayerWeights PriorNetwork::Layer::weights(int64_t heads) const {
  constexpr double kEpsilon = 1e-5;  // LayerNorm's
  return {norm1.weight,    norm1.bias,   qkv.weight(), qkv.bias,      out.weight(),
          out.bias,        norm2.weight, norm2.bias,   wide.weight(), wide.bias,
          narrow.weight(), narrow.bias,  heads,        kEpsilon};
}

PriorNetwork::PriorNetwork(const Scope& scope, const CodePriorConfig& config,
                           const std::array<int64_t, 3>& grid, int64_t codes)
    : kernels_(scope.kernels()),
      grid_(grid),
      codes_(codes),
      heads_(config.heads()),
      width_(config.width()),
      classes_(config.classes()) {
  if (width_ % heads_ != 0) {
    fail(Code::kUsage, "model.code_prior.width=", width_, " is not divisible by heads=", heads_,
         "; give a width that is a multiple of the heads");
  }
  const auto table = [&](const char* name, int64_t rows) {
    return scope.weight(name, {rows, width_}, Init::kNormal);
  };
  class_table_ = table("classes", classes_ + 1);
  code_table_ = table("codes", codes_ + (config.kind() == CodePriorConfig::AUTOREGRESSIVE ? 0 : 1));
  time_table_ = table("time", grid_[0]);
  row_table_ = table("row", grid_[1]);
  column_table_ = table("column", grid_[2]);
  for (int i = 0; i < config.layers(); ++i) layers_.emplace_back(scope / std::to_string(i), width_);
  norm_.emplace_back(scope / "norm", width_);
  head_.emplace_back(scope / "head", width_, codes_, true, Init::kNormal);
}

PriorNetwork::Cache PriorNetwork::cache(int64_t clips) const {
  Cache cache;
  for (size_t i = 0; i < layers_.size(); ++i) {
    for (std::vector<at::Tensor>* side : {&cache.keys, &cache.values}) {
      side->push_back(at::empty({clips, heads_, positions() + 1, width_ / heads_},
                                code_table_.options().requires_grad(false)));
    }
  }
  return cache;
}

at::Tensor PriorNetwork::begin(const at::Tensor& labels_B) const {
  return at::embedding(class_table_, labels_B.masked_fill(labels_B < 0, classes_)).unsqueeze(1);
}

at::Tensor PriorNetwork::embed(const at::Tensor& ids, int64_t first) const {
  const at::Tensor position = at::arange(first, first + ids.size(1), ids.options());
  return at::embedding(code_table_, ids) +
         at::embedding(time_table_, position.floor_divide(grid_[1] * grid_[2])) +
         at::embedding(row_table_, position.floor_divide(grid_[2]).remainder(grid_[1])) +
         at::embedding(column_table_, position.remainder(grid_[2]));
}

at::Tensor PriorNetwork::logits(at::Tensor tokens, const at::Tensor& mask, Cache* cache,
                                bool append) const {
  const int64_t count = tokens.size(1);
  at::Tensor h = std::move(tokens);
  for (size_t i = 0; i < layers_.size(); ++i) {
    std::optional<TokenCache> cached;
    if (cache != nullptr) cached = {cache->keys[i], cache->values[i], cache->length};
    h = token_layer(kernels_, h, layers_[i].weights(heads_), mask, cached ? &*cached : nullptr);
  }
  if (cache != nullptr && append) cache->length += count;
  return head_[0](norm_[0](h)).to(at::kFloat);
}

at::Tensor PriorNetwork::causal_mask(int64_t tokens) const {
  const at::Tensor position = at::arange(tokens, code_table_.options().requires_grad(false));
  return position.unsqueeze(1) >= position;
}

at::Tensor PriorNetwork::frame_mask(int64_t tokens) const {
  const at::TensorOptions integers = code_table_.options().dtype(at::kLong).requires_grad(false);
  // The class counts as a frame before all others.
  const at::Tensor frame = (at::arange(tokens, integers) - 1).div(grid_[1] * grid_[2], "floor");
  return frame.unsqueeze(1) >= frame;
}

}  // namespace lf
