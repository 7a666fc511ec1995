// Attention within sixteen sequences at once, one a lane: scores, softmax, weighted sums and their
// gradients. A matrix of queries, keys or values is [head width][row], its column stride * token +
// lane; scores are [query][key][lane]. With fewer sequences than lanes the stride is smaller than
// 16: what the other lanes read is the next token's and comes to nothing, and as tokens are written
// in ascending order, what they write is written over. Inlined into attention_tiles.cc; nothing of
// torch.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/lanes.h"

namespace lf {

struct LaneShape {
  int64_t tokens, head_width, row, stride;
  Ints mine;  // -1 in the lanes that hold a sequence

  LF_INLINE Lanes only_mine(Lanes x) const { return mine ? x : Lanes{}; }
};

template <int kI, int kJ>
LF_INLINE void dots_block(const float* a, const float* b, const LaneShape& shape, int64_t i,
                          int64_t j, float* out) {
  Lanes sum[kI][kJ] = {};
  const float *left = a + i * shape.stride, *right = b + j * shape.stride;
  for (int64_t f = 0; f < shape.head_width; ++f, left += shape.row, right += shape.row) {
    Lanes one[kJ];
#pragma GCC unroll 4
    for (int e = 0; e < kJ; ++e) one[e] = load(right + e * shape.stride);
#pragma GCC unroll 4
    for (int r = 0; r < kI; ++r) {
      const Lanes left_one = load(left + r * shape.stride);
#pragma GCC unroll 4
      for (int e = 0; e < kJ; ++e) sum[r][e] += left_one * one[e];
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kI; ++r) {
#pragma GCC unroll 4
    for (int e = 0; e < kJ; ++e) store(out + ((i + r) * shape.tokens + j + e) * kLanes, sum[r][e]);
  }
}

// out[i][j] = the product of token i of `a` and token j of `b`.
LF_INLINE void dots(const float* a, const float* b, const LaneShape& shape, float* out) {
  const int64_t n = shape.tokens, whole = n / 4 * 4;
  for (int64_t i = 0; i < whole; i += 4) {
    for (int64_t j = 0; j < whole; j += 4) dots_block<4, 4>(a, b, shape, i, j, out);
    for (int64_t j = whole; j < n; ++j) dots_block<4, 1>(a, b, shape, i, j, out);
  }
  for (int64_t i = whole; i < n; ++i) {
    for (int64_t j = 0; j < whole; j += 4) dots_block<1, 4>(a, b, shape, i, j, out);
    for (int64_t j = whole; j < n; ++j) dots_block<1, 1>(a, b, shape, i, j, out);
  }
}

template <int kI, int kF, bool kTurned>
LF_INLINE void combine_block(const float* weights, const float* b, const LaneShape& shape,
                             int64_t i, int64_t f, float* out) {
  const int64_t n = shape.tokens;
  Lanes sum[kI][kF] = {};
  for (int64_t j = 0; j < n; ++j) {
    Lanes one[kF];
#pragma GCC unroll 4
    for (int e = 0; e < kF; ++e) one[e] = load(b + (f + e) * shape.row + j * shape.stride);
#pragma GCC unroll 4
    for (int r = 0; r < kI; ++r) {
      const Lanes part = load(weights + (kTurned ? j * n + i + r : (i + r) * n + j) * kLanes);
#pragma GCC unroll 4
      for (int e = 0; e < kF; ++e) sum[r][e] += part * one[e];
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kI; ++r) {
#pragma GCC unroll 4
    for (int e = 0; e < kF; ++e)
      store(out + (f + e) * shape.row + (i + r) * shape.stride, sum[r][e]);
  }
}

// Token i of `out` = the sum over j of weights[i][j], or turned weights[j][i], times token j of
// `b`.
template <bool kTurned>
LF_INLINE void combine(const float* weights, const float* b, const LaneShape& shape, float* out) {
  const int64_t n = shape.tokens, whole = n / 4 * 4, features = shape.head_width / 4 * 4;
  for (int64_t f = 0; f < features; f += 4) {
    for (int64_t i = 0; i < whole; i += 4)
      combine_block<4, 4, kTurned>(weights, b, shape, i, f, out);
    for (int64_t i = whole; i < n; ++i) combine_block<1, 4, kTurned>(weights, b, shape, i, f, out);
  }
  for (int64_t f = features; f < shape.head_width; ++f) {
    for (int64_t i = 0; i < whole; i += 4)
      combine_block<4, 1, kTurned>(weights, b, shape, i, f, out);
    for (int64_t i = whole; i < n; ++i) combine_block<1, 1, kTurned>(weights, b, shape, i, f, out);
  }
}

// Scores to weights that add up to one over the keys. `bias` [query][key] and `mask`
// [query][key][lane] may be nullptr.
LF_INLINE void soften(float* scores, int64_t tokens, float scale, const float* bias,
                      const float* mask) {
  for (int64_t i = 0; i < tokens; ++i) {
    float* row = scores + i * tokens * kLanes;
    Lanes most = all(-__builtin_inff());
    for (int64_t j = 0; j < tokens; ++j) {
      Lanes one = load(row + j * kLanes) * scale;
      if (bias != nullptr) one += bias[i * tokens + j];
      if (mask != nullptr) one += load(mask + (i * tokens + j) * kLanes);
      store(row + j * kLanes, one);
      most = larger(one, most);
    }
    Lanes sum{};
    for (int64_t j = 0; j < tokens; ++j) {
      const Lanes one = exponential(load(row + j * kLanes) - most);
      store(row + j * kLanes, one);
      sum += one;
    }
    const Lanes part = 1.0F / sum;
    for (int64_t j = 0; j < tokens; ++j) store(row + j * kLanes, load(row + j * kLanes) * part);
  }
}

// From the gradient of the weights to that of the scores before the scale, in place; that of the
// bias is added to `bias_sums` [query][key], if there is one.
LF_INLINE void soften_back(const float* weights, float* slopes, const LaneShape& shape, float scale,
                           float* bias_sums) {
  const int64_t tokens = shape.tokens;
  for (int64_t i = 0; i < tokens; ++i) {
    const float* row = weights + i * tokens * kLanes;
    float* slope = slopes + i * tokens * kLanes;
    Lanes along{};
    for (int64_t j = 0; j < tokens; ++j) along += load(row + j * kLanes) * load(slope + j * kLanes);
    for (int64_t j = 0; j < tokens; ++j) {
      const Lanes one = load(row + j * kLanes) * (load(slope + j * kLanes) - along);
      if (bias_sums != nullptr) bias_sums[i * tokens + j] += sum_of(shape.only_mine(one));
      store(slope + j * kLanes, one * scale);
    }
  }
}

constexpr float kShortest = 1e-12F;  // vectors shorter than that are taken as so long

// Every token to length one and times `scale`; `lengths` [token][lane] get 1 over the length.
LF_INLINE void direct(const float* x, const LaneShape& shape, const float* scale, float* lengths,
                      float* out) {
  for (int64_t i = 0; i < shape.tokens; ++i) {
    const int64_t token = i * shape.stride;
    Lanes squares{};
    for (int64_t f = 0; f < shape.head_width; ++f) {
      const Lanes one = load(x + token + f * shape.row);
      squares += one * one;
    }
    const Lanes part = 1.0F / larger(root(squares), all(kShortest));
    store(lengths + i * kLanes, part);
    for (int64_t f = 0; f < shape.head_width; ++f) {
      const int64_t at = token + f * shape.row;
      store(out + at, load(x + at) * part * scale[f]);
    }
  }
}

// From the slope of what direct() gave to that of `x`, which it was given; the scale's is added to
// the sums.
LF_INLINE void direct_back(const float* x, const float* slope, const LaneShape& shape,
                           const float* scale, const float* lengths, float* scale_sums,
                           float* out) {
  for (int64_t i = 0; i < shape.tokens; ++i) {
    const Lanes part = load(lengths + i * kLanes);
    Lanes along{};
    for (int64_t f = 0; f < shape.head_width; ++f) {
      const int64_t at = f * shape.row + i * shape.stride;
      const Lanes unit = load(x + at) * part, one = load(slope + at);
      store(scale_sums + f * kLanes, load(scale_sums + f * kLanes) + shape.only_mine(one * unit));
      along += one * scale[f] * unit;
    }
    along = part < all(1.0F / kShortest) ? along : Lanes{};
    for (int64_t f = 0; f < shape.head_width; ++f) {
      const int64_t at = f * shape.row + i * shape.stride;
      store(out + at, (load(slope + at) * scale[f] - load(x + at) * part * along) * part);
    }
  }
}

// Turns pairs of features by the token's angles, or back (which is also how slopes go), in place:
// lanes that hold no sequence stay as they are, for they may be the next token's.
LF_INLINE void rotate(float* x, const LaneShape& shape, const float* rotary, int64_t pairs,
                      bool back) {
  for (int64_t p = 0; p < pairs; ++p) {
    float *first = x + 2 * p * shape.row, *second = first + shape.row;
    for (int64_t i = 0; i < shape.tokens; ++i) {
      const float* angle = rotary + (i * pairs + p) * 2;
      const float cosine = angle[0], sine = back ? -angle[1] : angle[1];
      const Lanes a = load(first + i * shape.stride), b = load(second + i * shape.stride);
      store(first + i * shape.stride, shape.mine ? a * cosine - b * sine : a);
      store(second + i * shape.stride, shape.mine ? b * cosine + a * sine : b);
    }
  }
}

}  // namespace lf
