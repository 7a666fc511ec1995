// Cross-attention of the diffusion networks: every pixel of every frame attends to the tokens of
// the clip's text.
#pragma once

#include <ATen/core/Tensor.h>

#include "model/denoisers/denoiser.h"
#include "model/layers.h"

namespace lf {

// The texts of one call, as all cross-attention takes them. Undefined tensors: no texts.
struct TextContext {
  at::Tensor tokens_BLE;  // with mean 0 and variance 1 over E; those of padding are zeros
  at::Tensor mask;  // [B, 1, 1, 1 + L]: -inf for padding, else 0; for nothing, then the tokens
};
TextContext text_context(const NoisyClips& clips);

// x + projection(attention(layer norm(x), tokens)), initially the identity. Attention may also go
// to nothing, a key and value of zeros, so that it is the identity for a clip without a text.
struct CrossAttention {
  CrossAttention(const Scope& scope, int64_t channels, int64_t text_width, int64_t heads,
                 int64_t width);
  // Rows [N, pixels, channels] of N = B T images.
  at::Tensor operator()(const at::Tensor& rows, const TextContext& text) const;
  at::Tensor in_images(const at::Tensor& images, const TextContext& text) const;
  LayerNorm norm;
  Linear query, key_value, out;
  int64_t heads;
};

}  // namespace lf
