// The layers of transformers: the attention and feed-forward of C-ViViT, which knows where a token
// lies by a learned bias over offsets in space and, in time, by ALiBi and a depthwise convolution
// over the volume. Structs of tensors, as layers.h; the halves of layers are operations of
// src/kernels. Called by cvivit.cc and prior_network.cc.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "kernels/attention.h"
#include "model/layers.h"

namespace lf {

at::Tensor directions(const at::Tensor& x);  // rows (the last dimension) of length one

// x and attention whose queries and keys are compared by direction.
struct CosineAttention {
  CosineAttention(const Scope& scope, int64_t width, int64_t heads, int64_t head_width);
  // `bias` is added to the logits: [heads, tokens, tokens], -inf where a token may not look.
  at::Tensor operator()(const at::Tensor& x, const Sequences& sequences,
                        const at::Tensor& bias) const;
  LayerNorm norm;
  Linear query, key_value, out;
  at::Tensor query_scale, key_scale;
  int64_t heads, head_width;
};

// x and norm - linear - GELU gate - linear of it, 8/3 as wide inside.
struct GatedFeedForward {
  GatedFeedForward(const Scope& scope, int64_t width);
  at::Tensor operator()(const at::Tensor& x) const;
  LayerNorm norm;
  Linear in, out;
};

// x and a 3x3x3 convolution of every channel by itself over [B, t, h, w, width] that sees no later
// time step: a position generator.
struct CausalDepthwiseConv {
  CausalDepthwiseConv(const Scope& scope, int64_t width);
  at::Tensor operator()(const at::Tensor& x_BTHWD) const;
  KernelChoice kernels;
  at::Tensor weight, bias;
};

// A bias [heads, h*w, h*w] for the attention of an image's tokens: a small network of the signed
// logarithms of two tokens' offset.
struct OffsetBias {
  OffsetBias(const Scope& scope, int64_t width, int64_t heads);
  at::Tensor operator()(int64_t height, int64_t width) const;
  Linear first, second, third;
};

// A layer's two halves, after the position generator if there is one.
struct GridLayer {
  GridLayer(const Scope& scope, int64_t width, int64_t heads, int64_t head_width, bool temporal);
  std::optional<CausalDepthwiseConv> position;
  CosineAttention attention;
  GatedFeedForward feed_forward;
};

// Layers over [B, t, h, w, width]: a spatial transformer attends within each time step, a temporal
// one within each place, to the same and earlier steps only.
struct GridTransformer {
  GridTransformer(const Scope& scope, int64_t width, int64_t heads, int64_t head_width,
                  int64_t layers, bool temporal);
  // `bias`: a spatial transformer's; a temporal one has its own.
  at::Tensor operator()(at::Tensor x_BTHWD, const at::Tensor& bias = {}) const;
  std::vector<GridLayer> layers;
  LayerNorm norm;
  int64_t heads;
  bool temporal;
};

// ALiBi: [heads, steps, steps] of minus distance times the head's slope, -inf towards the future.
at::Tensor causal_distance_bias(int64_t heads, int64_t steps, const at::TensorOptions& options);

}  // namespace lf
