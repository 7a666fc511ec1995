// See linear_attention_kernels.h. Keys and values are read once for the contexts: their softmax
// over places is kept running, a part of the places by itself, and the parts are put together in
// their order. Queries are read once for the result, normed on the way into shared memory. Backward
// has the same two steps, for the slopes of the contexts and for those of the maps:
//   d key = key (d key' - sum over places (key d key')), which sum is that of context d context.
#include <algorithm>

#include "cuda/linear_attention_kernels.h"
#include "cuda/tiles.h"

namespace lf {
namespace {

constexpr int kThreads = 256;
constexpr int kPlaces = 64;  // of a tile
constexpr int kMostDepth = 4 * kWarp;
constexpr int kMostTiles = 4;    // of a context that a thread has
constexpr int kTilesAtOnce = 4;  // of places, that a block of the result sees

// Of a head. `lanes` share a row, `groups` of threads a context.
struct Shape {
  int depth, row, lanes, tiles, groups;
  bool whole;
  Divisor by_across;

  __host__ __device__ int lined() const { return 4 * fours(depth); }
};

Shape shape_of(int depth, bool whole) {
  const int across = fours(depth);
  Shape shape{depth, shared_row(depth),  lanes_of_row(depth), across * across, 1,
              whole, Divisor::of(across)};
  while (shape.groups < 8 && 2 * shape.groups * shape.tiles <= kThreads) shape.groups *= 2;
  return shape;
}

// A frame's head and a range of its places.
struct Range {
  int64_t which, frame, head, first, end;
};

__device__ Range range_of(const DeviceLinearAttention& task, int64_t slices) {
  const int64_t which = blockIdx.x / slices, each = (task.places + slices - 1) / slices;
  const int64_t first = blockIdx.x % slices * each;
  return {which, which / task.heads, which % task.heads, first,
          first + each < task.places ? first + each : task.places};
}

// Where query (0), key (1) or value (2) of a place begin.
__device__ int64_t at_map(const DeviceLinearAttention& task, const Range& range, int64_t place,
                          int which) {
  return (((range.frame * task.places + place) * 3 + which) * task.heads + range.head) *
         task.head_width;
}
__device__ int64_t at_mixed(const DeviceLinearAttention& task, const Range& range, int64_t place) {
  return ((range.frame * task.places + place) * task.heads + range.head) * task.head_width;
}

// Rows of up to kPlaces places into `to`, changed by change(row in registers, first column, mask);
// what is not there is `missing`.
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
        ahead[i] = load_four(from + at(place) + c, shape.depth - c, shape.whole);
      }
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int r = base + i * groups;
      if (r >= kPlaces) break;
      change(ahead[i], c, first + r < end, mask);
      if (c < shape.lined()) store_whole(to.data + r * to.row + c, ahead[i]);
    }
  }
}

struct AsTheyAre {
  __device__ void operator()(Four&, int, bool, unsigned) const {}
};

// Softmax over a row's own numbers.
struct RowSoftmax {
  Shape shape;
  __device__ void operator()(Four& row, int c, bool there, unsigned mask) const {
    const int lanes = shape.lanes;
    float most = -INFINITY, sum = 0;
#pragma unroll
    for (int e = 0; e < 4; ++e) most = fmaxf(most, c + e < shape.depth ? row.at[e] : -INFINITY);
    most = greatest_over(most, lanes, mask);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      row.at[e] = c + e < shape.depth ? __expf(row.at[e] - most) : 0.0F;
      sum += row.at[e];
    }
    sum = sum_over(sum, lanes, mask);
    const float factor = there ? 1.0F / sum : 0.0F;
#pragma unroll
    for (int e = 0; e < 4; ++e) row.at[e] *= factor;
  }
};

// Keys' softmax over places by its statistics.
struct ColumnSoftmax {
  Shape shape;
  const float* statistics;  // [2][depth]
  __device__ void operator()(Four& row, int c, bool there, unsigned) const {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      row.at[e] = there && c + e < shape.depth ? __fdividef(__expf(row.at[e] - statistics[c + e]),
                                                            statistics[shape.depth + c + e])
                                               : 0.0F;
    }
  }
};

