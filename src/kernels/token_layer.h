// A transformer layer over the newest tokens of some sequences, with the keys and values of earlier
// tokens in a cache:
//   h = x + out(attend(qkv(norm1(x)))),   y = h + narrow(gelu(wide(norm2(h)))).
// The fused form serves sampling token by token, where LibTorch's attention of a single query and
// many small operations take longer than the products.
#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/dispatch.h"

namespace lf {

struct TokenLayerWeights {
  at::Tensor norm1_weight, norm1_bias, qkv_weight, qkv_bias, out_weight, out_bias;
  at::Tensor norm2_weight, norm2_bias, wide_weight, wide_bias, narrow_weight, narrow_bias;
  int64_t heads;
  double epsilon;
};

// [sequences, heads, most tokens, head width] each, of which the first `length` are settled. The
// new tokens are written behind them.
struct TokenCache {
  at::Tensor keys, values;
  int64_t length;
};

// x [sequences, tokens, width]. `mask` [tokens, settled + tokens] says who sees whom, undefined:
// everybody. Without a cache there are no settled tokens. The fused form is for one token of each
// of 4 to 64 sequences with a cache, in single precision without gradients, on a CPU.
at::Tensor token_layer(const KernelChoice& kernels, const at::Tensor& x,
                       const TokenLayerWeights& weights, const at::Tensor& mask,
                       const TokenCache* cache);
at::Tensor token_layer_reference(const KernelChoice& kernels, const at::Tensor& x,
                                 const TokenLayerWeights& weights, const at::Tensor& mask,
                                 const TokenCache* cache);

}  // namespace lf
