#include "data/recipe/frame_kernels.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/isa.h"
#include "data/recipe/exact_math.h"

namespace lf {
namespace {

constexpr size_t kTile = 64;  // floats summed together in registers or the first-level cache

// Rounds half to even by pushing the fraction out of the mantissa; |x| < 2^22.
LF_INLINE float round_even(float x) { return (x + 12582912.0f) - 12582912.0f; }

LF_INLINE float clamp(float x, float low, float high) {
  x = x < low ? low : x;
  return x > high ? high : x;
}

// fp16, rounded half to even, by integer arithmetic: the same on every CPU.
LF_INLINE uint16_t to_fp16(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t size = bits & 0x7fffffffu;
  const uint32_t normal = (size + 0x0fffu + ((size >> 13) & 1u) - 0x38000000u) >> 13;
  // Adding 0.5 leaves multiples of 2^-24, the spacing of the subnormals, in the low bits.
  const uint32_t tiny = std::bit_cast<uint32_t>(std::bit_cast<float>(size) + 0.5f) - 0x3f000000u;
  uint32_t fp16 = size < 0x38800000u ? tiny : normal;
  fp16 = size >= 0x477ff000u ? 0x7c00u : fp16;
  return static_cast<uint16_t>(fp16 | sign);
}

struct Widen {
  static LF_INLINE void run(const uint8_t* in, float* out, size_t count) {
    for (size_t i = 0; i < count; ++i) out[i] = static_cast<float>(in[i]);
  }
};

struct RoundToGrey {
  static LF_INLINE void run(const float* in, uint8_t* out, size_t count) {
    for (size_t i = 0; i < count; ++i) {
      out[i] = static_cast<uint8_t>(static_cast<int32_t>(round_even(clamp(in[i], 0.0f, 255.0f))));
    }
  }
};

struct RoundToFp16 {
  static LF_INLINE void run(const float* in, uint16_t* out, size_t count) {
    for (size_t i = 0; i < count; ++i) out[i] = to_fp16(in[i] / 127.5f - 1.0f);
  }
};

struct MixFrames {
  static LF_INLINE void run(const float* const* frames, const float* weights, size_t frame_count,
                            float offset, float* out, size_t count) {
    for (size_t i = 0; i < count; ++i) out[i] = std::fma(weights[0], frames[0][i], offset);
    for (size_t f = 1; f < frame_count; ++f) {
      const float* in = frames[f];
      const float weight = weights[f];
      for (size_t i = 0; i < count; ++i) out[i] = std::fma(weight, in[i], out[i]);
    }
  }
};

struct AddScaled {
  static LF_INLINE void run(const float* values, float scale, float* out, size_t count) {
    for (size_t i = 0; i < count; ++i) out[i] = std::fma(scale, values[i], out[i]);
  }
};

// out = w[0] rows[R] + sum over k of w[k] (rows[R - k] + rows[R + k]).
template <int R>
LF_INLINE void symmetric_sum(const float* const* rows, const float* w, float* out, size_t count) {
  const float* row[2 * R + 1];
  float weight[R + 1];
  for (int k = 0; k <= 2 * R; ++k) row[k] = rows[k];
  for (int k = 0; k <= R; ++k) weight[k] = w[k];
#pragma GCC ivdep
  for (size_t i = 0; i < count; ++i) {
    float sum = weight[0] * row[R][i];
#pragma GCC unroll 16
    for (int k = 1; k <= R; ++k) sum = std::fma(weight[k], row[R - k][i] + row[R + k][i], sum);
    out[i] = sum;
  }
}

// The same for any radius, a tile at a time.
LF_INLINE void symmetric_sum_any(const float* const* rows, const float* w, int radius, float* out,
                                 size_t count) {
  for (size_t at = 0; at < count; at += kTile) {
    const size_t n = std::min(kTile, count - at);
    float sum[kTile];
    const float* centre = rows[radius] + at;
    for (size_t i = 0; i < n; ++i) sum[i] = w[0] * centre[i];
    for (int k = 1; k <= radius; ++k) {
      const float* a = rows[radius - k] + at;
      const float* b = rows[radius + k] + at;
      const float weight = w[k];
      if (n == kTile) {
#pragma GCC ivdep
        for (size_t i = 0; i < kTile; ++i) sum[i] = std::fma(weight, a[i] + b[i], sum[i]);
      } else {
        for (size_t i = 0; i < n; ++i) sum[i] = std::fma(weight, a[i] + b[i], sum[i]);
      }
    }
    for (size_t i = 0; i < n; ++i) out[at + i] = sum[i];
  }
}

LF_INLINE void symmetric_sum_of(const float* const* rows, const float* w, int radius, float* out,
                                size_t count) {
  switch (radius) {
    case 0:
      return symmetric_sum<0>(rows, w, out, count);
    case 1:
      return symmetric_sum<1>(rows, w, out, count);
    case 2:
      return symmetric_sum<2>(rows, w, out, count);
    case 3:
      return symmetric_sum<3>(rows, w, out, count);
    case 4:
      return symmetric_sum<4>(rows, w, out, count);
    case 5:
      return symmetric_sum<5>(rows, w, out, count);
    case 6:
      return symmetric_sum<6>(rows, w, out, count);
    default:
      return symmetric_sum_any(rows, w, radius, out, count);
  }
}

// The index that half-sample symmetric reflection maps `i` to: d c b a | a b c d | d c b a.
LF_INLINE int reflect(int i, int n) {
  if (i >= 0 && i < n) return i;
  int m = i % (2 * n);
  if (m < 0) m += 2 * n;
  return m < n ? m : 2 * n - 1 - m;
}

struct BlurFrame {
  // `line` holds a row with its reflected ends, `taps` the pointers of one weighted sum.
  static LF_INLINE void run(const float* in, float* out, int height, int width, int channels,
                            const float* vertical, int up, const float* horizontal, int side,
                            float* line, const float** taps) {
    const size_t row_floats = static_cast<size_t>(width) * static_cast<size_t>(channels);
    const size_t step = static_cast<size_t>(channels);
    float* row = line + static_cast<size_t>(side) * step;
    for (int y = 0; y < height; ++y) {
      for (int k = -up; k <= up; ++k) {
        taps[k + up] = in + static_cast<size_t>(reflect(y + k, height)) * row_floats;
      }
      symmetric_sum_of(taps, vertical, up, row, row_floats);
      for (int k = 1; k <= side; ++k) {
        const float* left = row + static_cast<size_t>(reflect(-k, width)) * step;
        const float* right = row + static_cast<size_t>(reflect(width - 1 + k, width)) * step;
        float* before = row - static_cast<size_t>(k) * step;
        float* after = row + row_floats + static_cast<size_t>(k - 1) * step;
        for (size_t c = 0; c < step; ++c) {
          before[c] = left[c];
          after[c] = right[c];
        }
      }
      for (int k = 0; k <= 2 * side; ++k) taps[k] = line + static_cast<size_t>(k) * step;
      symmetric_sum_of(taps, horizontal, side, out + static_cast<size_t>(y) * row_floats,
                       row_floats);
    }
  }
};

struct MultiplyRows {
  static LF_INLINE void run(const float* matrix, int n, const float* in, float* out, size_t width) {
    for (size_t at = 0; at < width; at += kTile) {
      const size_t tile = std::min(kTile, width - at);
      for (int i = 0; i < n; ++i) {
        float sum[kTile] = {};
        const float* weights = matrix + static_cast<size_t>(i) * static_cast<size_t>(n);
        for (int k = 0; k < n; ++k) {
          const float* row = in + static_cast<size_t>(k) * width + at;
          const float weight = weights[k];
          if (tile == kTile) {
            for (size_t x = 0; x < kTile; ++x) sum[x] = std::fma(weight, row[x], sum[x]);
          } else {
            for (size_t x = 0; x < tile; ++x) sum[x] = std::fma(weight, row[x], sum[x]);
          }
        }
        float* to = out + static_cast<size_t>(i) * width + at;
        for (size_t x = 0; x < tile; ++x) to[x] = sum[x];
      }
    }
  }
};

struct QuantiseFrame {
  static LF_INLINE void run(const float* in, const float* dither, float last, float* out,
                            size_t count) {
    const float scale = last / 255.0f;
    if (dither == nullptr) {
      for (size_t i = 0; i < count; ++i) {
        out[i] = round_even(clamp(in[i] * scale, 0.0f, last)) * 255.0f / last;
      }
    } else {
      for (size_t i = 0; i < count; ++i) {
        const float value = std::fma(in[i], scale, dither[i] - 0.5f);
        out[i] = round_even(clamp(value, 0.0f, last)) * 255.0f / last;
      }
    }
  }
};

}  // namespace

void widen(const uint8_t* grey, float* out, size_t count) { run_kernel<Widen>(grey, out, count); }

void round_to_grey(const float* frame, uint8_t* out, size_t count) {
  run_kernel<RoundToGrey>(frame, out, count);
}

void round_to_fp16(const float* frame, uint16_t* out, size_t count) {
  run_kernel<RoundToFp16>(frame, out, count);
}

void mix_frames(std::span<const float* const> frames, std::span<const float> weights, float offset,
                float* out, size_t count) {
  run_kernel<MixFrames>(frames.data(), weights.data(), frames.size(), offset, out, count);
}

void add_scaled(const float* values, float scale, float* out, size_t count) {
  run_kernel<AddScaled>(values, scale, out, count);
}

Kernel1D gaussian_kernel(double sigma) {
  const int radius = static_cast<int>(4 * sigma + 0.5);
  std::vector<double> weights;
  double sum = 0;
  for (int k = 0; k <= radius; ++k) {
    const double weight = std::max(-700.0, -0.5 * k * k / (sigma * sigma));
    weights.push_back(exact_exp(weight));
    sum += k == 0 ? weights.back() : 2 * weights.back();
  }
  Kernel1D kernel;
  for (const double weight : weights) kernel.push_back(static_cast<float>(weight / sum));
  return kernel;
}

void blur_frame(const float* in, float* out, const ClipShape& shape, const Kernel1D& vertical,
                const Kernel1D& horizontal, std::vector<float>& scratch) {
  const int up = static_cast<int>(vertical.size()) - 1;
  const int side = static_cast<int>(horizontal.size()) - 1;
  const size_t line =
      static_cast<size_t>(shape.width + 2 * side) * static_cast<size_t>(shape.channels);
  if (scratch.size() < line) scratch.resize(line);
  thread_local std::vector<const float*> taps;
  taps.resize(static_cast<size_t>(2 * std::max(up, side) + 1));
  run_kernel<BlurFrame>(in, out, shape.height, shape.width, shape.channels, vertical.data(), up,
                        horizontal.data(), side, scratch.data(), taps.data());
}

void multiply_rows(const float* matrix, int n, const float* in, float* out, size_t width) {
  run_kernel<MultiplyRows>(matrix, n, in, out, width);
}

void transpose(const float* in, float* out, int rows, int columns, int channels) {
  for (int y = 0; y < rows; ++y) {
    for (int x = 0; x < columns; ++x) {
      for (int c = 0; c < channels; ++c) {
        out[(static_cast<size_t>(x) * static_cast<size_t>(rows) + static_cast<size_t>(y)) *
                static_cast<size_t>(channels) +
            static_cast<size_t>(c)] = *in++;
      }
    }
  }
}

void quantise_frame(const float* in, const float* dither, int levels, float* out, size_t count) {
  run_kernel<QuantiseFrame>(in, dither, static_cast<float>(levels - 1), out, count);
}

}  // namespace lf
