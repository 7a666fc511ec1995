// What both passes of attention share: how a block divides its shared memory among sequences, the
// loads that norm and rotate queries and keys on the way there, scores and their softmax. For
// attention_kernels.cu and attention_back_kernels.cu; for nvcc only.
#pragma once

#include <algorithm>

#include "cuda/attention_kernels.h"
#include "cuda/tiles.h"

namespace lf::attention_blocks {

constexpr int kMostThreads = 256;
constexpr int kRowsAhead = 4;     // loaded before the first is used
constexpr int kSoftmaxLanes = 8;  // that share a row of scores
constexpr int kSoftmaxMost = 8;   // scores a lane holds at most: 64 tokens
constexpr int kMostUnits = 64;    // sequences at a time

// The matrices of a sequence in shared memory, each tokens x head_width. Backward overwrites values
// and result gradients, once they are read, by the gradients of queries and keys.
enum Matrix {
  kQuery,
  kKey,
  kValue,
  kResultGradient,
  kQueryGradient = kValue,
  kKeyGradient = kResultGradient
};
// And those of tokens x tokens. kProbabilities: scores until softmax() is through with them.
enum Scores { kProbabilities, kScoreGradient };

// How a block divides its shared memory: `pack` sequences ("units") at a time, for each the
// matrices above, of which forward has neither of the gradients.
struct Layout {
  int tokens, padded, depth, row, score_row, pack, threads, lanes;
  bool back, aligned;
  Divisor by_padded, by_tokens, by_side, by_square, by_across, by_result;

