// See attention_kernels.h. Queries, keys and values are read once, where they lie among the rows
// (time is not made contiguous first), normed and turned on the way into shared memory; scores and
// their softmax never leave the chip. A block has one head and a part of the sequences, a few of
// them at a time, and sums the slopes of biases and scales over its part; the caller adds the parts
// in their order. Backward computes the scores again.
#include <algorithm>

#include "cuda/attention_kernels.h"
#include "cuda/tiles.h"

namespace lf {
namespace {

constexpr int kMostThreads = 256;
constexpr int kVectors = 2;       // fours of a row that a lane may hold
constexpr int kRowsAhead = 4;     // loaded before the first is used
constexpr int kSoftmaxLanes = 8;  // that share a row of scores
constexpr int kSoftmaxEach = 8;   // scores a lane holds: 64 tokens

// How a block divides its shared memory: `pack` sequences at a time, for each a matrix of
// tokens x head_width for queries, keys, values (and slopes of the result), and one of scores (and
// one of their slopes).
struct Layout {
  int tokens, padded, depth, row, score_row, pack, threads, lanes;
  bool back, whole;

  __host__ __device__ int matrix() const { return padded * row; }
  __host__ __device__ int scores() const { return padded * score_row; }
  __host__ __device__ int unit() const {
    return (back ? 4 : 3) * matrix() + (back ? 2 : 1) * scores();
  }
  // After the units: slopes of the bias, then of the scales of each warp.
  __host__ __device__ int bias_at() const { return pack * unit(); }
  __host__ __device__ int scales_at() const { return bias_at() + (back ? tokens * tokens : 0); }
  __host__ __device__ int size() const {
    return scales_at() + (back ? threads / kWarp * 2 * 4 * fours(depth) : 0);
  }
};

Layout layout_of(const DeviceAttention& task, bool back, bool whole) {
  Layout layout{};
  layout.tokens = static_cast<int>(task.tokens);
  layout.padded = 4 * fours(layout.tokens);
  layout.depth = static_cast<int>(task.head_width);
  layout.row = shared_row(layout.depth);
  layout.score_row = shared_row(layout.tokens);
  layout.back = back;
  layout.whole = whole;
  layout.lanes = lanes_of_row(layout.depth);
  // A thread for each 4 x 4 of the result.
  constexpr int kFewestThreads = 64;
  const int tiles = fours(layout.tokens) * fours(layout.depth);
  layout.pack = std::max(1, kFewestThreads / tiles);
  layout.threads = kFewestThreads;
  while (layout.threads < kMostThreads && layout.threads < layout.pack * tiles) layout.threads *= 2;
  return layout;
}

// A block's place in the work and in shared memory.
struct Block {
  const DeviceAttention& task;
  const Layout& layout;
  float* shared;
  int64_t head, chunk, first, end;  // sequences

