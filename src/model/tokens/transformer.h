// Layers of transformers: C-ViViT's attention and feed-forward, with position information from a
// learned bias over offsets in space and, in time, from ALiBi and a depthwise convolution over the
// volume. Structs of tensors as in layers.h; attention and feed-forward are operations of
// src/kernels.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "kernels/attention.h"
#include "model/layers.h"

namespace lf {

at::Tensor directions(const at::Tensor& x);  // normalised to length 1 over the last dimension

// Of the transformers over grids.
struct GridShape {
  int64_t width, heads, head_width;
  bool raw_keys = false;  // keys and values are of the input without the norm
};

// x + attention by cosine similarity of queries and keys.
struct CosineAttention {
  CosineAttention(const Scope& scope, const GridShape& shape);
  // `bias` [heads, tokens, tokens] is added to the logits; -inf where a token may not attend.
  at::Tensor operator()(const at::Tensor& x, const Sequences& sequences,
                        const at::Tensor& bias) const;
  LayerNorm norm;
  Linear query, key_value, out;
  at::Tensor query_scale, key_scale;
  GridShape shape;

 private:
  at::Tensor of_raw_keys(const at::Tensor& x, const Sequences& sequences,
                         const at::Tensor& bias) const;
};

// x + (norm - linear - GELU gate - linear)(x), 8/3 as wide inside.
struct GatedFeedForward {
  GatedFeedForward(const Scope& scope, int64_t width);
  at::Tensor operator()(const at::Tensor& x) const;
  LayerNorm norm;
  Linear in, out;
};

// x + a causal 3x3x3 depthwise convolution over [B, t, h, w, width]: a position encoding generator.
struct CausalDepthwiseConv {
  CausalDepthwiseConv(const Scope& scope, int64_t width);
  at::Tensor operator()(const at::Tensor& x_BTHWD) const;
  KernelChoice kernels;
  at::Tensor weight, bias;
};

// A bias [heads, h*w, h*w] of the attention within an image: a small network of the signed
// logarithms of two tokens' offset.
struct OffsetBias {
  OffsetBias(const Scope& scope, int64_t width, int64_t heads);
  at::Tensor operator()(int64_t height, int64_t width) const;
  Linear first, second, third;
};

// Position generator (temporal layers only), attention, feed-forward.
struct GridLayer {
  GridLayer(const Scope& scope, const GridShape& shape, bool temporal);
  std::optional<CausalDepthwiseConv> position;
  CosineAttention attention;
  GatedFeedForward feed_forward;
};

// Layers over [B, t, h, w, width]. A spatial transformer attends within each time step; a temporal
// one within each grid cell, to the same and earlier time steps.
struct GridTransformer {
  GridTransformer(const Scope& scope, const GridShape& shape, int64_t layers, bool temporal);
  // `bias` is for a spatial transformer; a temporal one computes its own.
  at::Tensor operator()(at::Tensor x_BTHWD, const at::Tensor& bias = {}) const;
  std::vector<GridLayer> layers;
  LayerNorm norm;
  int64_t heads;
  bool temporal;
};

// ALiBi: [heads, steps, steps] of minus distance times the head's slope, -inf towards the future.
at::Tensor causal_distance_bias(int64_t heads, int64_t steps, const at::TensorOptions& options);

}  // namespace lf
