// The fused token layer on CPU: plain pointers, all rows at once with a feature's values over
// the rows side by side, features (or sequences) dealt over threads. One thread computes
// a sum whole, so that the bits do not depend on the number of threads.
#pragma once

#include <cstdint>
#include <functional>

#include "kernels/cpu/tile.h"

namespace lf {

struct FeatureMap {
  const float *weight, *bias;  // [features, depth], [features] or nullptr
};

struct TokenLayerTask {
  int64_t rows, width, hidden, heads, places, length;
  NormWeights norm1, norm2;
  FeatureMap qkv, out, wide, narrow;
  const float* x;        // [rows, width]
  float* y;              // as x
  float *keys, *values;  // [rows, heads, places, width / heads]

  int64_t head_width() const { return width / heads; }
  int64_t columns() const { return padded(rows); }
  int64_t row() const { return tile_row(columns()); }
  int64_t flops() const {
    return 2 * rows * (width * (4 * width + 2 * hidden) + 2 * width * (length + 1));
  }
};

// Calls body(i) for each i below count, on any threads, and comes back when all are done.
using OverThreads = std::function<void(int64_t count, const std::function<void(int64_t)>& body)>;

void run_token_layer(const TokenLayerTask& task, const OverThreads& over_threads);

}  // namespace lf
