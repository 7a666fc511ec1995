// The fused attention on CPU: plain pointers, tile by tile, forward and backward. A tile is up
// to sixteen sequences side by side, one a lane, so that scores, softmax and sums run down the
// lanes for any number of tokens. Chunks are as in feed_forward_tiles.h.
#pragma once

#include <cstdint>

#include "kernels/cpu/products.h"
#include "kernels/cpu/tile.h"

namespace lf {

struct AttentionTask {
  int64_t outer, tokens, inner, width, heads, head_width;
  bool bf16_rows;  // x, y and their gradients are bf16
  Operands operands;
  NormWeights norm;  // no weight: rows come normed
  // Values are the normed rows themselves, and `out` is [width, heads * width]: the value map is
  // part of it. `value` and `value_back` are not read.
  bool plain_values;
  Left query, key, value, out;                      // [wide(), width], out [width, mixed()]
  Left query_back, key_back, value_back, out_back;  // the same transposed
  const float *query_bias, *key_value_bias, *out_bias;
  const float *query_scale, *key_scale;  // both, or neither
  const float *bias, *mask, *rotary;
  int64_t pairs;  // of rotary
  float scale;
  bool bias_gradient;
  const void *x, *residual, *dy;  // residual: nullptr if it is x
  void *y, *dx;
  float* kept;  // [tiles][maps() * wide()][tile_row], queries, keys, values; nullptr: not kept
  float* sums;  // [chunks][sums_size()]

  // Of products, forward.
  int64_t flops() const { return 2 * sequences() * tokens * wide() * (4 * width + 2 * tokens); }
  int64_t wide() const { return heads * head_width; }
  int64_t maps() const { return plain_values ? 2 : 3; }
  int64_t value_width() const { return plain_values ? width : head_width; }
  int64_t mixed() const { return heads * value_width(); }
  int64_t sequences() const { return outer * inner; }
  int64_t tiles() const { return (sequences() + kLanes - 1) / kLanes; }
  int64_t stride() const { return (sequences() + tiles() - 1) / tiles(); }  // lanes of a tile
  int64_t columns() const { return padded(tokens * stride()); }
  int64_t chunks() const;
  int64_t kept_size() const { return tiles() * maps() * wide() * tile_row(columns()); }

  // A chunk's partial sums: matrices have rows of padded(width), vectors 16 lanes an element; the
  // bias is plain.
  int64_t map_sums() const { return 0; }                                // of query, key and value
  int64_t out_sums() const { return maps() * wide() * padded(width); }  // transposed
  int64_t map_bias_sums() const { return out_sums() + mixed() * padded(width); }
  int64_t out_bias_sums() const { return map_bias_sums() + 3 * wide() * kLanes; }
  int64_t norm_sums() const { return out_bias_sums() + width * kLanes; }
  int64_t norm_bias_sums() const { return norm_sums() + width * kLanes; }
  int64_t query_scale_sums() const { return norm_bias_sums() + width * kLanes; }
  int64_t key_scale_sums() const { return query_scale_sums() + head_width * kLanes; }
  int64_t bias_sums() const { return key_scale_sums() + head_width * kLanes; }
  int64_t sums_size() const {
    return bias_sums() + (bias_gradient ? padded(heads * tokens * tokens) : 0);
  }
};

void attention_tile(const AttentionTask& task, int64_t tile);
void attention_chunk_back(const AttentionTask& task, int64_t chunk);

}  // namespace lf
