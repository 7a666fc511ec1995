// The fused linear attention on CPU: plain pointers, a frame at a time, forward and backward.
// Chunks are as in feed_forward_tiles.h. Called by linear_attention.cc.
#pragma once

#include <cstdint>

#include "kernels/products.h"
#include "kernels/tile.h"

namespace lf {

struct LinearAttentionTask {
  int64_t frames, places, width, heads, head_width;
  bool half_rows;  // x, y and their gradients are bfloat16
  Operands operands;
  NormWeights norm;
  Left query, key, query_back, key_back;  // [wide(), width], and turned round
  // Of value [wide(), width] and out [width, wide()]: rows as they are and turned round, each row
  // padded: to padded(width), or to wide() + 16.
  const float *value, *value_turned, *out, *out_turned;
  const float* out_bias;
  float scale;
  const void *x, *dy;
  void *y, *dx;
  float* sums;  // [chunks()][sums_size()]

  int64_t wide() const { return heads * head_width; }
  int64_t lined() const { return padded(width); }
  int64_t out_row() const { return wide() + kLanes; }
  int64_t columns() const { return padded(places); }
  int64_t chunks() const;
  int64_t flops() const {  // of products, forward
    return 2 * frames * wide() * (4 * width * places + 2 * width * head_width);
  }

  // A chunk's sums: matrices have rows of padded(width), vectors 16 lanes a number.
  int64_t map_sums() const { return 0; }                     // of query, key and value
  int64_t out_sums() const { return 3 * wide() * lined(); }  // turned round
  int64_t out_bias_sums() const { return 4 * wide() * lined(); }
  int64_t norm_sums() const { return out_bias_sums() + width * kLanes; }
  int64_t norm_bias_sums() const { return norm_sums() + width * kLanes; }
  int64_t sums_size() const { return norm_bias_sums() + width * kLanes; }
};

void linear_attention_frame(const LinearAttentionTask& task, int64_t frame);
void linear_attention_chunk_back(const LinearAttentionTask& task, int64_t chunk);

}  // namespace lf
