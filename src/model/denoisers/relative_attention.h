// Attention over frames that knows of their places nothing but how far any two are apart, by small
// networks of that distance and of the noise level (flexible diffusion's relative position
// encoding). Adding a number to all places changes nothing. Attention with a learned bias or turned
// pairs is attention.h's. Called by unet.
#pragma once

#include "model/denoisers/attention.h"

namespace lf {

// What the networks are told of two frames: the logarithms of one more than how far the first is
// behind and before the second, and whether they are the same. [B, T, T, 3]
at::Tensor frames_apart(const at::Tensor& index_BT);

// Numbers for every pair of frames: a vector a head, [B, heads, T, T, width], from how far they are
// apart and how noisy the first is. Begins as zero.
struct RelativeCode {
  RelativeCode(const Scope& scope, int64_t channels, int64_t level_width, int64_t heads);
  at::Tensor operator()(const at::Tensor& apart_BTT, const at::Tensor& level_BTE) const;
  Linear distance, level, out;
  int64_t heads;
};

// norm - attention over frames - projection on a residual path that starts as the identity.
struct RelativeAttention {
  RelativeAttention(const Scope& scope, int64_t channels, int64_t level_width, int64_t heads);
  at::Tensor operator()(const at::Tensor& images, const BlockCall& call) const;
  GroupNorm norm;
  Linear qkv, out;
  RelativeCode query_code, key_code, value_code;
  int64_t heads;
};

}  // namespace lf
