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
constexpr int kRowsAhead = 4;     // loaded before the first is used
constexpr int kSoftmaxLanes = 8;  // that share a row of scores
constexpr int kSoftmaxMost = 8;   // scores a lane holds at most: 64 tokens
constexpr int kMostUnits = 64;    // sequences at a time

// How a block divides its shared memory: `pack` sequences at a time, for each a matrix of
// tokens x head_width for queries, keys, values (and slopes of the result), and one of scores (and
// one of their slopes).
struct Layout {
  int tokens, padded, depth, row, score_row, pack, threads, lanes;
  bool back, whole;
  Divisor by_padded, by_tokens, by_side, by_square, by_across, by_result;

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
  const int side = fours(layout.tokens);
  layout.by_padded = Divisor::of(layout.padded);
  layout.by_tokens = Divisor::of(layout.tokens);
  layout.by_side = Divisor::of(side);
  layout.by_square = Divisor::of(side * side);
  layout.by_across = Divisor::of(fours(layout.depth));
  layout.by_result = Divisor::of(tiles);
  return layout;
}

// A block's place in the work and in shared memory.
struct Block {
  const DeviceAttention& task;
  const Layout& layout;
  float* shared;
  int64_t* first_rows;              // of the sequences in hand
  int64_t head, chunk, first, end;  // sequences

  __device__ SharedMatrix matrix(int unit, int which) const {
    return {shared + unit * layout.unit() + which * layout.matrix(), layout.row};
  }
  __device__ SharedMatrix scores(int unit, int which) const {
    const int at = unit * layout.unit() + (layout.back ? 4 : 3) * layout.matrix();
    return {shared + at + which * layout.scores(), layout.score_row};
  }
  __device__ int64_t row(int unit, int token) const {
    return first_rows[unit] + token * task.inner;
  }
  __device__ int64_t wide() const { return task.heads * layout.depth; }
  // Where query (0), key (1) or value (2) of a token begin in maps.
  __device__ int64_t at_map(int unit, int token, int which) const {
    return (row(unit, token) * 3 + which) * wide() + head * layout.depth;
  }
  __device__ int64_t at_mixed(int unit, int token) const {
    return row(unit, token) * wide() + head * layout.depth;
  }
  // Takes the sequences from `sequence` on in hand; gives how many.
  __device__ int take(int64_t sequence) const {
    const int units = static_cast<int>(end - sequence < layout.pack ? end - sequence : layout.pack);
    if (static_cast<int>(threadIdx.x) < units) {
      const int64_t s = sequence + threadIdx.x, outer = s / task.inner;
      first_rows[threadIdx.x] = outer * task.tokens * task.inner + s - outer * task.inner;
    }
    __syncthreads();
    return units;
  }
};

__device__ Block block_of(const DeviceAttention& task, const Layout& layout, int64_t chunks,
                          float* shared, int64_t* first_rows) {
  const int64_t chunk = blockIdx.x / task.heads, sequences = task.outer * task.inner;
  const int64_t each = (sequences + chunks - 1) / chunks;
  const int64_t end = (chunk + 1) * each < sequences ? (chunk + 1) * each : sequences;
  return {task,  layout,       shared, first_rows, static_cast<int64_t>(blockIdx.x) % task.heads,
          chunk, chunk * each, end};
}

__device__ float product_of(const Four& a, const Four& b, int lanes, unsigned mask) {
  float sum = 0;
#pragma unroll
  for (int e = 0; e < 4; ++e) sum = fmaf(a.at[e], b.at[e], sum);
  return sum_over(sum, lanes, mask);
}

__device__ void multiply(Four& row, float factor) {
#pragma unroll
  for (int e = 0; e < 4; ++e) row.at[e] *= factor;
}

__device__ void multiply(Four& row, const Four& factors) {
#pragma unroll
  for (int e = 0; e < 4; ++e) row.at[e] *= factors.at[e];
}

// Turns the first pairs by the angles of `token`, or back.
__device__ void turn(Four& row, const DeviceAttention& task, int token, int lane, bool back) {
  if (task.rotary == nullptr) return;
  const int pairs = static_cast<int>(task.pairs);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int pair = 2 * lane + half;
    if (pair >= pairs) continue;
    const float* angle = task.rotary + (token * pairs + pair) * 2;
    const float cosine = angle[0], sine = back ? -angle[1] : angle[1];
    float &a = row.at[2 * half], &b = row.at[2 * half + 1];
    const float turned = a * cosine - b * sine;
    b = fmaf(b, cosine, a * sine);
    a = turned;
  }
}