  __host__ __device__ int matrix() const { return padded * row; }
  __host__ __device__ int scores() const { return padded * score_row; }
  __host__ __device__ int unit() const {
    return (back ? 4 : 3) * matrix() + (back ? 2 : 1) * scores();
  }
  // After the units: the gradient of the bias, then those of the scales, for each warp.
  __host__ __device__ int bias_at() const { return pack * unit(); }
  __host__ __device__ int scales_at() const { return bias_at() + (back ? tokens * tokens : 0); }
  __host__ __device__ int size() const {
    return scales_at() + (back ? threads / kWarp * 2 * 4 * fours(depth) : 0);
  }
};

inline Layout layout_of(const DeviceAttention& task, bool back, bool aligned) {
  Layout layout{};
  layout.tokens = static_cast<int>(task.tokens);
  layout.padded = 4 * fours(layout.tokens);
  layout.depth = static_cast<int>(task.head_width);
  layout.row = shared_row(layout.depth);
  layout.score_row = shared_row(layout.tokens);
  layout.back = back;
  layout.aligned = aligned;
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

// The work of a block: one head of sequences first .. end - 1, `layout.pack` of them at a time.
struct Block {
  const DeviceAttention& task;
  const Layout& layout;
  float* shared;
  int64_t* first_rows;  // of the current sequences
  int64_t head, chunk, first, end;

  __device__ SharedMatrix matrix(int unit, Matrix which) const {
    return {shared + unit * layout.unit() + which * layout.matrix(), layout.row};
  }
  __device__ SharedMatrix scores(int unit, Scores which) const {
    const int at = unit * layout.unit() + (layout.back ? 4 : 3) * layout.matrix();
    return {shared + at + which * layout.scores(), layout.score_row};
  }
  __device__ int64_t row(int unit, int token) const {
    return first_rows[unit] + token * task.inner;
  }
  __device__ int64_t wide() const { return task.heads * layout.depth; }
  // Offset in maps of a token's query, key or value.
  __device__ int64_t at_map(int unit, int token, Matrix which) const {
    return (row(unit, token) * 3 + which) * wide() + head * layout.depth;
  }
  __device__ int64_t at_mixed(int unit, int token) const {
    return row(unit, token) * wide() + head * layout.depth;
  }
  // Makes the sequences from `sequence` on the current ones; returns how many they are.
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

__device__ inline Block block_of(const DeviceAttention& task, const Layout& layout, int64_t chunks,
                                 float* shared, int64_t* first_rows) {
  const int64_t chunk = blockIdx.x / task.heads, sequences = task.outer * task.inner;
  const int64_t each = (sequences + chunks - 1) / chunks;
  const int64_t end = (chunk + 1) * each < sequences ? (chunk + 1) * each : sequences;
  return {task,  layout,       shared, first_rows, static_cast<int64_t>(blockIdx.x) % task.heads,
          chunk, chunk * each, end};
}

// The dot product of two rows that `lanes` lanes share.
__device__ inline float dot(const Four& a, const Four& b, int lanes, unsigned mask) {
  float sum = 0;
#pragma unroll
  for (int e = 0; e < 4; ++e) sum = fmaf(a.at[e], b.at[e], sum);
  return sum_over(sum, lanes, mask);
}

__device__ inline void multiply(Four& row, float factor) {
#pragma unroll
  for (int e = 0; e < 4; ++e) row.at[e] *= factor;
}

__device__ inline void multiply(Four& row, const Four& factors) {
#pragma unroll
  for (int e = 0; e < 4; ++e) row.at[e] *= factors.at[e];
}

// Rotates the first pairs of a row by the rotary angles of `token`, or by their negatives.
__device__ inline void rotate(Four& row, const DeviceAttention& task, int token, int lane,
                              bool back) {
  if (task.rotary == nullptr) return;
  const int pairs = static_cast<int>(task.pairs);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int pair = 2 * lane + i;
    if (pair >= pairs) continue;
    const float* angle = task.rotary + (token * pairs + pair) * 2;
    const float cosine = angle[0], sine = back ? -angle[1] : angle[1];
    float &a = row.at[2 * i], &b = row.at[2 * i + 1];
    const float rotated = a * cosine - b * sine;
    b = fmaf(b, cosine, a * sine);
    a = rotated;
  }
}

// What load_rows() does to rows on the way. `scale`: normalises them and multiplies them by it,
// nullptr leaves both out.
struct RowChange {
  const float* scale = nullptr;
  bool rotated = false;
  float factor = 1;
};

// Rows of `units` sequences into matrix `which`; at(unit, token) is a row's offset in `from`.
template <typename X, typename At>
__device__ void load_rows(const Block& block, int units, Matrix which, const X* from, const At& at,
                          const RowChange& change) {
  const Layout& layout = block.layout;
  const int lane = threadIdx.x % layout.lanes, groups = layout.threads / layout.lanes;
  const unsigned mask = mask_of_group(layout.lanes);
  const int rows = units * layout.padded, c = 4 * lane, count = layout.depth - c;
  Four scales{};
  if (change.scale != nullptr) scales = load_four(change.scale + c, count, false);
  for (int base = threadIdx.x / layout.lanes; base < rows; base += kRowsAhead * groups) {
    Four ahead[kRowsAhead];
#pragma unroll
    for (int i = 0; i < kRowsAhead; ++i) {
      const int r = base + i * groups, unit = layout.by_padded.quotient(r);
      const int token = r - unit * layout.padded;
      ahead[i] = Four{};
      if (r < rows && token < layout.tokens && count > 0) {
        ahead[i] = load_four(from + at(unit, token) + c, count, layout.aligned);
      }
    }
#pragma unroll
    for (int i = 0; i < kRowsAhead; ++i) {
      const int r = base + i * groups, unit = layout.by_padded.quotient(r);
      const int token = r - unit * layout.padded;
      if (r >= rows) break;
      Four& row = ahead[i];
      if (change.scale != nullptr) {
        multiply(row, over_length(dot(row, row, layout.lanes, mask)));
        multiply(row, scales);
      }
      if (change.rotated && token < layout.tokens) rotate(row, block.task, token, lane, false);
      if (change.factor != 1.0F) multiply(row, change.factor);
      if (count > 0) store_aligned(block.matrix(unit, which).data + token * layout.row + c, row);
    }
  }
}

template <typename X>
__device__ void load_maps(const Block& block, int units) {
  const DeviceAttention& task = block.task;
  const X* maps = as<X>(task.maps.data);
  const auto at = [&](Matrix which) {
    return [&block, which](int unit, int token) { return block.at_map(unit, token, which); };
  };
  load_rows(block, units, kQuery, maps, at(kQuery), {task.query_scale, true, task.scale});
  load_rows(block, units, kKey, maps, at(kKey), {task.key_scale, true, 1.0F});
  load_rows(block, units, kValue, maps, at(kValue), {nullptr, false, 1.0F});
}

// Scores `to` = matrix `left` times matrix `right` transposed.
__device__ inline void score(const Block& block, int units, Matrix left, Matrix right, Scores to) {
  const Layout& layout = block.layout;
  const int side = layout.padded / 4, tiles = side * side;
  for (int i = threadIdx.x; i < units * tiles; i += layout.threads) {
    const int unit = layout.by_square.quotient(i), within = i - unit * tiles;
    const int m = layout.by_side.quotient(within), n = within - m * side;
    Tile tile{};
    add_product_bt(block.matrix(unit, left), m, side, block.matrix(unit, right), n, side,
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

// A row of scores, spread over kSoftmaxLanes lanes: value[i] is that of key lane + 8 i.
template <int kEach>
struct ScoreRow {
  float value[kEach];
};

// The probabilities of a row of scores, also in place; `bias` and `seen` are added first where they
// are not nullptr.
template <int kEach>
__device__ __forceinline__ ScoreRow<kEach> softmax_row(float* scores, const float* bias,
                                                       const float* seen, const Layout& layout,
                                                       int lane, unsigned mask) {
  ScoreRow<kEach> row;
  float most = -INFINITY;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int j = lane + i * kSoftmaxLanes;
    row.value[i] = -INFINITY;
    if (j >= layout.tokens) continue;
    row.value[i] = scores[j];
    if (bias != nullptr) row.value[i] += bias[j];
    if (seen != nullptr) row.value[i] += seen[j];
    most = fmaxf(most, row.value[i]);
  }
  most = max_over(most, kSoftmaxLanes, mask);
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const bool valid = lane + i * kSoftmaxLanes < layout.tokens;
    row.value[i] = valid ? __expf(row.value[i] - most) : 0.0F;
    sum += row.value[i];
  }
  const float factor = 1.0F / sum_over(sum, kSoftmaxLanes, mask);
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    row.value[i] *= factor;
    const int j = lane + i * kSoftmaxLanes;
    if (j < layout.padded) scores[j] = row.value[i];
  }
  return row;
}

// From the gradients of a row of probabilities to those of its scores, in place.
template <int kEach>
__device__ __forceinline__ void softmax_row_back(float* gradients, const ScoreRow<kEach>& row,
                                                 const Layout& layout, int lane, unsigned mask) {
  float gradient[kEach], product = 0;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int j = lane + i * kSoftmaxLanes;
    gradient[i] = j < layout.tokens ? gradients[j] : 0.0F;
    product = fmaf(gradient[i], row.value[i], product);
  }
  product = sum_over(product, kSoftmaxLanes, mask);
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int j = lane + i * kSoftmaxLanes;
    if (j < layout.padded) gradients[j] = row.value[i] * (gradient[i] - product);
  }
}

