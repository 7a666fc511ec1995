#include "model/transformer.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/leaky_relu.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/stack.h>

#include <limits>

namespace lf {

CosineAttention::CosineAttention(const Scope& scope, int64_t width, int64_t heads_,
                                 int64_t head_width_)
    : norm(scope / "norm", width, false),
      query(scope / "query", width, heads_ * head_width_, false),
      key_value(scope / "key_value", width, 2 * heads_ * head_width_, false),
      out(scope / "out", heads_ * head_width_, width, false),
      query_scale(scope.weight("query_scale", {head_width_}, Init::kOnes)),
      key_scale(scope.weight("key_scale", {head_width_}, Init::kOnes)),
      heads(heads_),
      head_width(head_width_) {}

at::Tensor directions(const at::Tensor& x) {
  return x / at::linalg_vector_norm(x, 2, at::IntArrayRef{-1}, true).clamp_min(1e-12);
}

at::Tensor CosineAttention::operator()(const at::Tensor& x, const at::Tensor& bias) const {
  constexpr double kScale = 8;
  const auto split = [&](const at::Tensor& flat) {
    return flat.view({x.size(0), x.size(1), heads, head_width}).transpose(1, 2);
  };
  const at::Tensor h = norm(x);
  const std::vector<at::Tensor> kv = key_value(h).chunk(2, -1);
  const at::Tensor v = split(kv[1]);
  const at::Tensor q = (directions(split(query(h))) * query_scale).to(v.scalar_type());
  const at::Tensor k = (directions(split(kv[0])) * key_scale).to(v.scalar_type());
  const at::Tensor mixed = at::scaled_dot_product_attention(
      q, k, v, bias.to(v.scalar_type()).unsqueeze(0), 0.0, false, kScale);
  return out(mixed.transpose(1, 2).flatten(2));
}

GatedFeedForward::GatedFeedForward(const Scope& scope, int64_t width)
    : norm(scope / "norm", width),
      in(scope / "in", width, 2 * (8 * width / 3), false),
      out(scope / "out", 8 * width / 3, width, false) {}

at::Tensor GatedFeedForward::operator()(const at::Tensor& x) const {
  const std::vector<at::Tensor> halves = in(norm(x)).chunk(2, -1);
  return out(halves[0] * at::gelu(halves[1]));
}

CausalDepthwiseConv::CausalDepthwiseConv(const Scope& scope, int64_t width)
    : weight(scope.weight("weight", {width, 1, 3, 3, 3}, Init::kFanIn)),
      bias(scope.weight("bias", {width}, Init::kFanIn, 27)) {}

at::Tensor CausalDepthwiseConv::operator()(const at::Tensor& x_BTHWD) const {
  const int64_t steps = x_BTHWD.size(1), channels = x_BTHWD.size(4);
  at::Tensor sum;
  for (int64_t back = 0; back < 3 && back < steps; ++back) {
    // What lies `back` steps before the steps from `back` on.
    const at::Tensor images = x_BTHWD.slice(1, 0, steps - back).flatten(0, 1).permute({0, 3, 1, 2});
    const at::Tensor seen = at::conv2d(images, weight.select(2, 2 - back), {}, 1, 1, 1, channels)
                                .permute({0, 2, 3, 1})
                                .unflatten(0, {x_BTHWD.size(0), steps - back});
    sum = back == 0 ? seen + bias : at::cat({sum.slice(1, 0, back), sum.slice(1, back) + seen}, 1);
  }
  return sum;
}

OffsetBias::OffsetBias(const Scope& scope, int64_t width, int64_t heads)
    : first(scope / "first", 2, width),
      second(scope / "second", width, width),
      third(scope / "third", width, heads) {}

at::Tensor OffsetBias::operator()(int64_t height, int64_t width) const {
  // The network runs once an offset, not once a pair.
  const at::TensorOptions options = first.weight.options().requires_grad(false);
  const at::Tensor rows = at::arange(1 - height, height, options),
                   columns = at::arange(1 - width, width, options);
  const at::Tensor offsets = at::stack(
      {rows.unsqueeze(1).expand({-1, columns.size(0)}).flatten(), columns.repeat({rows.size(0)})},
      1);
  const at::Tensor scaled = offsets.sign() * (offsets.abs() + 1).log();
  const at::Tensor by_offset =
      third(at::leaky_relu(second(at::leaky_relu(first(scaled), 0.1)), 0.1));
  const at::Tensor place = at::arange(height * width, options.dtype(at::kLong));
  const at::Tensor row = place.floor_divide(width), column = place.remainder(width);
  const at::Tensor which = (row.unsqueeze(1) - row + height - 1) * columns.size(0) +
                           (column.unsqueeze(1) - column + width - 1);
  return by_offset.index_select(0, which.flatten())
      .view({height * width, height * width, -1})
      .permute({2, 0, 1});
}

GridLayer::GridLayer(const Scope& scope, int64_t width, int64_t heads, int64_t head_width,
                     bool temporal)
    : attention(scope / "attention", width, heads, head_width),
      feed_forward(scope / "feed_forward", width) {
  if (temporal) position.emplace(scope / "position", width);
}

GridTransformer::GridTransformer(const Scope& scope, int64_t width, int64_t heads_,
                                 int64_t head_width, int64_t count, bool temporal_)
    : norm(scope / "norm", width, false), heads(heads_), temporal(temporal_) {
  for (int64_t i = 0; i < count; ++i) {
    layers.emplace_back(scope / std::to_string(i), width, heads, head_width, temporal);
  }
}

at::Tensor GridTransformer::operator()(at::Tensor x_BTHWD, const at::Tensor& bias) const {
  const int64_t steps = x_BTHWD.size(1), height = x_BTHWD.size(2), width = x_BTHWD.size(3);
  if (!temporal) {
    at::Tensor x = x_BTHWD.flatten(2, 3).flatten(0, 1);
    for (const GridLayer& layer : layers) {
      x = x + layer.attention(x, bias);
      x = x + layer.feed_forward(x);
    }
    return norm(x).view(x_BTHWD.sizes());
  }
  const at::Tensor distances =
      causal_distance_bias(heads, steps, x_BTHWD.options().dtype(at::kFloat));
  at::Tensor x = std::move(x_BTHWD);
  for (const GridLayer& layer : layers) {
    x = x + (*layer.position)(x);
    at::Tensor places = x.permute({0, 2, 3, 1, 4}).flatten(0, 2);
    places = places + layer.attention(places, distances);
    places = places + layer.feed_forward(places);
    x = places.view({x.size(0), height, width, steps, -1}).permute({0, 3, 1, 2, 4});
  }
  return norm(x);
}

at::Tensor causal_distance_bias(int64_t heads, int64_t steps, const at::TensorOptions& options) {
  const at::Tensor time = at::arange(steps, options);
  const at::Tensor back = time.unsqueeze(1) - time;  // [query, key]
  const at::Tensor slopes =
      at::pow(2.0, at::arange(1, heads + 1, options) * (-8.0 / static_cast<double>(heads)));
  return (-back * slopes.view({heads, 1, 1}))
      .masked_fill(back < 0, -std::numeric_limits<float>::infinity());
}

}  // namespace lf
