// Attention over frames with flexible diffusion's relative position encoding: small networks of the
// offset between two frames and of the noise level. Invariant to a shift of all frame indices.
// Attention with a learned bias or rotary embeddings is attention.h's.
#pragma once

#include "model/denoisers/attention.h"

namespace lf {

// Features of the offset d = i - j of every two frames, [B, T, T, 3]: log(1 + max(d, 0)),
// log(1 + max(-d, 0)), d == 0.
at::Tensor frame_offsets(const at::Tensor& index_BT);

// A vector for every pair of frames and head, [B, heads, T, T, width], from their offset and the
// first frame's noise level. Initially zero.
struct RelativeCode {
  RelativeCode(const Scope& scope, int64_t channels, int64_t level_width, int64_t heads);
  at::Tensor operator()(const at::Tensor& offset_BTT, const at::Tensor& level_BTE) const;
  Linear distance, level, out;
  int64_t heads;
};

// x + projection(attention over frames(norm(x))), initially the identity.
struct RelativeAttention {
  RelativeAttention(const Scope& scope, int64_t channels, int64_t level_width, int64_t heads);
  at::Tensor operator()(const at::Tensor& images, const BlockCall& call) const;
  GroupNorm norm;
  Linear qkv, out;
  RelativeCode query_code, key_code, value_code;
  int64_t heads;
};

}  // namespace lf
