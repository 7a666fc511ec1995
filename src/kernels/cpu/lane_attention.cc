#include "kernels/cpu/lane_attention.h"

namespace lf {
namespace {

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

LF_INLINE void all_dots(const float* a, const float* b, const LaneShape& shape, float* out) {
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

template <int kI, int kF, bool kTransposed>
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
      const Lanes part = load(weights + (kTransposed ? j * n + i + r : (i + r) * n + j) * kLanes);
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

template <bool kTransposed>
LF_INLINE void all_combine(const float* weights, const float* b, const LaneShape& shape,
                           float* out) {
  const int64_t n = shape.tokens, whole = n / 4 * 4, features = shape.head_width / 4 * 4;
  for (int64_t f = 0; f < features; f += 4) {
    for (int64_t i = 0; i < whole; i += 4)
      combine_block<4, 4, kTransposed>(weights, b, shape, i, f, out);
    for (int64_t i = whole; i < n; ++i)
      combine_block<1, 4, kTransposed>(weights, b, shape, i, f, out);
  }
  for (int64_t f = features; f < shape.head_width; ++f) {
    for (int64_t i = 0; i < whole; i += 4)
      combine_block<4, 1, kTransposed>(weights, b, shape, i, f, out);
    for (int64_t i = whole; i < n; ++i)
      combine_block<1, 1, kTransposed>(weights, b, shape, i, f, out);
  }
}

LF_INLINE void all_softmax(float* scores, int64_t tokens, float scale, const float* bias,
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

LF_INLINE void all_softmax_back(const float* weights, float* gradients, const LaneShape& shape,
                                float scale, float* bias_sums) {
  const int64_t tokens = shape.tokens;
  for (int64_t i = 0; i < tokens; ++i) {
    const float* row = weights + i * tokens * kLanes;
    float* gradient = gradients + i * tokens * kLanes;
    Lanes along{};
    for (int64_t j = 0; j < tokens; ++j)
      along += load(row + j * kLanes) * load(gradient + j * kLanes);
    for (int64_t j = 0; j < tokens; ++j) {
      const Lanes one = load(row + j * kLanes) * (load(gradient + j * kLanes) - along);
      if (bias_sums != nullptr) bias_sums[i * tokens + j] += sum_of(shape.only_mine(one));
      store(gradient + j * kLanes, one * scale);
    }
  }
}

constexpr float kShortest = 1e-12F;  // vectors shorter than that are taken as so long

LF_INLINE void all_direct(const float* x, const LaneShape& shape, const float* scale,
                          float* lengths, float* out) {
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

LF_INLINE void all_direct_back(const float* x, const float* gradient, const LaneShape& shape,
                               const float* scale, const float* lengths, float* scale_sums,
                               float* out) {
  for (int64_t i = 0; i < shape.tokens; ++i) {
    const Lanes part = load(lengths + i * kLanes);
    Lanes along{};
    for (int64_t f = 0; f < shape.head_width; ++f) {
      const int64_t at = f * shape.row + i * shape.stride;
      const Lanes unit = load(x + at) * part, one = load(gradient + at);
      store(scale_sums + f * kLanes, load(scale_sums + f * kLanes) + shape.only_mine(one * unit));
      along += one * scale[f] * unit;
    }
    along = part < all(1.0F / kShortest) ? along : Lanes{};
    for (int64_t f = 0; f < shape.head_width; ++f) {
      const int64_t at = f * shape.row + i * shape.stride;
      store(out + at, (load(gradient + at) * scale[f] - load(x + at) * part * along) * part);
    }
  }
}

LF_INLINE void all_rotate(float* x, const LaneShape& shape, const float* rotary, int64_t pairs,
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

struct Dots {
  static LF_INLINE void run(const float* a, const float* b, const LaneShape* shape, float* out) {
    all_dots(a, b, *shape, out);
  }
};
template <bool kTransposed>
struct Combine {
  static LF_INLINE void run(const float* weights, const float* b, const LaneShape* shape,
                            float* out) {
    all_combine<kTransposed>(weights, b, *shape, out);
  }
};
struct Softmax {
  static LF_INLINE void run(float* scores, int64_t tokens, float scale, const float* bias,
                            const float* mask) {
    all_softmax(scores, tokens, scale, bias, mask);
  }
};
struct SoftmaxBack {
  static LF_INLINE void run(const float* weights, float* gradients, const LaneShape* shape,
                            float scale, float* bias_sums) {
    all_softmax_back(weights, gradients, *shape, scale, bias_sums);
  }
};
struct Direct {
  static LF_INLINE void run(const float* x, const LaneShape* shape, const float* scale,
                            float* lengths, float* out) {
    all_direct(x, *shape, scale, lengths, out);
  }
};
struct DirectBack {
  static LF_INLINE void run(const float* x, const float* gradient, const LaneShape* shape,
                            const float* scale, const float* lengths, float* scale_sums,
                            float* out) {
    all_direct_back(x, gradient, *shape, scale, lengths, scale_sums, out);
  }
};
struct Rotate {
  static LF_INLINE void run(float* x, const LaneShape* shape, const float* rotary, int64_t pairs,
                            bool back) {
    all_rotate(x, *shape, rotary, pairs, back);
  }
};

}  // namespace

void dots(const float* a, const float* b, const LaneShape& shape, float* out) {
  run_kernel<Dots>(a, b, &shape, out);
}
void combine(bool transposed, const float* weights, const float* b, const LaneShape& shape,
             float* out) {
  if (transposed) return run_kernel<Combine<true>>(weights, b, &shape, out);
  run_kernel<Combine<false>>(weights, b, &shape, out);
}
void softmax(float* scores, int64_t tokens, float scale, const float* bias, const float* mask) {
  run_kernel<Softmax>(scores, tokens, scale, bias, mask);
}
void softmax_back(const float* weights, float* gradients, const LaneShape& shape, float scale,
                  float* bias_sums) {
  run_kernel<SoftmaxBack>(weights, gradients, &shape, scale, bias_sums);
}
void direct(const float* x, const LaneShape& shape, const float* scale, float* lengths,
            float* out) {
  run_kernel<Direct>(x, &shape, scale, lengths, out);
}
void direct_back(const float* x, const float* gradient, const LaneShape& shape, const float* scale,
                 const float* lengths, float* scale_sums, float* out) {
  run_kernel<DirectBack>(x, gradient, &shape, scale, lengths, scale_sums, out);
}
void rotate(float* x, const LaneShape& shape, const float* rotary, int64_t pairs, bool back) {
  run_kernel<Rotate>(x, &shape, rotary, pairs, back);
}

}  // namespace lf
