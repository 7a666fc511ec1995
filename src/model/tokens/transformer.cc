#include "model/tokens/transformer.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/leaky_relu.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/stack.h>

#include <limits>

#include "kernels/depthwise.h"
#include "kernels/feed_forward.h"

namespace lf {

static constexpr double kScale = 8;  // of cosines as logits

CosineAttention::CosineAttention(const Scope& scope, const GridShape& shape_)
    : norm(scope / "norm", shape_.width, false),
      query(scope / "query", shape_.width, shape_.heads * shape_.head_width, false),
      key_value(scope / "key_value", shape_.width, 2 * shape_.heads * shape_.head_width, false),
      out(scope / "out", shape_.heads * shape_.head_width, shape_.width, false),
      query_scale(scope.weight("query_scale", {shape_.head_width}, Init::kOnes)),
      key_scale(scope.weight("key_scale", {shape_.head_width}, Init::kOnes)),
      shape(shape_) {}

at::Tensor directions(const at::Tensor& x) {
  return x / at::linalg_vector_norm(x, 2, at::IntArrayRef{-1}, true).clamp_min(1e-12);
}

at::Tensor CosineAttention::operator()(const at::Tensor& x, const Sequences& sequences,
                                       const at::Tensor& bias) const {
  if (shape.raw_keys) return of_raw_keys(x, sequences, bias);
  AttentionWeights weights;
  weights.norm_weight = norm.weight;
  weights.query = query.weight();
  weights.key_value = key_value.weight();
  weights.out = out.weight();
  weights.query_scale = query_scale;
  weights.key_scale = key_scale;
  weights.bias = bias;
  weights.heads = shape.heads;
  weights.scale = kScale;
  return lf::attention(query.kernels, x, sequences, weights);
}

at::Tensor CosineAttention::of_raw_keys(const at::Tensor& x, const Sequences& sequences,
                                        const at::Tensor& bias) const {
  const at::Tensor rows =
      x.reshape({sequences.outer, sequences.tokens, sequences.inner, -1}).transpose(1, 2);
  const auto by_head = [&](const at::Tensor& t) {  // [outer, inner, heads, tokens, head width]
    return t.unflatten(-1, {shape.heads, -1}).transpose(-2, -3);
  };
  const std::vector<at::Tensor> parts = key_value(rows).chunk(2, -1);
  const at::Tensor mixed =
      attend(query.kernels, directions(by_head(query(norm(rows)))) * query_scale,
             directions(by_head(parts[0])) * key_scale, by_head(parts[1]), bias, kScale);
  return x + out(mixed.transpose(-2, -3).flatten(-2)).transpose(1, 2).reshape(x.sizes());
}

GatedFeedForward::GatedFeedForward(const Scope& scope, int64_t width)
    : norm(scope / "norm", width),
      in(scope / "in", width, 2 * (8 * width / 3), false),
      out(scope / "out", 8 * width / 3, width, false) {}

at::Tensor GatedFeedForward::operator()(const at::Tensor& x) const {
  return feed_forward(in.kernels, x,
                      {norm.weight, norm.bias, in.weight(), {}, out.weight(), {}, /*gated=*/true});
}

CausalDepthwiseConv::CausalDepthwiseConv(const Scope& scope, int64_t width)
    : kernels(scope.kernels()),
      weight(scope.weight("weight", {width, 1, 3, 3, 3}, Init::kFanIn)),
      bias(scope.weight("bias", {width}, Init::kFanIn, 27)) {}

at::Tensor CausalDepthwiseConv::operator()(const at::Tensor& x_BTHWD) const {
  return causal_depthwise(kernels, x_BTHWD, weight, bias);
}

OffsetBias::OffsetBias(const Scope& scope, int64_t width, int64_t heads)
    : first(scope / "first", 2, width),
      second(scope / "second", width, width),
      third(scope / "third", width, heads) {}

at::Tensor OffsetBias::operator()(int64_t height, int64_t width) const {
  // The network runs once per offset, not once per pair.
  const at::TensorOptions options = first.weight.options().requires_grad(false);
  const at::Tensor rows = at::arange(1 - height, height, options),
                   columns = at::arange(1 - width, width, options);
  const at::Tensor offsets = at::stack(
      {rows.unsqueeze(1).expand({-1, columns.size(0)}).flatten(), columns.repeat({rows.size(0)})},
      1);
  const at::Tensor scaled = offsets.sign() * (offsets.abs() + 1).log();
  const at::Tensor by_offset =
      third(at::leaky_relu(second(at::leaky_relu(first(scaled), 0.1)), 0.1));
  const at::Tensor cell = at::arange(height * width, options.dtype(at::kLong));
  const at::Tensor row = cell.floor_divide(width), column = cell.remainder(width);
  const at::Tensor which = (row.unsqueeze(1) - row + height - 1) * columns.size(0) +
                           (column.unsqueeze(1) - column + width - 1);
  return by_offset.index_select(0, which.flatten())
      .view({height * width, height * width, -1})
      .permute({2, 0, 1});
}

GridLayer::GridLayer(const Scope& scope, const GridShape& shape, bool temporal)
    : attention(scope / "attention", shape), feed_forward(scope / "feed_forward", shape.width) {
  if (temporal) position.emplace(scope / "position", shape.width);
}

GridTransformer::GridTransformer(const Scope& scope, const GridShape& shape, int64_t count,
                                 bool temporal_)
    : norm(scope / "norm", shape.width, false), heads(shape.heads), temporal(temporal_) {
  for (int64_t i = 0; i < count; ++i) {
    layers.emplace_back(scope / std::to_string(i), shape, temporal);
  }
}

at::Tensor GridTransformer::operator()(at::Tensor x_BTHWD, const at::Tensor& bias) const {
  const int64_t clips = x_BTHWD.size(0), steps = x_BTHWD.size(1);
  const int64_t cells = x_BTHWD.size(2) * x_BTHWD.size(3);
  const Sequences sequences =
      temporal ? Sequences{clips, steps, cells} : Sequences{clips * steps, cells, 1};
  const at::Tensor added =
      temporal ? causal_distance_bias(heads, steps, x_BTHWD.options().dtype(at::kFloat)) : bias;
  at::Tensor x = std::move(x_BTHWD);
  for (const GridLayer& layer : layers) {
    if (layer.position) x = (*layer.position)(x);
    x = layer.feed_forward(layer.attention(x, sequences, added));
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