  __device__ SharedMatrix matrix(int unit, int which) const {
    return {shared + unit * layout.unit() + which * layout.matrix(), layout.row};
  }
  __device__ SharedMatrix scores(int unit, int which) const {
    const int at = unit * layout.unit() + (layout.back ? 4 : 3) * layout.matrix();
    return {shared + at + which * layout.scores(), layout.score_row};
  }
  __device__ int64_t row(int64_t sequence, int token) const {
    return (sequence / task.inner * task.tokens + token) * task.inner + sequence % task.inner;
  }
  __device__ int64_t wide() const { return task.heads * layout.depth; }
  // Where query (0), key (1) or value (2) of a token begin in maps.
  __device__ int64_t at_map(int64_t sequence, int token, int which) const {
    return (row(sequence, token) * 3 + which) * wide() + head * layout.depth;
  }
  __device__ int64_t at_mixed(int64_t sequence, int token) const {
    return row(sequence, token) * wide() + head * layout.depth;
  }
};

__device__ Block block_of(const DeviceAttention& task, const Layout& layout, int64_t chunks,
                          float* shared) {
  const int64_t chunk = blockIdx.x / task.heads, sequences = task.outer * task.inner;
  const int64_t each = (sequences + chunks - 1) / chunks;
  const int64_t end = (chunk + 1) * each < sequences ? (chunk + 1) * each : sequences;
  return {task,  layout,       shared, static_cast<int64_t>(blockIdx.x) % task.heads,
          chunk, chunk * each, end};
}

// A row of a query or key in the registers of the lanes that share it.
struct LaneRow {
  Four part[kVectors];
};

template <typename X>
__device__ LaneRow load_lanes(const X* from, const Layout& layout, int lane) {
  LaneRow row;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const int c = 4 * (lane + v * layout.lanes);
    row.part[v] = load_four(from + c, layout.depth - c, layout.whole);
  }
  return row;
}

__device__ float product_of(const LaneRow& a, const LaneRow& b, int lanes, unsigned mask) {
  float sum = 0;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
#pragma unroll
    for (int e = 0; e < 4; ++e) sum = fmaf(a.part[v].at[e], b.part[v].at[e], sum);
  }
  return sum_over(sum, lanes, mask);
}

__device__ void multiply(LaneRow& row, float factor) {
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
#pragma unroll
    for (int e = 0; e < 4; ++e) row.part[v].at[e] *= factor;
  }
}

__device__ void multiply(LaneRow& row, const LaneRow& factors) {
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
#pragma unroll
    for (int e = 0; e < 4; ++e) row.part[v].at[e] *= factors.part[v].at[e];
  }
}

// Turns the first pairs by the angles of `token`, or back.
__device__ void turn(LaneRow& row, const DeviceAttention& task, const Layout& layout, int token,
                     int lane, bool back) {
  if (task.rotary == nullptr) return;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t pair = 2 * (lane + v * layout.lanes) + half;
      if (pair >= task.pairs) continue;
      const float* angle = task.rotary + (token * task.pairs + pair) * 2;
      const float cosine = angle[0], sine = back ? -angle[1] : angle[1];
      float &a = row.part[v].at[2 * half], &b = row.part[v].at[2 * half + 1];
      const float turned = a * cosine - b * sine;
      b = fmaf(b, cosine, a * sine);
      a = turned;
    }
  }
}

__device__ void keep(const LaneRow& row, float* to, const Layout& layout, int lane) {
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const int c = 4 * (lane + v * layout.lanes);
    if (c < 4 * fours(layout.depth)) store_whole(to + c, row.part[v]);
  }
}

// Rows of `units` sequences into matrix `which`; `at` says where a token's row begins. `scale` is
// that of queries or keys; nullptr and turned false: as they are.
template <typename X, typename At>
__device__ void load_rows(const Block& block, int64_t sequence, int units, int which, const X* from,
                          const At& at, const float* scale, bool turned, float factor) {
  const Layout& layout = block.layout;
  const int lane = threadIdx.x % layout.lanes, groups = layout.threads / layout.lanes;
  const unsigned mask = mask_of_group(layout.lanes);
  const int rows = units * layout.padded;
  LaneRow scales{};
  if (scale != nullptr) {
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      const int c = 4 * (lane + v * layout.lanes);
      scales.part[v] = load_four(scale + c, layout.depth - c, false);
    }
  }
  for (int base = threadIdx.x / layout.lanes; base < rows; base += kRowsAhead * groups) {
    LaneRow ahead[kRowsAhead];
#pragma unroll
    for (int i = 0; i < kRowsAhead; ++i) {
      const int r = base + i * groups, token = r % layout.padded;
      ahead[i] = LaneRow{};
      if (r < rows && token < layout.tokens) {
        ahead[i] = load_lanes(from + at(sequence + r / layout.padded, token), layout, lane);
      }
    }
#pragma unroll
    for (int i = 0; i < kRowsAhead; ++i) {
      const int r = base + i * groups, token = r % layout.padded;
      if (r >= rows) break;
      LaneRow& row = ahead[i];
      if (scale != nullptr) {
        const float length = sqrtf(product_of(row, row, layout.lanes, mask));
        multiply(row, 1.0F / fmaxf(length, 1e-12F));
        multiply(row, scales);
      }
      if (turned && token < layout.tokens) turn(row, block.task, layout, token, lane, false);
      if (factor != 1.0F) multiply(row, factor);
      keep(row, block.matrix(r / layout.padded, which).data + token * layout.row, layout, lane);
    }
  }
}

