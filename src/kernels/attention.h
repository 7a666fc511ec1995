// The attention sublayer of a transformer with its norm and residual, as one operation:
//   x + out(attention(query, key, value of norm(x)))
// over sequences that lie anywhere in x: within each image, or along time at each pixel. Queries
// and keys may be normalized to unit length (cosine attention), or rotated by their position
// (rotary).
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "kernels/dispatch.h"

namespace lf {

// softmax(scale q k^T + bias) v over [..., heads, tokens, width], by LibTorch's operations; `bias`
// broadcasts to the logits, undefined for none. Scale 1 / sqrt(width) where none is given.
at::Tensor attend(const KernelChoice& kernels, const at::Tensor& q, const at::Tensor& k,
                  const at::Tensor& v, const at::Tensor& bias, std::optional<double> scale = {});

// x seen as [outer, tokens, inner, width]: a sequence for every outer and inner index. Attention
// within images has inner 1; along time of [B, T, H*W, C], tokens are T and inner is H*W.
struct Sequences {
  int64_t outer, tokens, inner;
};

struct AttentionWeights {
  at::Tensor norm_weight, norm_bias;  // [width]; no weight: rows are normed already; biases may be
                                      // undefined, here and below
  at::Tensor query, query_bias;       // [heads * head width, width]
  at::Tensor key_value, key_value_bias;  // [2 * heads * head width, width]
  at::Tensor out, out_bias;              // [width, heads * head width]
  at::Tensor query_scale, key_scale;     // [head width]; defined: rows are scaled to unit
                                         // length and multiplied by these
  at::Tensor bias;                       // [heads, tokens, tokens], added to the logits
  // Constants, may be undefined: [outer, tokens, tokens], added to the logits of all heads (0 or
  // -inf; every query must see a key), and [tokens, pairs, 2], the cosines and sines by which the
  // first pairs of neighbouring elements of a query and key are rotated.
  at::Tensor mask, rotary;
  int64_t heads = 1;
  double scale = 1;  // of the logits
  double epsilon = 1e-5;
};

constexpr int64_t kMostTokens = 64;  // of a sequence, for the fused form

// `residual` is what the result is added to, if not x itself.
at::Tensor attention(const KernelChoice& kernels, const at::Tensor& x, const Sequences& sequences,
                     const AttentionWeights& weights, const at::Tensor& residual = {});
at::Tensor attention_reference(const KernelChoice& kernels, const at::Tensor& x,
                               const Sequences& sequences, const AttentionWeights& weights,
                               const at::Tensor& residual = {});

}  // namespace lf
