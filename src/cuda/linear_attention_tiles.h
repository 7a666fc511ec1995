// What both passes of linear attention share: rows of places on their way to shared memory, sums of
// products over places, tiles of results. A block has one head of a frame and a range of its
// places, kPlaces of them (a tile) at a time. For linear_attention_kernels.cu and
// linear_attention_back_kernels.cu; for nvcc only.
#pragma once

#include <algorithm>

#include "cuda/linear_attention_kernels.h"
#include "cuda/tiles.h"

namespace lf::linear_attention_tiles {

constexpr int kThreads = 256;
constexpr int kPlaces = 64;  // of a tile
constexpr int kMostDepth = 4 * kWarp;
constexpr int kMostTiles = 4;    // of a context, for each thread
constexpr int kTilesAtOnce = 4;  // of places, for each block of the result

enum Map { kQuery, kKey, kValue };

// The sizes of a head. `lanes` lanes share a row, `groups` groups of threads a context.
struct Shape {
  int depth, row, lanes, tiles, groups;
  bool aligned;
  Divisor by_across;

  __host__ __device__ int padded() const { return 4 * fours(depth); }
};

inline Shape shape_of(int depth, bool aligned) {
  const int across = fours(depth);
  Shape shape{depth, shared_row(depth), lanes_of_row(depth), across * across,
              1,     aligned,           Divisor::of(across)};
  while (shape.groups < 8 && 2 * shape.groups * shape.tiles <= kThreads) shape.groups *= 2;
  return shape;
}

// A head of a frame, number `which` of all, and a range of its places.
struct Range {
  int64_t which, frame, head, first, end;
};

__device__ inline Range range_of(const DeviceLinearAttention& task, int64_t slices) {
  const int64_t which = blockIdx.x / slices, each = (task.places + slices - 1) / slices;
  const int64_t first = blockIdx.x % slices * each;
  return {which, which / task.heads, which % task.heads, first,
          first + each < task.places ? first + each : task.places};
}

// Offset in maps of a place's query, key or value.
__device__ inline int64_t at_map(const DeviceLinearAttention& task, const Range& range,
                                 int64_t place, Map which) {
  return (((range.frame * task.places + place) * 3 + which) * task.heads + range.head) *
         task.head_width;
}
__device__ inline int64_t at_mixed(const DeviceLinearAttention& task, const Range& range,
                                   int64_t place) {
  return ((range.frame * task.places + place) * task.heads + range.head) * task.head_width;
}

// Rows of up to kPlaces places into `to`; at(place) is a row's offset in `from`, and
// change(row in registers, first column, valid, mask) changes it on the way. Elements beyond the
// last place or column are `missing`.
template <typename X, typename At, typename Change>
__device__ void load_rows(const X* from, const At& at, int64_t first, int64_t end,
                          const Shape& shape, const SharedMatrix& to, float missing,
                          const Change& change) {
  constexpr int kAhead = 4;
  const int lanes = shape.lanes, lane = threadIdx.x % lanes, groups = kThreads / lanes;
  const unsigned mask = mask_of_group(lanes);
  const int c = 4 * lane;
  for (int base = threadIdx.x / lanes; base < kPlaces; base += kAhead * groups) {
    Four ahead[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int64_t place = first + base + i * groups;
      ahead[i] = {{missing, missing, missing, missing}};
      if (base + i * groups < kPlaces && place < end && c < shape.depth) {
        ahead[i] = load_four(from + at(place) + c, shape.depth - c, shape.aligned);
      }
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int r = base + i * groups;
      if (r >= kPlaces) break;
      change(ahead[i], c, first + r < end, mask);
      if (c < shape.padded()) store_aligned(to.data + r * to.row + c, ahead[i]);
    }
  }
}

struct Unchanged {
  __device__ void operator()(Four&, int, bool, unsigned) const {}
};

// Softmax over the elements of a row, which is that of queries.
struct RowSoftmax {
  Shape shape;
  __device__ void operator()(Four& row, int c, bool valid, unsigned mask) const {
    const int lanes = shape.lanes;
    float most = -INFINITY, sum = 0;
#pragma unroll
    for (int e = 0; e < 4; ++e) most = fmaxf(most, c + e < shape.depth ? row.at[e] : -INFINITY);
    most = max_over(most, lanes, mask);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      row.at[e] = c + e < shape.depth ? __expf(row.at[e] - most) : 0.0F;
      sum += row.at[e];
    }
    sum = sum_over(sum, lanes, mask);
    const float factor = valid ? 1.0F / sum : 0.0F;
#pragma unroll
    for (int e = 0; e < 4; ++e) row.at[e] *= factor;
  }
};