template <typename X>
__device__ void load_maps(const Block& block, int64_t sequence, int units) {
  const DeviceAttention& task = block.task;
  const X* maps = as<X>(task.maps.data);
  const auto at = [&](int which) {
    return [&block, which](int64_t s, int token) { return block.at_map(s, token, which); };
  };
  load_rows(block, sequence, units, 0, maps, at(0), task.query_scale, true, task.scale);
  load_rows(block, sequence, units, 1, maps, at(1), task.key_scale, true, 1.0F);
  load_rows(block, sequence, units, 2, maps, at(2), nullptr, false, 1.0F);
}

// scores `to` = matrix `left` times matrix `right` turned round.
__device__ void score(const Block& block, int units, int left, int right, int to) {
  const Layout& layout = block.layout;
  const int side = layout.padded / 4, tiles = side * side;
  for (int i = threadIdx.x; i < units * tiles; i += layout.threads) {
    const int unit = i / tiles, m = i % tiles / side, n = i % side;
    Tile tile{};
    add_across(block.matrix(unit, left), m, side, block.matrix(unit, right), n, side,
               4 * fours(layout.depth), tile);
    const SharedMatrix scores = block.scores(unit, to);
#pragma unroll
    for (int r = 0; r < 4; ++r) {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        scores.data[(m + r * side) * scores.row + n + c * side] = tile.at[r][c];
      }
    }
  }
}

// Scores to probabilities in place; backward also their slopes to those of the scores.
__device__ void softmax(const Block& block, int64_t sequence, int units) {
  const DeviceAttention& task = block.task;
  const Layout& layout = block.layout;
  const int tokens = layout.tokens, lane = threadIdx.x % kSoftmaxLanes;
  const unsigned mask = mask_of_group(kSoftmaxLanes);
  for (int r = threadIdx.x / kSoftmaxLanes; r < units * tokens;
       r += layout.threads / kSoftmaxLanes) {
    const int unit = r / tokens, token = r % tokens;
    float* scores = block.scores(unit, 0).data + token * layout.score_row;
    const float* bias =
        task.bias == nullptr ? nullptr : task.bias + (block.head * tokens + token) * tokens;
    const float* seen =
        task.mask == nullptr
            ? nullptr
            : task.mask + ((sequence + unit) / task.inner * tokens + token) * tokens;
    float value[kSoftmaxEach], most = -INFINITY;
#pragma unroll
    for (int i = 0; i < kSoftmaxEach; ++i) {
      const int j = lane + i * kSoftmaxLanes;
      value[i] = -INFINITY;
      if (j >= tokens) continue;
      value[i] = scores[j];
      if (bias != nullptr) value[i] += bias[j];
      if (seen != nullptr) value[i] += seen[j];
      most = fmaxf(most, value[i]);
    }
    most = greatest_over(most, kSoftmaxLanes, mask);
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kSoftmaxEach; ++i) {
      value[i] = lane + i * kSoftmaxLanes < tokens ? expf(value[i] - most) : 0.0F;
      sum += value[i];
    }
    const float factor = 1.0F / sum_over(sum, kSoftmaxLanes, mask);
#pragma unroll
    for (int i = 0; i < kSoftmaxEach; ++i) {
      value[i] *= factor;
      const int j = lane + i * kSoftmaxLanes;
      if (j < layout.padded) scores[j] = value[i];
    }
    if (!layout.back) continue;
    float* slopes = block.scores(unit, 1).data + token * layout.score_row;
    float slope[kSoftmaxEach], along = 0;
#pragma unroll
    for (int i = 0; i < kSoftmaxEach; ++i) {
      const int j = lane + i * kSoftmaxLanes;
      slope[i] = j < tokens ? slopes[j] : 0.0F;
      along = fmaf(slope[i], value[i], along);
    }
    along = sum_over(along, kSoftmaxLanes, mask);
#pragma unroll
    for (int i = 0; i < kSoftmaxEach; ++i) {
      const int j = lane + i * kSoftmaxLanes;
      if (j < layout.padded) slopes[j] = value[i] * (slope[i] - along);
    }
  }
}

