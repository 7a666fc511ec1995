// The fused feed-forward on CPU: plain pointers, tile by tile, forward and backward. A chunk is a
// fixed run of tiles with partial sums of its own, which are added up in the order of chunks, so
// that the bits do not depend on the number of threads.
#pragma once

#include <cstdint>

#include "kernels/cpu/products.h"
#include "kernels/cpu/tile.h"

namespace lf {

struct FeedForwardTask {
  int64_t rows, width, hidden;
  bool gated, bf16_rows;  // bf16_rows: x, y and their gradients are bf16
  Operands operands;
  NormWeights norm;
  Left in, out;            // [maps(), width] and [width, hidden]
  Left in_back, out_back;  // the same transposed
  const float *in_bias, *out_bias;
  const void *x, *dy;
  void *y, *dx;
  float* kept;  // [tiles][maps()][tile_row], what `in` gave; nullptr: not kept
  float* sums;  // [chunks][sums_size()]

  int64_t flops() const { return 2 * rows * width * (maps() + hidden); }  // of products, forward
  int64_t maps() const { return gated ? 2 * hidden : hidden; }
  int64_t tiles() const;
  int64_t columns() const;  // of a tile
  int64_t chunks() const;
  int64_t kept_size() const { return tiles() * maps() * tile_row(columns()); }

  // A chunk's partial sums: matrices have rows of padded(width), vectors 16 lanes an element.
  int64_t in_sums() const { return 0; }
  int64_t out_sums() const { return maps() * padded(width); }  // transposed
  int64_t in_bias_sums() const { return out_sums() + hidden * padded(width); }
  int64_t out_bias_sums() const { return in_bias_sums() + maps() * kLanes; }
  int64_t norm_sums() const { return out_bias_sums() + width * kLanes; }
  int64_t norm_bias_sums() const { return norm_sums() + width * kLanes; }
  int64_t sums_size() const { return norm_bias_sums() + width * kLanes; }
};

void feed_forward_tile(const FeedForwardTask& task, int64_t tile);
void feed_forward_chunk_back(const FeedForwardTask& task, int64_t chunk);

}  // namespace lf