// Rows of `units` sequences into matrix `which`, four numbers a lane; `at` says where a token's row
// begins. `scale` is that of queries or keys; nullptr and turned false: as they are.
template <typename X, typename At>
__device__ void load_rows(const Block& block, int units, int which, const X* from, const At& at,
                          const float* scale, bool turned, float factor) {
  const Layout& layout = block.layout;
  const int lane = threadIdx.x % layout.lanes, groups = layout.threads / layout.lanes;
  const unsigned mask = mask_of_group(layout.lanes);
  const int rows = units * layout.padded, c = 4 * lane, count = layout.depth - c;
  Four scales{};
  if (scale != nullptr) scales = load_four(scale + c, count, false);
  for (int base = threadIdx.x / layout.lanes; base < rows; base += kRowsAhead * groups) {
    Four ahead[kRowsAhead];
#pragma unroll
    for (int i = 0; i < kRowsAhead; ++i) {
      const int r = base + i * groups, unit = layout.by_padded.quotient(r);
      const int token = r - unit * layout.padded;
      ahead[i] = Four{};
      if (r < rows && token < layout.tokens && count > 0) {
        ahead[i] = load_four(from + at(unit, token) + c, count, layout.whole);
      }
    }
#pragma unroll
    for (int i = 0; i < kRowsAhead; ++i) {
      const int r = base + i * groups, unit = layout.by_padded.quotient(r);
      const int token = r - unit * layout.padded;
      if (r >= rows) break;
      Four& row = ahead[i];
      if (scale != nullptr) {
        multiply(row, over_length(product_of(row, row, layout.lanes, mask)));
        multiply(row, scales);
      }
      if (turned && token < layout.tokens) turn(row, block.task, token, lane, false);
      if (factor != 1.0F) multiply(row, factor);
      if (count > 0) store_whole(block.matrix(unit, which).data + token * layout.row + c, row);
    }
  }
}

template <typename X>
__device__ void load_maps(const Block& block, int units) {
  const DeviceAttention& task = block.task;
  const X* maps = as<X>(task.maps.data);
  const auto at = [&](int which) {
    return [&block, which](int unit, int token) { return block.at_map(unit, token, which); };
  };
  load_rows(block, units, 0, maps, at(0), task.query_scale, true, task.scale);
  load_rows(block, units, 1, maps, at(1), task.key_scale, true, 1.0F);
  load_rows(block, units, 2, maps, at(2), nullptr, false, 1.0F);
}

// scores `to` = matrix `left` times matrix `right` turned round.
__device__ void score(const Block& block, int units, int left, int right, int to) {
  const Layout& layout = block.layout;
  const int side = layout.padded / 4, tiles = side * side;
  for (int i = threadIdx.x; i < units * tiles; i += layout.threads) {
    const int unit = layout.by_square.quotient(i), rest = i - unit * tiles;
    const int m = layout.by_side.quotient(rest), n = rest - m * side;
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
template <int kEach>
__device__ void softmax(const Block& block, int64_t sequence, int units) {
  const DeviceAttention& task = block.task;
  const Layout& layout = block.layout;
  const int tokens = layout.tokens, lane = threadIdx.x % kSoftmaxLanes;
  const unsigned mask = mask_of_group(kSoftmaxLanes);
  for (int r = threadIdx.x / kSoftmaxLanes; r < units * tokens;
       r += layout.threads / kSoftmaxLanes) {
    const int unit = layout.by_tokens.quotient(r), token = r - unit * tokens;
    float* scores = block.scores(unit, 0).data + token * layout.score_row;
    const float* bias =
        task.bias == nullptr ? nullptr : task.bias + (block.head * tokens + token) * tokens;
    const float* seen =
        task.mask == nullptr
            ? nullptr
            : task.mask + ((sequence + unit) / task.inner * tokens + token) * tokens;
    float value[kEach], most = -INFINITY;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
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
    for (int i = 0; i < kEach; ++i) {
      value[i] = lane + i * kSoftmaxLanes < tokens ? __expf(value[i] - most) : 0.0F;
      sum += value[i];
    }
    const float factor = 1.0F / sum_over(sum, kSoftmaxLanes, mask);
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      value[i] *= factor;
      const int j = lane + i * kSoftmaxLanes;
      if (j < layout.padded) scores[j] = value[i];
    }
    if (!layout.back) continue;
    float* slopes = block.scores(unit, 1).data + token * layout.score_row;
    float slope[kEach], along = 0;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int j = lane + i * kSoftmaxLanes;
      slope[i] = j < tokens ? slopes[j] : 0.0F;
      along = fmaf(slope[i], value[i], along);
    }
    along = sum_over(along, kSoftmaxLanes, mask);
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
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
    const int unit = block.layout.by_result.quotient(i), rest = i - unit * down * across;
    const int m = block.layout.by_across.quotient(rest);
    body(unit, 4 * m, 4 * (rest - m * across));
  }
}