// body(unit, token, number) for each 4 x 4 of tokens x head_width of each unit.
template <typename Body>
__device__ void over_tiles(const Block& block, int units, const Body& body) {
  const int down = block.layout.padded / 4, across = fours(block.layout.depth);
  for (int i = threadIdx.x; i < units * down * across; i += block.layout.threads) {
    body(i / (down * across), 4 * (i % (down * across) / across), 4 * (i % across));
  }
}

template <typename X, typename At>
__device__ void store_tile(const Block& block, const Tile& tile, X* to, const At& at, int token,
                           int c) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (token + i >= block.layout.tokens) break;
    store_four(to + at(token + i) + c,
               {{tile.at[i][0], tile.at[i][1], tile.at[i][2], tile.at[i][3]}},
               block.layout.depth - c, block.layout.whole);
  }
}

template <typename X>
__global__ void __launch_bounds__(kMostThreads)
    attention_kernel(DeviceAttention task, Layout layout, int64_t chunks) {
  extern __shared__ float4 shared_memory[];
  const Block block = block_of(task, layout, chunks, reinterpret_cast<float*>(shared_memory));
  for (int64_t sequence = block.first; sequence < block.end; sequence += layout.pack) {
    const int units =
        static_cast<int>(block.end - sequence < layout.pack ? block.end - sequence : layout.pack);
    load_maps<X>(block, sequence, units);
    __syncthreads();
    score(block, units, 0, 1, 0);
    __syncthreads();
    softmax(block, sequence, units);
    __syncthreads();
    over_tiles(block, units, [&](int unit, int token, int c) {
      Tile tile{};
      add_down(block.scores(unit, 0), token, block.matrix(unit, 2), c, layout.padded, tile);
      store_tile(
          block, tile, as<X>(task.mixed.data),
          [&](int t) { return block.at_mixed(sequence + unit, t); }, token, c);
    });
    __syncthreads();
  }
}

// From the slopes of normed and turned queries (which = 0) or keys (1), which lie in matrix
// `slopes`, to those of the maps; the slopes of the scales are added to the warp's.
template <typename X>
__device__ void store_slopes(const Block& block, int64_t sequence, int units, int which, int slopes,
                             const float* scale) {
  const DeviceAttention& task = block.task;
  const Layout& layout = block.layout;
  const int lane = threadIdx.x % layout.lanes, groups = layout.threads / layout.lanes;
  const unsigned mask = mask_of_group(layout.lanes);
  LaneRow scales{}, sums{};
  if (scale != nullptr) {
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      const int c = 4 * (lane + v * layout.lanes);
      scales.part[v] = load_four(scale + c, layout.depth - c, false);
    }
  }
  for (int r = threadIdx.x / layout.lanes; r < units * layout.tokens; r += groups) {
    const int unit = r / layout.tokens, token = r % layout.tokens;
    const float* from = block.matrix(unit, slopes).data + token * layout.row;
    LaneRow slope;
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      const int c = 4 * (lane + v * layout.lanes);
      slope.part[v] = c < layout.depth ? load_whole(from + c) : Four{};
    }
    turn(slope, task, layout, token, lane, true);
    const int64_t at = block.at_map(sequence + unit, token, which);
    if (scale != nullptr) {
      LaneRow normal = load_lanes(as<X>(task.maps.data) + at, layout, lane);
      const float length = sqrtf(product_of(normal, normal, layout.lanes, mask));
      const float factor = 1.0F / fmaxf(length, 1e-12F);
      multiply(normal, factor);
#pragma unroll
      for (int v = 0; v < kVectors; ++v) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          sums.part[v].at[e] = fmaf(slope.part[v].at[e], normal.part[v].at[e], sums.part[v].at[e]);
        }
      }
      multiply(slope, scales);
      float along = product_of(slope, normal, layout.lanes, mask);
      if (length < 1e-12F) along = 0;  // divided by a constant then
