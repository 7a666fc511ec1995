// softmax(scale q k^T) v of long sequences of narrow heads on CPU without a table of weights.
// Products of so little depth leave LibTorch's fused kernel waiting.
#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/dispatch.h"

namespace lf {

// Whether queries, keys and values [..., tokens, width] are of the kind this is faster for.
bool takes_long_attention(const KernelChoice& kernels, const at::Tensor& q, const at::Tensor& k,
                          const at::Tensor& v);
at::Tensor long_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                          double scale);

}  // namespace lf
