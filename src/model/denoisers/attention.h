// Attention within frames and over frames for the diffusion networks, with what a frame may see and
// what it knows of another's distance. The arithmetic is that of src/kernels. Called by the
// diffusion networks.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>

#include "kernels/attention.h"
#include "model/denoisers/denoiser.h"
#include "model/layers.h"
#include "model/recompute.h"

namespace lf {

// A learned bias for each of 32 ranges of the distance between two frames (T5).
struct DistanceBias {
  DistanceBias(const Scope& scope, int64_t heads);
  at::Tensor operator()(const at::Tensor& index_BT) const;  // [B, 1, heads, T, T]
  at::Tensor weight;
};

// Turns pairs of the first `width` numbers of queries and keys by angles that grow with the frame.
struct Rotary {
  Rotary(const Scope& scope, int64_t width);
  at::Tensor angles(const at::Tensor& index_BT) const;  // [B, 1, 1, T, width / 2]
  at::Tensor frequencies;
};
at::Tensor rotated(const at::Tensor& x, const at::Tensor& angles);

// What all attention over frames of one call of the network needs.
struct FrameContext {
  int64_t frames = 1;
  at::Tensor bias;    // [B, 1, heads, T, T]: distances; undefined for none
  at::Tensor blind;   // [B, 1, 1, T, T]: -inf where a frame does not look, else 0; undefined: none
  at::Tensor angles;  // of Rotary; undefined for none
  at::Tensor turns;   // their cosines and sines, [B, T, width / 2, 2]
  at::Tensor apart;   // [B, T, T, 3], of RelativeAttention; undefined for none

  at::Tensor added() const;  // to the logits; undefined for nothing
  // All clips agree on where their frames stand: what the attention of src/kernels needs.
  bool alike() const;
  void add_to(AttentionWeights& weights, int64_t clips) const;
};
FrameContext frame_context(const NoisyClips& clips, const std::optional<DistanceBias>& distances,
                           const std::optional<Rotary>& rotary);

// What every block of one call of a network gets beside its input.
struct BlockCall {
  at::Tensor embedding;  // [B*T, width]: noise levels and what is to be shown, activated
  FrameContext frames;
  std::optional<Clips> keys;  // of dropout
};

// block(x, call), computed again in backward if `again`. `weights` are all that the block uses.
using NetworkBlock = std::function<at::Tensor(const at::Tensor& x, const BlockCall& call)>;
at::Tensor run_block(const NetworkBlock& block, const Tensors& weights, const at::Tensor& x,
                     const BlockCall& call, bool again);

// Attention of rows [N, H*W, 3 heads width] (queries, keys, values) within each image, or with all
// frames of the clip at the same place. Gives [N, H*W, heads width].
at::Tensor attend_in_images(const at::Tensor& qkv, int64_t heads);
at::Tensor attend_over_frames(const at::Tensor& qkv, int64_t heads, const FrameContext& context);

// Layer norm - attention with heads of a width of their own - projection, added to what came in.
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

// Attention within images whose cost grows with their places, not with the square of them: queries
// are softmax over channels, keys over places.
struct LinearAttention {
  LinearAttention(const Scope& scope, int64_t channels, int64_t heads, int64_t width);
  at::Tensor operator()(const at::Tensor& images) const;
  LayerNorm norm;
  Linear qkv, out;
  int64_t heads;
};

// norm - attention - projection on a residual path that starts as the identity.
struct ResidualAttention {
  ResidualAttention(const Scope& scope, int64_t channels, int64_t heads);
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
