// The fused forms of operations: what an operation's NAME.cc calls once it has chosen between CPU
// and GPU. A form knows nothing of autograd. forward takes contiguous inputs that are not empty and
// returns what its backward needs beside them; backward returns gradients. cpu/NAME.cc and
// gpu/NAME.cc define them.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "kernels/attention.h"
#include "kernels/feed_forward.h"
#include "kernels/linear_attention.h"
#include "kernels/norm_silu.h"

namespace lf {

using Tensors = std::vector<at::Tensor>;
using Maybe = std::optional<at::Tensor>;  // a weight that a layer may do without

struct Made {
  at::Tensor y;
  Tensors kept;  // for backward; empty unless `keep`
};

struct AttentionCall {
  Sequences sequences;
  AttentionWeights weights;
  bool bf16 = false;          // products in bf16
  bool residual = false;      // the result is added to a residual, not to x
  bool bias_gradient = true;  // backward: whether it is wanted
};
// Gradients in the place of the tensors they belong to.
struct AttentionGradients {
  at::Tensor x;
  AttentionWeights weights;
};
struct FeedForwardGradients {
  at::Tensor x;
  FeedForwardWeights weights;
};
struct LinearAttentionGradients {
  at::Tensor x;
  LinearAttentionWeights weights;
};
struct NormSiluGradients {
  at::Tensor x, gain, shift;
};
struct DepthwiseGradients {
  at::Tensor x, weight, bias;
};

// Declared alike for CPU and GPU, so that NAME.cc chooses by namespace alone.
#define LF_FORMS                                                                                   \
  Made attention(const AttentionCall& call, const at::Tensor& x, const at::Tensor& residual,       \
                 bool keep);                                                                       \
  AttentionGradients attention_back(const AttentionCall& call, const at::Tensor& x,                \
                                    const Tensors& kept, const at::Tensor& dy);                    \
  Made feed_forward(const FeedForwardWeights& weights, bool bf16, const at::Tensor& x, bool keep); \
  FeedForwardGradients feed_forward_back(const FeedForwardWeights& weights, bool bf16,             \
                                         const at::Tensor& x, const Tensors& kept,                 \
                                         const at::Tensor& dy);                                    \
  Made linear_attention(const LinearAttentionWeights& weights, bool bf16, const at::Tensor& x,     \
                        bool keep);                                                                \
  LinearAttentionGradients linear_attention_back(const LinearAttentionWeights& weights, bool bf16, \
                                                 const at::Tensor& x, const Tensors& kept,         \
                                                 const at::Tensor& dy);                            \
  Made norm_silu(const NormKind& kind, const at::Tensor& x, const at::Tensor& gain,                \
                 const at::Tensor& shift, const at::Tensor& residual);                             \
  NormSiluGradients norm_silu_back(const NormKind& kind, const at::Tensor& x,                      \
                                   const at::Tensor& gain, const at::Tensor& shift,                \
                                   const Tensors& kept, const at::Tensor& dy);                     \
  at::Tensor depthwise(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);     \
  DepthwiseGradients depthwise_back(const at::Tensor& x, const at::Tensor& weight,                 \
                                    const at::Tensor& bias, const at::Tensor& dy);                 \
  at::Tensor nearest_code(const at::Tensor& rows, const at::Tensor& codebook);

namespace cpu {
LF_FORMS

// x [rows, depth] weight^T [depth, features] + bias (may be undefined); gradients [rows, features]
// weight; and gradients^T x. All single precision.
at::Tensor skinny_matmul(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);
at::Tensor skinny_row_gradients(const at::Tensor& gradients, const at::Tensor& weight);
at::Tensor skinny_weight_gradients(const at::Tensor& gradients, const at::Tensor& x);

// Channels last.
at::Tensor convolution(const at::Tensor& images, int64_t frames, const at::Tensor& weight,
                       const at::Tensor& bias);
struct ConvolutionGradients {
  at::Tensor images, weight, bias;
};
// Of the images only if `of_images`, of the bias only if `of_bias`.
ConvolutionGradients convolution_back(const at::Tensor& images, int64_t frames,
                                      const at::Tensor& weight, const at::Tensor& dy,
                                      bool of_images, bool of_bias);

// [sequences, tokens, width] in single precision. kept: the logarithms of the softmax's sums.
Made long_attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                    double scale);
Tensors long_attention_back(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                            double scale, const at::Tensor& mixed, const at::Tensor& logs,
                            const at::Tensor& dy);
// False where LibTorch's own products were measured to be faster (README.md).
bool takes_feed_forward(const at::Tensor& x);
}  // namespace cpu

namespace gpu {
LF_FORMS

// Whether the shape is one that the kernels take.
bool takes_rows(const at::Tensor& x);
bool takes_search(const at::Tensor& rows);
bool takes_attention(const at::Tensor& x, const Sequences& sequences,
                     const AttentionWeights& weights);
bool takes_linear_attention(const at::Tensor& x, const LinearAttentionWeights& weights);
}  // namespace gpu

#undef LF_FORMS

}  // namespace lf