// Sums of products of rows of places: to[d][e] += left[p][d] right[p][e]. Where a context has fewer
// tiles than there are threads, groups of threads take a part of the places each.
struct ContextSums {
  const Shape& shape;
  Tile tiles[kMostTiles];

  int group, first;  // of this thread; its first tile, one beyond the last: none

  __device__ explicit ContextSums(const Shape& of) : shape(of), tiles{} {
    const int thread = threadIdx.x;
    group = shape.groups == 1 ? 0 : thread / shape.tiles;
    first = shape.groups == 1       ? thread
            : group >= shape.groups ? shape.tiles
                                    : thread - group * shape.tiles;
  }

  // `factor` [depth], of what was there before; nullptr: 1.
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
      add_turned({left.data + from * left.row, left.row}, m,
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

// A part: what its keys' exponentials are above, their sum and the context, none yet divided.
template <typename X>
__global__ void __launch_bounds__(kThreads)
    context_kernel(DeviceLinearAttention task, Shape shape, int64_t slices) {
  float* shared = shared_memory();
  const SharedMatrix key{shared, shape.row}, value{shared + kPlaces * shape.row, shape.row};
  const int lined = shape.lined(), workers = kThreads / lined;  // of a column
  float* factor = shared + 2 * kPlaces * shape.row;             // [lined]
  float* column = factor + lined;                               // [workers][lined]
  const Range range = range_of(task, slices);
  const int d = threadIdx.x % lined, worker = threadIdx.x / lined;
  float most = -INFINITY, sum = 0;  // of column d, the sum over this worker's places
  ContextSums context(shape);
  for (int64_t place = range.first; place < range.end; place += kPlaces) {
    const auto load = [&](int which, const SharedMatrix& to, float missing) {
      load_rows(
          as<X>(task.maps.data), [&](int64_t p) { return at_map(task, range, p, which); }, place,
          range.end, shape, to, missing, AsTheyAre());
    };
    load(1, key, -INFINITY);
    load(2, value, 0.0F);
    __syncthreads();
    if (worker < workers) {
      float own = -INFINITY;
      for (int p = worker; p < kPlaces; p += workers) own = fmaxf(own, key.data[p * key.row + d]);
      column[worker * lined + d] = own;
    }
    __syncthreads();
    if (worker < workers) {
      float now = most;
      for (int w = 0; w < workers; ++w) now = fmaxf(now, column[w * lined + d]);
      const float shrink = most == -INFINITY ? 0.0F : __expf(most - now);
      most = now;
      sum *= shrink;
      if (worker == 0) factor[d] = shrink;
      for (int p = worker; p < kPlaces; p += workers) {
        float& one = key.data[p * key.row + d];
        one = d < shape.depth && place + p < range.end ? __expf(one - now) : 0.0F;
        sum += one;
      }
    }
    __syncthreads();
    context.add(key, value, factor);
    __syncthreads();
  }
  if (worker < workers) column[worker * lined + d] = sum;
  __syncthreads();
  float* part = task.parts + static_cast<int64_t>(blockIdx.x) * shape.depth * (shape.depth + 2);
  if (worker == 0 && d < shape.depth) {
    float total = 0;
    for (int w = 0; w < workers; ++w) total += column[w * lined + d];
    part[d] = most;
    part[shape.depth + d] = total;
  }
  context.store(part + 2 * shape.depth, 1.0F);
}

// The parts of a frame's head put together.
__global__ void __launch_bounds__(kThreads)
    join_contexts_kernel(DeviceLinearAttention task, int depth, int64_t slices) {
  const int64_t size = static_cast<int64_t>(depth) * (depth + 2), which = blockIdx.x;
  const float* parts = task.parts + which * slices * size;
  for (int i = threadIdx.x; i < depth * depth; i += kThreads) {
    const int d = i / depth;
    float most = -INFINITY, sum = 0, total = 0;
    for (int64_t s = 0; s < slices; ++s) most = fmaxf(most, parts[s * size + d]);
    for (int64_t s = 0; s < slices; ++s) {
      // A slice without places adds nothing.
      const float above = parts[s * size + d];
      const float factor = above == -INFINITY ? 0.0F : __expf(above - most);
      sum = fmaf(factor, parts[s * size + depth + d], sum);
      total = fmaf(factor, parts[s * size + 2 * depth + i], total);
    }
    task.context[which * depth * depth + i] = total / sum;
    if (i % depth == 0) {
      task.statistics[which * 2 * depth + d] = most;
      task.statistics[(which * 2 + 1) * depth + d] = sum;
    }
  }
}

// A context [depth][depth] into shared memory, or turned round; what pads it is zero.
__device__ void load_context(const float* from, const Shape& shape, bool turned,
                             const SharedMatrix& to) {
  const int lined = shape.lined();
  for (int i = threadIdx.x; i < lined * lined; i += kThreads) {
    const int d = i / lined, e = i % lined;
    const float value = d < shape.depth && e < shape.depth ? from[d * shape.depth + e] : 0.0F;
    to.data[turned ? e * to.row + d : d * to.row + e] = value;
  }
}

// body(place in the tile, number) for each 4 x 4 of a tile of rows.
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
               shape.whole);
  }
}

