// Linear attention within each frame with its norm and residual, as one operation:
//   x + out(scale * softmax(query) (softmax over pixels(key)^T value)) + bias, of norm(x);
// a query's softmax is over its own features.
#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/dispatch.h"

namespace lf {

struct LinearAttentionWeights {
  at::Tensor norm_weight, norm_bias;  // [C]; biases may be undefined
  at::Tensor query_key_value;         // [3 * heads * head width, C]
  at::Tensor out, out_bias;           // [C, heads * head width]
  int64_t heads = 1;
  double scale = 1;
  double epsilon = 1e-5;
};

// Over x_NPC: frames, places, channels, which is what channels-last images are in memory.
at::Tensor linear_attention(const KernelChoice& kernels, const at::Tensor& x_NPC,
                            const LinearAttentionWeights& weights);
at::Tensor linear_attention_reference(const at::Tensor& x_NPC,
                                      const LinearAttentionWeights& weights);

}  // namespace lf