#pragma unroll
      for (int v = 0; v < kVectors; ++v) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          slope.part[v].at[e] = fmaf(-along, normal.part[v].at[e], slope.part[v].at[e]) * factor;
        }
      }
    }
    X* to = as<X>(task.d_maps.data) + at;
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      const int c = 4 * (lane + v * layout.lanes);
      store_four(to + c, slope.part[v], layout.depth - c, layout.whole);
    }
  }
  if (scale == nullptr) return;
  __syncwarp();
  float* warp_sums = block.shared + layout.scales_at() +
                     (threadIdx.x / kWarp * 2 + which) * 4 * fours(layout.depth);
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const int c = 4 * (lane + v * layout.lanes);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      for (int offset = layout.lanes; offset < kWarp; offset *= 2) {
        sums.part[v].at[e] += __shfl_xor_sync(0xffffffffU, sums.part[v].at[e], offset);
      }
      if (static_cast<int>(threadIdx.x) % kWarp < layout.lanes && c + e < layout.depth) {
        warp_sums[c + e] += sums.part[v].at[e];
      }
    }
  }
}

__device__ void store_sums(const Block& block) {
  const DeviceAttention& task = block.task;
  const Layout& layout = block.layout;
  const int64_t part = block.chunk * task.heads + block.head;
  const int square = layout.tokens * layout.tokens;
  if (task.bias_sums != nullptr) {
    for (int i = threadIdx.x; i < square; i += layout.threads) {
      task.bias_sums[part * square + i] = block.shared[layout.bias_at() + i];
    }
  }
  if (task.scale_sums == nullptr) return;
  const int lined = 4 * fours(layout.depth);
  for (int i = threadIdx.x; i < 2 * layout.depth; i += layout.threads) {
    const int which = i / layout.depth, c = i % layout.depth;
    float sum = 0;
    for (int warp = 0; warp < layout.threads / kWarp; ++warp) {
      sum += block.shared[layout.scales_at() + (warp * 2 + which) * lined + c];
    }
    task.scale_sums[part * 2 * layout.depth + i] = sum;
  }
}

