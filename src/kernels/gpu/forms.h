// The operations of a GPU: matrix products are LibTorch's (cuBLAS), what lies between them is the
// plugin's kernels (device_operations.h). Inputs are contiguous, not empty, and of shapes that
// takes_...() has taken; the kernels must be installed. Called by the operations' own files where
// dispatch.h chooses the fused form for a GPU.
#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/attention.h"
#include "kernels/feed_forward.h"
#include "kernels/gpu/device_operations.h"
#include "kernels/linear_attention.h"
#include "kernels/norm_silu.h"

namespace lf {

// Rows of up to this many numbers are normed.
inline bool device_takes_rows(const at::Tensor& x) { return x.size(-1) <= kMostDeviceChannels; }
// Codes longer than this are found faster through cuBLAS's products and a table of distances.
inline bool device_takes_search(const at::Tensor& rows) { return rows.size(1) <= 64; }
bool device_takes_attention(const at::Tensor& x, const Sequences& sequences,
                            const AttentionWeights& weights);
bool device_takes_linear_attention(const at::Tensor& x, const LinearAttentionWeights& weights);

at::Tensor device_norm_silu(const at::Tensor& x_NPC, const NormKind& kind, const at::Tensor& gain,
                            const at::Tensor& shift, const at::Tensor& residual);
at::Tensor device_attention(const at::Tensor& x, const Sequences& sequences,
                            const AttentionWeights& weights, const at::Tensor& residual);
at::Tensor device_linear_attention(const at::Tensor& x_NPC, const LinearAttentionWeights& weights);
at::Tensor device_feed_forward(const at::Tensor& x, const FeedForwardWeights& weights);
at::Tensor device_causal_depthwise(const at::Tensor& x_BTHWC, const at::Tensor& weight,
                                   const at::Tensor& bias);
at::Tensor device_nearest_code(const at::Tensor& rows, const at::Tensor& codebook);

}  // namespace lf
