#include "kernels/cpu/convolution_transforms.h"

namespace lf {
namespace {

// Winograd's transforms for the points 0, 1, -1, 2, -2: of six pixels in a row of the image, of six
// products to four results; and the transforms of their gradients, which are the transposed
// matrices. Input and output may overlap. (Those of filters are in convolution_filters.cc.)
LF_INLINE void input(const Lanes* d, int64_t step, Lanes* out, int64_t to) {
  const Lanes d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step];
  const Lanes first = 4.0F * d[0] - 5.0F * d2 + d4, last = 4.0F * d1 - 5.0F * d3 + d[5 * step];
  const Lanes a = d4 - 4.0F * d2, b = d3 - 4.0F * d1, c = d4 - d2, e = 2.0F * (d3 - d1);
  out[0] = first;
  out[to] = a + b;
  out[2 * to] = a - b;
  out[3 * to] = c + e;
  out[4 * to] = c - e;
  out[5 * to] = last;
}
LF_INLINE void input_transform_back(const Lanes* t, int64_t step, Lanes* out, int64_t to) {
  const Lanes p = t[step] + t[2 * step], m = t[step] - t[2 * step], q = t[3 * step] + t[4 * step],
              n = t[3 * step] - t[4 * step], first = t[0], last = t[5 * step];
  out[0] = 4.0F * first;
  out[to] = 4.0F * (last - m) - 2.0F * n;
  out[2 * to] = -5.0F * first - 4.0F * p - q;
  out[3 * to] = m + 2.0F * n - 5.0F * last;
  out[4 * to] = first + p + q;
  out[5 * to] = last;
}
LF_INLINE void output(const Lanes* m, int64_t step, Lanes* out, int64_t to) {
  const Lanes p = m[step] + m[2 * step], d = m[step] - m[2 * step], q = m[3 * step] + m[4 * step],
              n = m[3 * step] - m[4 * step];
  out[0] = m[0] + p + q;
  out[to] = d + 2.0F * n;
  out[2 * to] = p + 4.0F * q;
  out[3 * to] = d + 8.0F * n + m[5 * step];
}
LF_INLINE void output_transform_back(const Lanes* y, int64_t step, Lanes* out, int64_t to) {
  const Lanes a = y[0], b = y[step], c = y[2 * step], d = y[3 * step];
  const Lanes even = a + c, odd = b + d, wide_even = a + 4.0F * c, wide_odd = 2.0F * b + 8.0F * d;
  out[0] = a;
  out[to] = even + odd;
  out[2 * to] = even - odd;
  out[3 * to] = wide_even + wide_odd;
  out[4 * to] = wide_even - wide_odd;
  out[5 * to] = d;
}
// Pointers to the `side` x `side` pixels of a tile, beginning `before` pixels above and left of it;
// `beyond` for pixels outside the image.
template <typename Pointer>
LF_INLINE void places(const ConvolutionTask& task, int64_t frame, int64_t tile, Pointer images,
                      int64_t channels, int64_t before, int64_t side, Pointer beyond,
                      Pointer* out) {
  const int64_t image = tile / task.of_image() * task.frames + frame;
  const int64_t within = tile % task.of_image();
  const int64_t top = within / task.across() * kTile - before,
                left = within % task.across() * kTile - before;
  const Pointer first = images + image * task.height * task.width * channels;
  for (int64_t r = 0; r < side; ++r) {
    for (int64_t s = 0; s < side; ++s) {
      const int64_t y = top + r, x = left + s;
      const bool inside = y >= 0 && y < task.height && x >= 0 && x < task.width;
      out[side * r + s] = inside ? first + (y * task.width + x) * channels : beyond;
    }
  }
}

// A strip of tiles, `begin` ... `begin` + `count`, in all frames: frame by frame.
template <typename X>
struct Transform {
  const ConvolutionTask& task;
  int64_t begin, count;

