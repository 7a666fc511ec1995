// The feed-forward sublayer of a transformer with its norm and residual, as one operation:
//   x + out(gelu(in(norm(x))))    or, gated,    x + out(a * gelu(b)) with (a, b) = in(norm(x)).
#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/dispatch.h"

namespace lf {

struct FeedForwardWeights {
  at::Tensor norm_weight, norm_bias;  // [width]; biases may be undefined, here and below
  at::Tensor in, in_bias;             // [hidden, width], or [2 * hidden, width] if gated
  at::Tensor out, out_bias;           // [width, hidden]
  bool gated = false;
  double epsilon = 1e-5;
};

// Over rows [..., width].
at::Tensor feed_forward(const KernelChoice& kernels, const at::Tensor& x,
                        const FeedForwardWeights& weights);
at::Tensor feed_forward_reference(const at::Tensor& x, const FeedForwardWeights& weights);

}  // namespace lf