// Scores to probabilities in place; backward also their gradients to those of the scores.
template <int kEach, bool kBack>
__device__ void softmax(const Block& block, int64_t sequence, int units) {
  const DeviceAttention& task = block.task;
  const Layout& layout = block.layout;
  const int tokens = layout.tokens, lane = threadIdx.x % kSoftmaxLanes;
  const unsigned mask = mask_of_group(kSoftmaxLanes);
  for (int r = threadIdx.x / kSoftmaxLanes; r < units * tokens;
       r += layout.threads / kSoftmaxLanes) {
    const int unit = layout.by_tokens.quotient(r), token = r - unit * tokens;
    const float* bias =
        task.bias == nullptr ? nullptr : task.bias + (block.head * tokens + token) * tokens;
    const float* seen =
        task.mask == nullptr
            ? nullptr
            : task.mask + ((sequence + unit) / task.inner * tokens + token) * tokens;
    const ScoreRow<kEach> row =
        softmax_row<kEach>(block.scores(unit, kProbabilities).data + token * layout.score_row, bias,
                           seen, layout, lane, mask);
    if constexpr (kBack) {
      softmax_row_back<kEach>(block.scores(unit, kScoreGradient).data + token * layout.score_row,
                              row, layout, lane, mask);
    }
  }
}

// body(unit, token, element) for each 4 x 4 of tokens x head_width of each unit.
template <typename Body>
__device__ void over_tiles(const Block& block, int units, const Body& body) {
  const int down = block.layout.padded / 4, across = fours(block.layout.depth);
  for (int i = threadIdx.x; i < units * down * across; i += block.layout.threads) {
    const int unit = block.layout.by_result.quotient(i), within = i - unit * down * across;
    const int m = block.layout.by_across.quotient(within);
    body(unit, 4 * m, 4 * (within - m * across));
  }
}

// `to` is the row of `token`; rows of neighbouring tokens are inner * wide elements apart.
template <typename X>
__device__ void store_tile(const Block& block, const Tile& tile, X* to, int64_t wide, int token,
                           int c) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (token + i >= block.layout.tokens) break;
    store_four(to + i * block.task.inner * wide + c,
               {{tile.at[i][0], tile.at[i][1], tile.at[i][2], tile.at[i][3]}},
               block.layout.depth - c, block.layout.aligned);
  }
}

// Runs `run`<scores that a lane of softmax holds>().
template <typename Run>
cudaError_t dispatch_tokens(int64_t tokens, const Run& run) {
  if (tokens <= kSoftmaxLanes) return run.template operator()<1>();
  if (tokens <= 2 * kSoftmaxLanes) return run.template operator()<2>();
  if (tokens <= 4 * kSoftmaxLanes) return run.template operator()<4>();
  return run.template operator()<kSoftmaxMost>();
}

inline int64_t bytes_of(const Layout& layout) {
  return layout.size() * static_cast<int64_t>(sizeof(float));
}

}  // namespace lf::attention_blocks