template <typename X>
__global__ void __launch_bounds__(kThreads)
    mix_kernel(DeviceLinearAttention task, Shape shape, int64_t slices) {
  float* shared = shared_memory();
  const SharedMatrix query{shared, shape.row}, context{shared + kPlaces * shape.row, shape.row};
  const Range range = range_of(task, slices);
  load_context(task.context + range.which * shape.depth * shape.depth, shape, false, context);
  for (int64_t place = range.first; place < range.end; place += kPlaces) {
    load_rows(
        as<X>(task.maps.data), [&](int64_t p) { return at_map(task, range, p, 0); }, place,
        range.end, shape, query, 0.0F, RowSoftmax{shape});
    __syncthreads();
    over_tiles(shape, [&](int p, int c) {
      Tile tile{};
      add_down(query, p, context, c, shape.lined(), tile);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) tile.at[i][j] *= task.scale;
      }
      store_tile(
          tile, as<X>(task.mixed.data), [&](int64_t at) { return at_mixed(task, range, at); },
          place + p, range.end, c, shape);
    });
    __syncthreads();
  }
}

// A part of the slopes of a context.
template <typename X>
__global__ void __launch_bounds__(kThreads)
    context_back_kernel(DeviceLinearAttention task, Shape shape, int64_t slices) {
  float* shared = shared_memory();
  const SharedMatrix query{shared, shape.row}, slope{shared + kPlaces * shape.row, shape.row};
  const Range range = range_of(task, slices);
  ContextSums context(shape);
  for (int64_t place = range.first; place < range.end; place += kPlaces) {
    load_rows(
        as<X>(task.maps.data), [&](int64_t p) { return at_map(task, range, p, 0); }, place,
        range.end, shape, query, 0.0F, RowSoftmax{shape});
    load_rows(
        as<X>(task.d_mixed.data), [&](int64_t p) { return at_mixed(task, range, p); }, place,
        range.end, shape, slope, 0.0F, AsTheyAre());
    __syncthreads();
    context.add(query, slope, nullptr);
    __syncthreads();
  }
  context.store(task.parts + static_cast<int64_t>(blockIdx.x) * shape.depth * (shape.depth + 2),
                task.scale);
}

__global__ void __launch_bounds__(kThreads)
    join_slopes_kernel(DeviceLinearAttention task, int depth, int64_t slices) {
  const int64_t size = static_cast<int64_t>(depth) * (depth + 2), which = blockIdx.x;
  for (int i = threadIdx.x; i < depth * depth; i += kThreads) {
    float sum = 0;
    for (int64_t s = 0; s < slices; ++s) sum += task.parts[(which * slices + s) * size + i];
    task.d_context[which * depth * depth + i] = sum;
  }
}