// A context, left^T right over places: to[d][e] += left[p][d] right[p][e]. Where it has fewer tiles
// than there are threads, groups of threads take a part of the places each.
struct ContextSums {
  const Shape& shape;
  Tile tiles[kMostTiles];

  int group, first;  // of this thread; its first tile, one beyond the last if it has none

  __device__ explicit ContextSums(const Shape& of) : shape(of), tiles{} {
    const int thread = threadIdx.x;
    group = shape.groups == 1 ? 0 : thread / shape.tiles;
    first = shape.groups == 1       ? thread
            : group >= shape.groups ? shape.tiles
                                    : thread - group * shape.tiles;
  }

  // Multiplies row d of the sums so far by factor[d] first, unless `factor` is nullptr.
  __device__ void add(const SharedMatrix& left, const SharedMatrix& right, const float* factor) {
    const int across = fours(shape.depth), part = kPlaces / shape.groups, from = group * part;
#pragma unroll
    for (int i = 0; i < kMostTiles; ++i) {
      const int t = first + i * kThreads;
      if (t >= shape.tiles) break;
      const int down = shape.by_across.quotient(t), m = 4 * down, n = 4 * (t - down * across);
      if (factor != nullptr) {
#pragma unroll
        for (int r = 0; r < 4; ++r) {
#pragma unroll
          for (int c = 0; c < 4; ++c) tiles[i].at[r][c] *= factor[m + r];
        }
      }
      add_product_at({left.data + from * left.row, left.row}, m,
                     {right.data + from * right.row, right.row}, n, part, tiles[i]);
    }
  }

  // To [depth][depth], group after group.
  __device__ void store(float* to, float scale) {
    const int across = fours(shape.depth);
    for (int turn = 0; turn < shape.groups; ++turn) {
#pragma unroll
      for (int i = 0; i < kMostTiles; ++i) {
        const int t = first + i * kThreads;
        if (t >= shape.tiles || group != turn) break;
#pragma unroll
        for (int r = 0; r < 4; ++r) {
#pragma unroll
          for (int c = 0; c < 4; ++c) {
            const int d = 4 * (t / across) + r, e = 4 * (t % across) + c;
            if (d >= shape.depth || e >= shape.depth) continue;
            float* sum = to + d * shape.depth + e;
            *sum = (turn == 0 ? 0.0F : *sum) + scale * tiles[i].at[r][c];
          }
        }
      }
      __syncthreads();
    }
  }
};

// A context [depth][depth] into shared memory, padded with zeros.
__device__ inline void load_context(const float* from, const Shape& shape, bool transposed,
                                    const SharedMatrix& to) {
  const int padded = shape.padded();
  for (int i = threadIdx.x; i < padded * padded; i += kThreads) {
    const int d = i / padded, e = i % padded;
    const float value = d < shape.depth && e < shape.depth ? from[d * shape.depth + e] : 0.0F;
    to.data[transposed ? e * to.row + d : d * to.row + e] = value;
  }
}

// body(place in the tile, element) for each 4 x 4 of a tile of rows.
template <typename Body>
__device__ void over_tiles(const Shape& shape, const Body& body) {
  const int across = fours(shape.depth);
  for (int i = threadIdx.x; i < kPlaces / 4 * across; i += kThreads) {
    const int down = shape.by_across.quotient(i);
    body(4 * down, 4 * (i - down * across));
  }
}

template <typename X, typename At>
__device__ void store_tile(const Tile& tile, X* to, const At& at, int64_t place, int64_t end, int c,
                           const Shape& shape) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (place + i >= end) break;
    store_four(to + at(place + i) + c,
               {{tile.at[i][0], tile.at[i][1], tile.at[i][2], tile.at[i][3]}}, shape.depth - c,
               shape.aligned);
  }
}

template <typename X>
Shape shape_of(const DeviceLinearAttention& task) {
  const int depth = static_cast<int>(task.head_width);
  return shape_of(depth, depth % 4 == 0 && aligned_to_four<X>(task.maps.data) &&
                             aligned_to_four<X>(task.mixed.data) &&
                             aligned_to_four<X>(task.d_mixed.data) &&
                             aligned_to_four<X>(task.d_maps.data));
}

inline int64_t bytes_of(int64_t floats) { return floats * static_cast<int64_t>(sizeof(float)); }

// Floats of shared memory of the backward pass, which needs more than forward.
inline int64_t back_floats(const Shape& shape) {
  return 4 * kPlaces * shape.row + 3 * shape.padded() * shape.row + shape.padded();
}

inline int64_t slices_of_result(const DeviceLinearAttention& task) {
  return parts_of(task.places, kPlaces * kTilesAtOnce);
}

}  // namespace lf::linear_attention_tiles