// `to` is where the row of `token` begins, rows of neighbouring tokens lie inner * wide apart.
template <typename X>
__device__ void store_tile(const Block& block, const Tile& tile, X* to, int64_t wide, int token,
                           int c) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (token + i >= block.layout.tokens) break;
    store_four(to + i * block.task.inner * wide + c,
               {{tile.at[i][0], tile.at[i][1], tile.at[i][2], tile.at[i][3]}},
               block.layout.depth - c, block.layout.whole);
  }
}

template <typename X, int kEach>
__global__ void __launch_bounds__(kMostThreads)
    attention_kernel(DeviceAttention task, Layout layout, int64_t chunks) {
  __shared__ int64_t first_rows[kMostUnits];
  const Block block = block_of(task, layout, chunks, shared_memory(), first_rows);
  for (int64_t sequence = block.first; sequence < block.end; sequence += layout.pack) {
    const int units = block.take(sequence);
    load_maps<X>(block, units);
    __syncthreads();
    score(block, units, 0, 1, 0);
    __syncthreads();
    softmax<kEach>(block, sequence, units);
    __syncthreads();
    over_tiles(block, units, [&](int unit, int token, int c) {
      Tile tile{};
      add_down(block.scores(unit, 0), token, block.matrix(unit, 2), c, layout.padded, tile);
      store_tile(block, tile, as<X>(task.mixed.data) + block.at_mixed(unit, token), block.wide(),
                 token, c);
    });
    __syncthreads();
  }
}