template <typename X>
__global__ void __launch_bounds__(kMostThreads)
    attention_back_kernel(DeviceAttention task, Layout layout, int64_t chunks) {
  extern __shared__ float4 shared_memory[];
  float* shared = reinterpret_cast<float*>(shared_memory);
  const Block block = block_of(task, layout, chunks, shared);
  for (int i = layout.bias_at() + threadIdx.x; i < layout.size(); i += layout.threads) {
    shared[i] = 0;
  }
  const int square = layout.tokens * layout.tokens;
  for (int64_t sequence = block.first; sequence < block.end; sequence += layout.pack) {
    const int units =
        static_cast<int>(block.end - sequence < layout.pack ? block.end - sequence : layout.pack);
    load_maps<X>(block, sequence, units);
    load_rows(
        block, sequence, units, 3, as<X>(task.d_mixed.data),
        [&](int64_t s, int token) { return block.at_mixed(s, token); }, nullptr, false, 1.0F);
    __syncthreads();
    score(block, units, 0, 1, 0);
    score(block, units, 3, 2, 1);
    __syncthreads();
    softmax(block, sequence, units);
    __syncthreads();
    // Values are read no more: slopes of queries take their place.
    over_tiles(block, units, [&](int unit, int token, int c) {
      Tile value{}, query{};
      add_turned(block.scores(unit, 0), token, block.matrix(unit, 3), c, layout.padded, value);
      store_tile(
          block, value, as<X>(task.d_maps.data),
          [&](int t) { return block.at_map(sequence + unit, t, 2); }, token, c);
      add_down(block.scores(unit, 1), token, block.matrix(unit, 1), c, layout.padded, query);
      store_shared(block.matrix(unit, 2), token, c, query, task.scale);
    });
    if (task.bias_sums != nullptr) {
      for (int i = threadIdx.x; i < square; i += layout.threads) {
        const int at = i / layout.tokens * layout.score_row + i % layout.tokens;
        for (int unit = 0; unit < units; ++unit) {
          shared[layout.bias_at() + i] += block.scores(unit, 1).data[at];
        }
      }
    }
    __syncthreads();
    over_tiles(block, units, [&](int unit, int token, int c) {
      Tile key{};
      add_turned(block.scores(unit, 1), token, block.matrix(unit, 0), c, layout.padded, key);
      store_shared(block.matrix(unit, 3), token, c, key, 1.0F);
    });
    __syncthreads();
    store_slopes<X>(block, sequence, units, 0, 2, task.query_scale);
    store_slopes<X>(block, sequence, units, 1, 3, task.key_scale);
    __syncthreads();
  }
  store_sums(block);
}

template <typename X>
bool aligned(const void* data) {
  return reinterpret_cast<uintptr_t>(data) % (4 * sizeof(X)) == 0;
}

template <typename X>
cudaError_t forward(const DeviceAttention& task, cudaStream_t stream) {
  const bool whole =
      task.head_width % 4 == 0 && aligned<X>(task.maps.data) && aligned<X>(task.mixed.data);
  const Layout layout = layout_of(task, false, whole);
  constexpr int64_t kBlocks = 8448;
  const int64_t chunks =
      std::max<int64_t>(1, std::min(parts_of(task.sequences(), layout.pack), kBlocks / task.heads));
  return launch({chunks * task.heads, layout.threads,
                 static_cast<int64_t>(layout.size() * sizeof(float)), stream},
                attention_kernel<X>, task, layout, chunks);
}

template <typename X>
cudaError_t backward(const DeviceAttention& task, cudaStream_t stream) {
  const bool whole = task.head_width % 4 == 0 && aligned<X>(task.maps.data) &&
                     aligned<X>(task.d_mixed.data) && aligned<X>(task.d_maps.data);
  const Layout layout = layout_of(task, true, whole);
  return launch({task.chunks() * task.heads, layout.threads,
                 static_cast<int64_t>(layout.size() * sizeof(float)), stream},
                attention_back_kernel<X>, task, layout, task.chunks());
}

}  // namespace

bool cuda_takes_attention(const DeviceAttention& task) {
  if (task.tokens > kSoftmaxLanes * kSoftmaxEach || task.head_width > 4 * kWarp * kVectors) {
    return false;
  }
  int device = 0, most = 0;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) !=
          cudaSuccess) {
    return false;
  }
  return static_cast<int64_t>(layout_of(task, true, true).size() * sizeof(float)) <= most;
}

cudaError_t cuda_attention(const DeviceAttention& task, cudaStream_t stream) {
  return task.maps.half ? forward<Bf16>(task, stream) : forward<float>(task, stream);
}

cudaError_t cuda_attention_back(const DeviceAttention& task, cudaStream_t stream) {
  return task.maps.half ? backward<Bf16>(task, stream) : backward<float>(task, stream);
}

}  // namespace lf