// The slopes of queries, from those of their softmax in `slopes`.
template <typename X>
__device__ void store_query_slopes(const DeviceLinearAttention& task, const Shape& shape,
                                   const Range& range, int64_t place, const SharedMatrix& query,
                                   const SharedMatrix& slopes) {
  const int lanes = shape.lanes, lane = threadIdx.x % lanes, c = 4 * lane;
  const unsigned mask = mask_of_group(lanes);
  for (int r = threadIdx.x / lanes; r < kPlaces && place + r < range.end; r += kThreads / lanes) {
    Four softmax{}, slope{};
    if (c < shape.depth) {
      softmax = query.four(r, c);
      slope = slopes.four(r, c);
    }
    float along = 0;
#pragma unroll
    for (int e = 0; e < 4; ++e) along = fmaf(softmax.at[e], slope.at[e], along);
    along = sum_over(along, lanes, mask);
#pragma unroll
    for (int e = 0; e < 4; ++e) slope.at[e] = softmax.at[e] * (slope.at[e] - along);
    store_four(as<X>(task.d_maps.data) + at_map(task, range, place + r, 0) + c, slope,
               shape.depth - c, shape.whole);
  }
}

template <typename X>
__global__ void __launch_bounds__(kThreads)
    maps_back_kernel(DeviceLinearAttention task, Shape shape, int64_t slices) {
  float* shared = shared_memory();
  const int rows = kPlaces * shape.row, square = shape.lined() * shape.row;
  const SharedMatrix query{shared, shape.row}, key{shared + rows, shape.row},
      value{shared + 2 * rows, shape.row}, slope{shared + 3 * rows, shape.row};
  float* contexts = shared + 4 * rows;
  const SharedMatrix context_turned{contexts, shape.row}, d_context{contexts + square, shape.row},
      d_context_turned{contexts + 2 * square, shape.row};
  float* along = contexts + 3 * square;  // [lined], sums over places of key times its slope
  const Range range = range_of(task, slices);
  const int64_t context_at = range.which * shape.depth * shape.depth;
  load_context(task.context + context_at, shape, true, context_turned);
  load_context(task.d_context + context_at, shape, false, d_context);
  load_context(task.d_context + context_at, shape, true, d_context_turned);
  __syncthreads();
  for (int d = threadIdx.x; d < shape.lined(); d += kThreads) {
    float sum = 0;
    for (int e = 0; e < shape.depth; ++e) {
      sum = fmaf(context_turned.data[e * shape.row + d], d_context_turned.data[e * shape.row + d],
                 sum);
    }
    along[d] = sum;
  }
  const ColumnSoftmax of_keys{shape, task.statistics + range.which * 2 * shape.depth};
  for (int64_t place = range.first; place < range.end; place += kPlaces) {
    const auto at = [&](int which) {
      return [&task, &range, which](int64_t p) { return at_map(task, range, p, which); };
    };
    const X* maps = as<X>(task.maps.data);
    load_rows(maps, at(0), place, range.end, shape, query, 0.0F, RowSoftmax{shape});
    load_rows(maps, at(1), place, range.end, shape, key, 0.0F, of_keys);
    load_rows(maps, at(2), place, range.end, shape, value, 0.0F, AsTheyAre());
    load_rows(
        as<X>(task.d_mixed.data), [&](int64_t p) { return at_mixed(task, range, p); }, place,
        range.end, shape, slope, 0.0F, AsTheyAre());
    __syncthreads();
    over_tiles(shape, [&](int p, int c) {
      Tile of_value{}, of_key{};
      add_down(key, p, d_context, c, shape.lined(), of_value);
      store_tile(of_value, as<X>(task.d_maps.data), at(2), place + p, range.end, c, shape);
      add_down(value, p, d_context_turned, c, shape.lined(), of_key);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const Four keys = key.four(p + i, c);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          of_key.at[i][j] = keys.at[j] * (of_key.at[i][j] - along[c + j]);
        }
      }
      store_tile(of_key, as<X>(task.d_maps.data), at(1), place + p, range.end, c, shape);
    });
    __syncthreads();
    over_tiles(shape, [&](int p, int c) {
      Tile tile{};
      add_down(slope, p, context_turned, c, shape.lined(), tile);
      store_shared(value, p, c, tile, task.scale);
    });
    __syncthreads();
    store_query_slopes<X>(task, shape, range, place, query, value);
    __syncthreads();
  }
}

