// Attention within frames and over frames for the diffusion networks, with masks, position biases
// and rotary embeddings of frames. The arithmetic is in src/kernels.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>

#include "kernels/attention.h"
#include "model/denoisers/text_attention.h"
#include "model/layers.h"
#include "model/recompute.h"

namespace lf {

// A learned bias for each of 32 ranges of the offset between two frames (T5).
struct DistanceBias {
  DistanceBias(const Scope& scope, int64_t heads);
  at::Tensor operator()(const at::Tensor& index_BT) const;  // [B, 1, heads, T, T]
  at::Tensor weight;
};

// Rotary embedding of the first `width` elements of queries and keys by the frame's index.
struct Rotary {
  Rotary(const Scope& scope, int64_t width);
  at::Tensor angles(const at::Tensor& index_BT) const;  // [B, 1, 1, T, width / 2]
  at::Tensor frequencies;
};
at::Tensor rotated(const at::Tensor& x, const at::Tensor& angles);

// What all attention over frames in one call of the network shares. Undefined tensors: none.
struct FrameContext {
  int64_t frames = 1;
  at::Tensor bias;      // [B, 1, heads, T, T], of DistanceBias
  at::Tensor mask;      // [B, 1, 1, T, T]: -inf where a frame does not attend, else 0
  at::Tensor angles;    // of Rotary
  at::Tensor rotation;  // cosines and sines of the angles, [B, T, width / 2, 2]
  at::Tensor offsets;   // [B, T, T, 3], of RelativeAttention

  at::Tensor logit_bias() const;  // bias + mask
  // Do all clips have the same frame indices? The attention of src/kernels requires it.
  bool same_for_all_clips() const;
  void add_to(AttentionWeights& weights, int64_t clips) const;
};
FrameContext frame_context(const NoisyClips& clips, const std::optional<DistanceBias>& distances,
                           const std::optional<Rotary>& rotary);

// What every block in one call of a network gets beside its input.
struct BlockCall {
  at::Tensor embedding;  // [B*T, width]: noise level, class and text, after the activation
  FrameContext frames;
  std::optional<Clips> keys;  // of dropout
  TextContext text;
};

// block(x, call), recomputed in backward if `again`. `weights` are all that the block uses.
using NetworkBlock = std::function<at::Tensor(const at::Tensor& x, const BlockCall& call)>;
at::Tensor run_block(const NetworkBlock& block, const Tensors& weights, const at::Tensor& x,
                     const BlockCall& call, bool again);

// Attention of rows [N, H*W, 3 heads width] (queries, keys, values) within each image, or over all
// frames of the clip at the same pixel. Returns [N, H*W, heads width].
at::Tensor attend_in_images(const KernelChoice& kernels, const at::Tensor& qkv, int64_t heads);
at::Tensor attend_over_frames(const KernelChoice& kernels, const at::Tensor& qkv, int64_t heads,
                              const FrameContext& context);

// x + projection(attention(layer norm(x))); the heads' width is independent of the channels.
struct FullAttention {
  FullAttention(const Scope& scope, int64_t channels, int64_t heads, int64_t width);
  at::Tensor in_images(const at::Tensor& images) const;
  at::Tensor over_frames(const at::Tensor& images, const FrameContext& context) const;
  LayerNorm norm;
  Linear qkv, out;
  int64_t heads, width;

 private:
  AttentionWeights kernel_weights() const;
};

// Attention within images, linear in the number of pixels: queries are softmax over channels, keys
// over pixels.
struct LinearAttention {
  LinearAttention(const Scope& scope, int64_t channels, int64_t heads, int64_t width);
  at::Tensor operator()(const at::Tensor& images) const;
  LayerNorm norm;
  Linear qkv, out;
  int64_t heads;
};

// x + projection(attention(norm(x))), initially the identity.
struct ResidualAttention {
  ResidualAttention(const Scope& scope, int64_t channels, int64_t heads, int64_t groups = 0,
                    double epsilon = 1e-5);
  at::Tensor in_images(const at::Tensor& images) const;
  at::Tensor over_frames(const at::Tensor& images, const FrameContext& context) const;
  GroupNorm norm;
  Linear qkv, out;
  int64_t heads;

 private:
  at::Tensor attended(const at::Tensor& images, const Sequences& sequences,
                      const FrameContext& context) const;
};

}  // namespace lf