  LF_INLINE int64_t rows() const { return task.frames * count; }
  template <typename Pointer>
  LF_INLINE void places_of(int64_t row, Pointer images, int64_t channels, int64_t before,
                           int64_t side, Pointer beyond, Pointer* out) const {
    places(task, row / count, begin + row % count, images, channels, before, side, beyond, out);
  }
  // Prefetches the next square, which the hardware prefetcher does not predict. Its first `known`
  // columns were part of the square before.
  LF_INLINE static void fetch(const X* const* at, int64_t side, int64_t known, int64_t c) {
    for (int64_t r = 0; r < side; ++r) {
#pragma GCC unroll 4
      for (int64_t s = known; s < side; ++s) __builtin_prefetch(at[side * r + s] + c);
    }
  }

  LF_INLINE void image(const X* zeros, const Transformed& matrices) const {
    const X *at[kTransformed], *next[kTransformed];
    places_of(0, static_cast<const X*>(task.x), task.in, 1, kSide, zeros, next);
    for (int64_t tile = 0; tile < rows(); ++tile) {
      std::copy(next, next + kTransformed, at);
      if (tile + 1 < rows()) {
        places_of(tile + 1, static_cast<const X*>(task.x), task.in, 1, kSide, zeros, next);
      }
      for (int64_t c = 0; c < task.in; c += kLanes) {
        const int64_t lanes = std::min(kLanes, task.in - c);
        fetch(next, kSide, kSide - kTile, c);
        Lanes part[kTransformed];
        for (int64_t s = 0; s < kSide; ++s) {
          Lanes column[kSide];
#pragma GCC unroll 6
          for (int64_t r = 0; r < kSide; ++r) column[r] = load(at[kSide * r + s] + c, lanes);
          input(column, 1, part + s, kSide);
        }
        float* to = matrices.data + tile * matrices.row + c;
        for (int64_t r = 0; r < kSide; ++r) {
          Lanes made[kSide];
          input(part + kSide * r, 1, made, 1);
#pragma GCC unroll 6
          for (int64_t s = 0; s < kSide; ++s) store(to + (kSide * r + s) * matrices.apart, made[s]);
        }
      }
    }
  }

  // The gradients of image()'s transforms to those of the image, added.
  LF_INLINE void image_back(const Transformed& matrices, float* nowhere) const {
    float* at[kTransformed];
    for (int64_t tile = 0; tile < rows(); ++tile) {
      places_of(tile, task.dx_single, task.in, 1, kSide, nowhere, at);
      for (int64_t c = 0; c < task.in; c += kLanes) {
        const int64_t lanes = std::min(kLanes, task.in - c);
        const float* from = matrices.data + tile * matrices.row + c;
        Lanes part[kTransformed];
        for (int64_t s = 0; s < kSide; ++s) {
          Lanes column[kSide];
#pragma GCC unroll 6
          for (int64_t r = 0; r < kSide; ++r)
            column[r] = load(from + (kSide * r + s) * matrices.apart);
          input_transform_back(column, 1, part + s, kSide);
        }
        for (int64_t r = 0; r < kSide; ++r) {
          Lanes made[kSide];
          input_transform_back(part + kSide * r, 1, made, 1);
#pragma GCC unroll 6
          for (int64_t s = 0; s < kSide; ++s) {
            float* to = at[kSide * r + s] + c;
            store(to, load(to, lanes) + made[s], lanes);
          }
        }
      }
    }
  }

  // Products to results.
  LF_INLINE void result(const Transformed& matrices, X* nowhere) const {
    X* at[kTile * kTile];
    for (int64_t tile = 0; tile < rows(); ++tile) {
      places_of(tile, static_cast<X*>(task.y), task.out, 0, kTile, nowhere, at);
      for (int64_t c = 0; c < task.out; c += kLanes) {
        const int64_t lanes = std::min(kLanes, task.out - c);
        const Lanes bias = task.bias != nullptr ? load(task.bias + c, lanes) : Lanes{};
        const float* from = matrices.data + tile * matrices.row + c;
        Lanes part[kTile * kSide];
        for (int64_t s = 0; s < kSide; ++s) {
          Lanes column[kSide];
#pragma GCC unroll 6
          for (int64_t r = 0; r < kSide; ++r)
            column[r] = load(from + (kSide * r + s) * matrices.apart);
          output(column, 1, part + s, kSide);
        }
        for (int64_t r = 0; r < kTile; ++r) {
          Lanes made[kTile];
          output(part + kSide * r, 1, made, 1);
#pragma GCC unroll 4
          for (int64_t s = 0; s < kTile; ++s) store(at[kTile * r + s] + c, made[s] + bias, lanes);
        }
      }
    }
  }