template <typename X>
bool aligned(const void* data) {
  return reinterpret_cast<uintptr_t>(data) % (4 * sizeof(X)) == 0;
}

template <typename X>
Shape shape_of(const DeviceLinearAttention& task) {
  const int depth = static_cast<int>(task.head_width);
  return shape_of(depth, depth % 4 == 0 && aligned<X>(task.maps.data) &&
                             aligned<X>(task.mixed.data) && aligned<X>(task.d_mixed.data) &&
                             aligned<X>(task.d_maps.data));
}

int64_t bytes_of(int64_t floats) { return floats * static_cast<int64_t>(sizeof(float)); }
int64_t back_floats(const Shape& shape) {
  return 4 * kPlaces * shape.row + 3 * shape.lined() * shape.row + shape.lined();
}

int64_t slices_of_result(const DeviceLinearAttention& task) {
  return parts_of(task.places, kPlaces * kTilesAtOnce);
}

template <typename X>
cudaError_t forward(const DeviceLinearAttention& task, cudaStream_t stream) {
  const Shape shape = shape_of<X>(task);
  const int64_t heads = task.frames * task.heads, slices = task.slices();
  const int64_t rows = kPlaces * shape.row;
  if (const cudaError_t status =
          launch({heads * slices, kThreads, bytes_of(2 * rows + shape.lined() + kThreads), stream},
                 context_kernel<X>, task, shape, slices);
      status != cudaSuccess) {
    return status;
  }
  if (const cudaError_t status =
          launch({heads, kThreads, 0, stream}, join_contexts_kernel, task, shape.depth, slices);
      status != cudaSuccess) {
    return status;
  }
  return launch({heads * slices_of_result(task), kThreads,
                 bytes_of(rows + shape.lined() * shape.row), stream},
                mix_kernel<X>, task, shape, slices_of_result(task));
}

template <typename X>
cudaError_t backward(const DeviceLinearAttention& task, cudaStream_t stream) {
  const Shape shape = shape_of<X>(task);
  const int64_t heads = task.frames * task.heads, slices = task.slices();
  if (const cudaError_t status =
          launch({heads * slices, kThreads, bytes_of(2 * kPlaces * shape.row), stream},
                 context_back_kernel<X>, task, shape, slices);
      status != cudaSuccess) {
    return status;
  }
  if (const cudaError_t status =
          launch({heads, kThreads, 0, stream}, join_slopes_kernel, task, shape.depth, slices);
      status != cudaSuccess) {
    return status;
  }
  return launch({heads * slices_of_result(task), kThreads, bytes_of(back_floats(shape)), stream},
                maps_back_kernel<X>, task, shape, slices_of_result(task));
}

}  // namespace

bool cuda_takes_linear_attention(const DeviceLinearAttention& task) {
  if (task.head_width > kMostDepth) return false;
  return bytes_of(back_floats(shape_of<float>(task))) <= most_shared_memory();
}

cudaError_t cuda_linear_attention(const DeviceLinearAttention& task, cudaStream_t stream) {
  return task.maps.half ? forward<Bf16>(task, stream) : forward<float>(task, stream);
}

cudaError_t cuda_linear_attention_back(const DeviceLinearAttention& task, cudaStream_t stream) {
  return task.maps.half ? backward<Bf16>(task, stream) : backward<float>(task, stream);
}

}  // namespace lf
