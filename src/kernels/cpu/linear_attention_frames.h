// The fused linear attention on CPU: plain pointers, a frame at a time, forward and backward. A
// frame's positions are processed in blocks that fit a core's L1 cache; the softmax of keys over
// all positions is online, rescaled where a block holds a larger value. Chunks are as in
// feed_forward_tiles.h.
#pragma once

#include <cstdint>

#include "kernels/cpu/products.h"
#include "kernels/cpu/tile.h"

namespace lf {

constexpr int64_t kBlock = 256;  // places

struct LinearAttentionTask {
  int64_t frames, places, width, heads, head_width;
  bool bf16_rows;  // x, y and their gradients are bf16
  Operands operands;
  NormWeights norm;
  Left query, key, query_back, key_back;  // [wide(), width], and transposed
  // Of value [wide(), width] and out [width, wide()]: rows as they are and transposed, each row
  // padded: to padded(width), or to wide() + 16.
  const float *value, *value_transposed, *out, *out_transposed;
  const float* out_bias;
  float scale;
  const void *x, *dy;
  void *y, *dx;
  float* kept;  // [frames][kept_size()]: what keys and rows came to, for backward; or nullptr
  float* sums;  // [chunks()][sums_size()]

  int64_t wide() const { return heads * head_width; }
  int64_t lined() const { return padded(width); }
  int64_t out_row() const { return wide() + kLanes; }
  int64_t blocks() const { return (places + kBlock - 1) / kBlock; }
  int64_t chunks() const;
  // Softmaxed keys times normed rows, and what the keys were softmaxed with: the largest value of
  // each feature and 1 over the sum.
  int64_t contexts_size() const { return wide() * lined(); }
  int64_t kept_size() const { return contexts_size() + 2 * wide(); }
  int64_t flops() const {  // of products, forward
    return 2 * frames * wide() * (4 * width * places + 2 * width * head_width);
  }

  // A chunk's partial sums: matrices have rows of padded(width), vectors 16 lanes an element.
  int64_t map_sums() const { return 0; }                     // of query, key and value
  int64_t out_sums() const { return 3 * wide() * lined(); }  // transposed
  int64_t out_bias_sums() const { return 4 * wide() * lined(); }
  int64_t norm_sums() const { return out_bias_sums() + width * kLanes; }
  int64_t norm_bias_sums() const { return norm_sums() + width * kLanes; }
  int64_t sums_size() const { return norm_bias_sums() + width * kLanes; }
};

void linear_attention_frame(const LinearAttentionTask& task, int64_t frame);
void linear_attention_chunk_back(const LinearAttentionTask& task, int64_t chunk);

}  // namespace lf