// From the slopes of normed and turned queries (which = 0) or keys (1), which lie in matrix
// `slopes`, to those of the maps; the slopes of the scales are added to the warp's.
template <typename X>
__device__ void store_slopes(const Block& block, int units, int which, int slopes,
                             const float* scale) {
  const DeviceAttention& task = block.task;
  const Layout& layout = block.layout;
  const int lane = threadIdx.x % layout.lanes, groups = layout.threads / layout.lanes;
  const unsigned mask = mask_of_group(layout.lanes);
  const int c = 4 * lane, count = layout.depth - c;
  Four scales{}, sums{};
  if (scale != nullptr) scales = load_four(scale + c, count, false);
  for (int r = threadIdx.x / layout.lanes; r < units * layout.tokens; r += groups) {
    const int unit = layout.by_tokens.quotient(r), token = r - unit * layout.tokens;
    const int64_t at = block.at_map(unit, token, which) + c;
    Four slope{}, normal{};
    if (count > 0) slope = block.matrix(unit, slopes).four(token, c);
    turn(slope, task, token, lane, true);
    if (scale != nullptr) {
      if (count > 0) normal = load_four(as<X>(task.maps.data) + at, count, layout.whole);
      const float square = product_of(normal, normal, layout.lanes, mask);
      const float factor = over_length(square);
      multiply(normal, factor);
#pragma unroll
      for (int e = 0; e < 4; ++e) sums.at[e] = fmaf(slope.at[e], normal.at[e], sums.at[e]);
      multiply(slope, scales);
      float along = product_of(slope, normal, layout.lanes, mask);
      if (square < 1e-24F) along = 0;  // divided by a constant then
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        slope.at[e] = fmaf(-along, normal.at[e], slope.at[e]) * factor;
      }
    }
    store_four(as<X>(task.d_maps.data) + at, slope, count, layout.whole);
  }
  if (scale == nullptr) return;
  __syncwarp();
  float* warp_sums = block.shared + layout.scales_at() +
                     (threadIdx.x / kWarp * 2 + which) * 4 * fours(layout.depth);
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    for (int offset = layout.lanes; offset < kWarp; offset *= 2) {
      sums.at[e] += __shfl_xor_sync(0xffffffffU, sums.at[e], offset);
    }
    if (static_cast<int>(threadIdx.x) % kWarp < layout.lanes && e < count) {
      warp_sums[c + e] += sums.at[e];
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

template <typename X, int kEach>
__global__ void __launch_bounds__(kMostThreads)
    attention_back_kernel(DeviceAttention task, Layout layout, int64_t chunks) {
  __shared__ int64_t first_rows[kMostUnits];
  float* shared = shared_memory();
  const Block block = block_of(task, layout, chunks, shared, first_rows);
  for (int i = layout.bias_at() + threadIdx.x; i < layout.size(); i += layout.threads) {
    shared[i] = 0;
  }
  const int tokens = layout.tokens;
  for (int64_t sequence = block.first; sequence < block.end; sequence += layout.pack) {
    const int units = block.take(sequence);
    load_maps<X>(block, units);
    load_rows(
        block, units, 3, as<X>(task.d_mixed.data),
        [&](int unit, int token) { return block.at_mixed(unit, token); }, nullptr, false, 1.0F);
    __syncthreads();
    score(block, units, 0, 1, 0);
    score(block, units, 3, 2, 1);
    __syncthreads();
    softmax<kEach>(block, sequence, units);
    __syncthreads();
    // Values are read no more: slopes of queries take their place.
    over_tiles(block, units, [&](int unit, int token, int c) {
      Tile value{}, query{};
      add_turned(block.scores(unit, 0), token, block.matrix(unit, 3), c, layout.padded, value);
      store_tile(block, value, as<X>(task.d_maps.data) + block.at_map(unit, token, 2),
                 3 * block.wide(), token, c);
      add_down(block.scores(unit, 1), token, block.matrix(unit, 1), c, layout.padded, query);
      store_shared(block.matrix(unit, 2), token, c, query, task.scale);
    });
    if (task.bias_sums != nullptr) {
      for (int i = threadIdx.x; i < tokens * tokens; i += layout.threads) {
        const int r = layout.by_tokens.quotient(i), at = r * layout.score_row + i - r * tokens;
        float sum = shared[layout.bias_at() + i];
        for (int unit = 0; unit < units; ++unit) sum += block.scores(unit, 1).data[at];
        shared[layout.bias_at() + i] = sum;
      }
    }
    __syncthreads();
    over_tiles(block, units, [&](int unit, int token, int c) {
      Tile key{};
      add_turned(block.scores(unit, 1), token, block.matrix(unit, 0), c, layout.padded, key);
      store_shared(block.matrix(unit, 3), token, c, key, 1.0F);
    });
    __syncthreads();
    store_slopes<X>(block, units, 0, 2, task.query_scale);
    store_slopes<X>(block, units, 1, 3, task.key_scale);
    __syncthreads();
  }
  store_sums(block);
}

template <typename X>
bool aligned(const void* data) {
  return reinterpret_cast<uintptr_t>(data) % (4 * sizeof(X)) == 0;
}

// run<how many scores a lane of softmax holds>().
template <typename Run>
cudaError_t of_tokens(int64_t tokens, const Run& run) {
  if (tokens <= kSoftmaxLanes) return run.template operator()<1>();
  if (tokens <= 2 * kSoftmaxLanes) return run.template operator()<2>();
  if (tokens <= 4 * kSoftmaxLanes) return run.template operator()<4>();
  return run.template operator()<kSoftmaxMost>();
}

int64_t bytes_of(const Layout& layout) {
  return layout.size() * static_cast<int64_t>(sizeof(float));
}

template <typename X>
cudaError_t forward(const DeviceAttention& task, cudaStream_t stream) {
  const bool whole =
      task.head_width % 4 == 0 && aligned<X>(task.maps.data) && aligned<X>(task.mixed.data);
  const Layout layout = layout_of(task, false, whole);
  constexpr int64_t kBlocks = 8448;
  const int64_t chunks =
      std::max<int64_t>(1, std::min(parts_of(task.sequences(), layout.pack), kBlocks / task.heads));
  return of_tokens(task.tokens, [&]<int kEach>() {
    return launch({chunks * task.heads, layout.threads, bytes_of(layout), stream},
                  attention_kernel<X, kEach>, task, layout, chunks);
  });
}

template <typename X>
cudaError_t backward(const DeviceAttention& task, cudaStream_t stream) {
  const bool whole = task.head_width % 4 == 0 && aligned<X>(task.maps.data) &&
                     aligned<X>(task.d_mixed.data) && aligned<X>(task.d_maps.data);
  const Layout layout = layout_of(task, true, whole);
  return of_tokens(task.tokens, [&]<int kEach>() {
    return launch({task.chunks() * task.heads, layout.threads, bytes_of(layout), stream},
                  attention_back_kernel<X, kEach>, task, layout, task.chunks());
  });
}

}  // namespace

bool cuda_takes_attention(const DeviceAttention& task) {
  if (task.tokens > kSoftmaxLanes * kSoftmaxMost || task.head_width > 4 * kWarp) return false;
  constexpr int64_t kOfItsOwn = kMostUnits * sizeof(int64_t);
  return bytes_of(layout_of(task, true, true)) + kOfItsOwn <= most_shared_memory();
}

cudaError_t cuda_attention(const DeviceAttention& task, cudaStream_t stream) {
  return task.maps.half ? forward<Bf16>(task, stream) : forward<float>(task, stream);
}

cudaError_t cuda_attention_back(const DeviceAttention& task, cudaStream_t stream) {
  return task.maps.half ? backward<Bf16>(task, stream) : backward<float>(task, stream);
}

}  // namespace lf