  // The gradients of results to those of the products, and their sums to `bias`.
  LF_INLINE void result_back(const X* zeros, const Transformed& matrices, float* bias) const {
    constexpr int64_t kPlaces = kTile * kTile;
    const X *at[kPlaces], *next[kPlaces];
    places_of(0, static_cast<const X*>(task.dy), task.out, 0, kTile, zeros, next);
    for (int64_t tile = 0; tile < rows(); ++tile) {
      std::copy(next, next + kPlaces, at);
      if (tile + 1 < rows()) {
        places_of(tile + 1, static_cast<const X*>(task.dy), task.out, 0, kTile, zeros, next);
      }
      for (int64_t c = 0; c < task.out; c += kLanes) {
        const int64_t lanes = std::min(kLanes, task.out - c);
        fetch(next, kTile, 0, c);
        Lanes part[kSide * kTile];
        for (int64_t s = 0; s < kTile; ++s) {
          Lanes column[kTile];
#pragma GCC unroll 4
          for (int64_t r = 0; r < kTile; ++r) column[r] = load(at[kTile * r + s] + c, lanes);
          output_transform_back(column, 1, part + s, kTile);
        }
        float* to = matrices.data + tile * matrices.row + c;
        for (int64_t r = 0; r < kSide; ++r) {
          Lanes made[kSide];
          output_transform_back(part + kTile * r, 1, made, 1);
#pragma GCC unroll 6
          for (int64_t s = 0; s < kSide; ++s) store(to + (kSide * r + s) * matrices.apart, made[s]);
          if (r == 1) store(bias + c, load(bias + c) + made[1]);  // the plain sum of all
        }
      }
    }
  }
};

template <typename X>
struct Image {
  static LF_INLINE void run(const ConvolutionTask* task, const Strip* strip, const float* zeros,
                            const Transformed* matrices) {
    Transform<X>{*task, strip->begin, strip->count}.image(reinterpret_cast<const X*>(zeros),
                                                          *matrices);
  }
};
struct ImageBack {
  static LF_INLINE void run(const ConvolutionTask* task, const Strip* strip,
                            const Transformed* matrices, float* nowhere) {
    Transform<float>{*task, strip->begin, strip->count}.image_back(*matrices, nowhere);
  }
};
template <typename X>
struct Result {
  static LF_INLINE void run(const ConvolutionTask* task, const Strip* strip,
                            const Transformed* matrices, float* nowhere) {
    Transform<X>{*task, strip->begin, strip->count}.result(*matrices,
                                                           reinterpret_cast<X*>(nowhere));
  }
};
template <typename X>
struct ResultBack {
  static LF_INLINE void run(const ConvolutionTask* task, const Strip* strip, const float* zeros,
                            const Transformed* matrices, float* bias) {
    Transform<X>{*task, strip->begin, strip->count}.result_back(reinterpret_cast<const X*>(zeros),
                                                                *matrices, bias);
  }
};

}  // namespace

void transform_image(const ConvolutionTask& task, const Strip& strip, const float* zeros,
                     const Transformed& matrices) {
  run_rows<Image>(task.bf16_rows, &task, &strip, zeros, &matrices);
}
void transform_image_back(const ConvolutionTask& task, const Strip& strip,
                          const Transformed& matrices, float* nowhere) {
  run_kernel<ImageBack>(&task, &strip, &matrices, nowhere);
}
void results(const ConvolutionTask& task, const Strip& strip, const Transformed& matrices,
             float* nowhere) {
  run_rows<Result>(task.bf16_rows, &task, &strip, &matrices, nowhere);
}
void transform_results_back(const ConvolutionTask& task, const Strip& strip, const float* zeros,
                            const Transformed& matrices, float* bias) {
  run_rows<ResultBack>(task.bf16_rows, &task, &strip, zeros, &matrices, bias);
}

}  // namespace lf
