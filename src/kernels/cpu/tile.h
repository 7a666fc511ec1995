// A tile: up to a few hundred rows of a [rows, width] tensor, transposed in a core's cache so
// that a feature's values over the tile's rows are contiguous. Which rows, in which order, is the
// tile's map. Here are the ways in and out, and the layer norm at both. Inlined into the kernels of
// transformers; nothing of torch.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/lanes.h"
#include "kernels/cpu/products.h"
#include "kernels/cpu/scratch.h"

namespace lf {

// Column stride * step + lane of the tile is row lane_row[lane] + step * step_rows of the tensor,
// if lane is below lanes (at most the stride, at most 16) and the row below end; other columns are
// zeros.
struct TileMap {
  int64_t lane_row[kLanes];
  int64_t lanes, stride, steps, step_rows, end;

  LF_INLINE int64_t used() const { return steps * stride; }
  LF_INLINE int64_t columns() const { return (used() + kLanes - 1) / kLanes * kLanes; }
  LF_INLINE int64_t row(int64_t step, int64_t lane) const {
    return lane_row[lane] + step * step_rows;
  }
  LF_INLINE bool holds(int64_t step, int64_t lane) const {
    return lane < lanes && row(step, lane) < end;
  }
};

// Rows that follow each other, from `first` on.
LF_INLINE TileMap consecutive(int64_t first, int64_t rows) {
  TileMap map{};
  for (int64_t lane = 0; lane < kLanes; ++lane) map.lane_row[lane] = first + lane;
  map.lanes = map.stride = map.step_rows = kLanes;
  map.steps = (rows + kLanes - 1) / kLanes;
  map.end = first + rows;
  return map;
}

// Stride between features of a tile: not a power of two, which would map to the same cache sets.
LF_INLINE int64_t tile_row(int64_t columns) { return columns + kLanes; }
LF_INLINE int64_t padded(int64_t width) { return (width + kLanes - 1) / kLanes * kLanes; }

// Zeroes unused columns, over which products sum all the same.
LF_INLINE void clear_columns(float* tile, int64_t row, int64_t width, int64_t begin, int64_t end) {
  for (int64_t c = 0; begin < end && c < width; ++c) {
    for (int64_t column = begin; column < end; ++column) tile[c * row + column] = 0;
  }
}

// The ways in and out are compiled once for each instruction set (tile.cc), not into each kernel.
// `bf16` says what the tensors' rows are.
//
// [rows, width] -> [width][row]
void gather(const void* x, bool bf16, int64_t width, const TileMap& map, float* out, int64_t row);
// A feature's rows back to where they came from: y = `residual` + tile + `bias`, the last two where
// they are given.
void scatter(const float* tile, int64_t row, int64_t width, const TileMap& map,
             const void* residual, const float* bias, void* y, bool bf16);
// [width][row] -> [columns][padded(width)], zeros in the padding.
void transpose_tile(const float* tile, int64_t row, int64_t width, int64_t columns, float* out);

struct NormWeights {
  const float* weight;
  const float* bias;  // may be nullptr
  float epsilon;
};

// Every column to mean 0 and variance 1, in place; `spread` becomes 1 over the deviation.
LF_INLINE void normalise(float* tile, int64_t row, int64_t width, int64_t columns, float epsilon,
                         float* spread) {
  const float part = 1.0F / static_cast<float>(width);
  for (int64_t column = 0; column < columns; column += kLanes) {
    float* x = tile + column;
    Lanes sum{}, squares{};
    for (int64_t c = 0; c < width; ++c) sum += load(x + c * row);
    const Lanes mean = sum * part;
    for (int64_t c = 0; c < width; ++c) {
      const Lanes off = load(x + c * row) - mean;
      squares += off * off;
    }
    const Lanes scale = 1.0F / root(squares * part + epsilon);
    store(spread + column, scale);
    for (int64_t c = 0; c < width; ++c) store(x + c * row, (load(x + c * row) - mean) * scale);
  }
}

// out = tile * weight + bias; may be in place.
LF_INLINE void scale_features(const float* tile, int64_t row, int64_t width, int64_t columns,
                              const NormWeights& norm, float* out) {
  for (int64_t c = 0; c < width; ++c) {
    const float weight = norm.weight[c], bias = norm.bias != nullptr ? norm.bias[c] : 0.0F;
    for (int64_t column = 0; column < columns; column += kLanes) {
      store(out + c * row + column, load(tile + c * row + column) * weight + bias);
    }
  }
}

// From the gradient of scale_features()'s output to that of normalise()'s input, in place;
// gradients of the weights are added to the partial sums, a vector of lanes per feature.
LF_INLINE void normalise_back(const float* normal, float* gradient, int64_t row, int64_t width,
                              int64_t columns, const float* weight, const float* spread,
                              float* weight_sums, float* bias_sums) {
  const float part = 1.0F / static_cast<float>(width);
  for (int64_t c = 0; c < width; ++c) {
    Lanes up = load(weight_sums + c * kLanes), shift = load(bias_sums + c * kLanes);
    for (int64_t column = 0; column < columns; column += kLanes) {
      const Lanes d = load(gradient + c * row + column);
      up += d * load(normal + c * row + column);
      shift += d;
    }
    store(weight_sums + c * kLanes, up);
    store(bias_sums + c * kLanes, shift);
  }
  for (int64_t column = 0; column < columns; column += kLanes) {
    const float* x = normal + column;
    float* dx = gradient + column;
    Lanes mean{}, along{};
    for (int64_t c = 0; c < width; ++c) {
      const Lanes one = load(dx + c * row) * weight[c];
      mean += one;
      along += one * load(x + c * row);
    }
    mean *= part;
    along *= part;
    const Lanes scale = load(spread + column);
    for (int64_t c = 0; c < width; ++c) {
      const Lanes one = load(dx + c * row) * weight[c];
      store(dx + c * row, (one - mean - load(x + c * row) * along) * scale);
    }
  }
}

// For each of `rows` features the sum over the tile's columns, added to a vector of lanes.
LF_INLINE void add_sums(const float* tile, int64_t row, int64_t rows, int64_t columns,
                        float* sums) {
  for (int64_t c = 0; c < rows; ++c) {
    Lanes sum = load(sums + c * kLanes);
    for (int64_t column = 0; column < columns; column += kLanes) {
      sum += load(tile + c * row + column);
    }
    store(sums + c * kLanes, sum);
  }
}

LF_INLINE void fill_rows(const float* values, int64_t rows, int64_t columns, float* out,
                         int64_t row) {
  for (int64_t c = 0; c < rows; ++c) {
    for (int64_t column = 0; column < columns; column += kLanes) {
      store(out + c * row + column, all(values[c]));
    }
  }
}

// Matrices of a tile as sides of products, with the bf16 copies those need.
struct Sides {
  Scratch* scratch;
  Operands operands;
  LF_INLINE Right right(const float* data, int64_t row, int64_t depth, int64_t columns) const {
    Right right{data, row};
    if (operands == Operands::kBf16) {
      right.bf16 =
          bf16_right(right, depth, columns, scratch->take<Bf16>(bf16_right_size(depth, columns)));
    }
    return right;
  }
  // A tile [width][row] transposed: [columns][padded(width)].
  LF_INLINE Right transposed_right(const float* tile, int64_t row, int64_t width,
                                   int64_t columns) const {
    const int64_t wide = padded(width);
    if (operands == Operands::kBf16) {
      auto* bf16 = scratch->take<Bf16>(bf16_right_size(columns, wide));
      return {nullptr, wide, bf16_transposed_right({tile, row}, width, columns, bf16)};
    }
    auto* transposed = scratch->take<float>(columns * wide);
    transpose_tile(tile, row, width, columns, transposed);
    return {transposed, wide};
  }
  LF_INLINE Left left(const float* data, int64_t row, int64_t rows, int64_t depth) const {
    Left left{data, row};
    if (operands == Operands::kBf16) {
      left.bf16 = bf16_left(left, rows, depth, scratch->take<Bf16>(bf16_left_size(rows, depth)));
    }
    return left;
  }
};

}  // namespace lf
