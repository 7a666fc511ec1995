#include "kernels/cpu/convolution_tiles.h"

#include <type_traits>

#include "kernels/cpu/products.h"
#include "kernels/cpu/scratch.h"

namespace lf {
namespace {

// Winograd's sums for the points 0, 1, -1, 2, -2: of six places in a row of the image, of six
// products to four results; and the ways back of slopes, which are the same matrices turned round.
// All read before they write. (Those of filters are in convolution_filters.cc.)
LF_INLINE void image_sums(const Lanes* d, int64_t step, Lanes* out, int64_t to) {
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
LF_INLINE void image_sums_back(const Lanes* t, int64_t step, Lanes* out, int64_t to) {
  const Lanes p = t[step] + t[2 * step], m = t[step] - t[2 * step], q = t[3 * step] + t[4 * step],
              n = t[3 * step] - t[4 * step], first = t[0], last = t[5 * step];
  out[0] = 4.0F * first;
  out[to] = 4.0F * (last - m) - 2.0F * n;
  out[2 * to] = -5.0F * first - 4.0F * p - q;
  out[3 * to] = m + 2.0F * n - 5.0F * last;
  out[4 * to] = first + p + q;
  out[5 * to] = last;
}
LF_INLINE void results(const Lanes* m, int64_t step, Lanes* out, int64_t to) {
  const Lanes p = m[step] + m[2 * step], d = m[step] - m[2 * step], q = m[3 * step] + m[4 * step],
              n = m[3 * step] - m[4 * step];
  out[0] = m[0] + p + q;
  out[to] = d + 2.0F * n;
  out[2 * to] = p + 4.0F * q;
  out[3 * to] = d + 8.0F * n + m[5 * step];
}
LF_INLINE void results_back(const Lanes* y, int64_t step, Lanes* out, int64_t to) {
  const Lanes a = y[0], b = y[step], c = y[2 * step], d = y[3 * step];
  const Lanes even = a + c, odd = b + d, wide_even = a + 4.0F * c, wide_odd = 2.0F * b + 8.0F * d;
  out[0] = a;
  out[to] = even + odd;
  out[2 * to] = even - odd;
  out[3 * to] = wide_even + wide_odd;
  out[4 * to] = wide_even - wide_odd;
  out[5 * to] = d;
}
// Memory of a strip's matrices of [frames * tiles][row]: a line between them, which would crowd the
// cache otherwise, and tiles of zeros before the first frame and after the last where convolutions
// reach over time.
struct Sums {
  float *memory, *data;  // `data`: of the first frame
  int64_t row, apart, around;
  LF_INLINE Sums(Scratch& scratch, const ConvolutionTask& task, int64_t row_)
      : row(row_), around(task.taps / 2 * task.strip() * row_) {
    apart = task.frames * task.strip() * row + 2 * around + kLanes;
    memory = scratch.take<float>(kSums * apart);
    data = memory + around;
  }
  LF_INLINE float* of(int64_t which) const { return data + which * apart; }
  // Zeros around `used` numbers of each matrix.
  LF_INLINE void clear_around(int64_t used) const {
    for (int64_t i = 0; around > 0 && i < kSums; ++i) {
      std::fill(of(i) - around, of(i), 0.0F);
      std::fill(of(i) + used, of(i) + used + around, 0.0F);
    }
  }
};

// Where the places of a tile lie, `side` x `side` of them from `before` places above and left of
// it; `beyond` for those outside of the image.
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
struct Strip {
  const ConvolutionTask& task;
  int64_t begin, count;

  LF_INLINE int64_t rows() const { return task.frames * count; }
  template <typename Pointer>
  LF_INLINE void places_of(int64_t row, Pointer images, int64_t channels, int64_t before,
                           int64_t side, Pointer beyond, Pointer* out) const {
    places(task, row / count, begin + row % count, images, channels, before, side, beyond, out);
  }
  // What was read long ago is far away, and places in squares are nothing a CPU foresees. The
  // first `known` columns of a square were in the one before.
  LF_INLINE static void fetch(const X* const* at, int64_t side, int64_t known, int64_t c) {
    for (int64_t r = 0; r < side; ++r) {
#pragma GCC unroll 4
      for (int64_t s = known; s < side; ++s) __builtin_prefetch(at[side * r + s] + c);
    }
  }

  LF_INLINE void image(const X* zeros, const Sums& sums) const {
    const X *at[kSums], *next[kSums];
    places_of(0, static_cast<const X*>(task.x), task.in, 1, kSide, zeros, next);
    for (int64_t tile = 0; tile < rows(); ++tile) {
      std::copy(next, next + kSums, at);
      if (tile + 1 < rows()) {
        places_of(tile + 1, static_cast<const X*>(task.x), task.in, 1, kSide, zeros, next);
      }
      for (int64_t c = 0; c < task.in; c += kLanes) {
        const int64_t lanes = std::min(kLanes, task.in - c);
        fetch(next, kSide, kSide - kTile, c);
        Lanes part[kSums];
        for (int64_t s = 0; s < kSide; ++s) {
          Lanes column[kSide];
#pragma GCC unroll 6
          for (int64_t r = 0; r < kSide; ++r) column[r] = load(at[kSide * r + s] + c, lanes);
          image_sums(column, 1, part + s, kSide);
        }
        float* to = sums.data + tile * sums.row + c;
        for (int64_t r = 0; r < kSide; ++r) {
          Lanes made[kSide];
          image_sums(part + kSide * r, 1, made, 1);
#pragma GCC unroll 6
          for (int64_t s = 0; s < kSide; ++s) store(to + (kSide * r + s) * sums.apart, made[s]);
        }
      }
    }
  }

  // The slopes of image()'s sums to those of the image, added.
  LF_INLINE void image_back(const Sums& sums, float* nowhere) const {
    float* at[kSums];
    for (int64_t tile = 0; tile < rows(); ++tile) {
      places_of(tile, task.dx_single, task.in, 1, kSide, nowhere, at);
      for (int64_t c = 0; c < task.in; c += kLanes) {
        const int64_t lanes = std::min(kLanes, task.in - c);
        const float* from = sums.data + tile * sums.row + c;
        Lanes part[kSums];
        for (int64_t s = 0; s < kSide; ++s) {
          Lanes column[kSide];
#pragma GCC unroll 6
          for (int64_t r = 0; r < kSide; ++r) column[r] = load(from + (kSide * r + s) * sums.apart);
          image_sums_back(column, 1, part + s, kSide);
        }
        for (int64_t r = 0; r < kSide; ++r) {
          Lanes made[kSide];
          image_sums_back(part + kSide * r, 1, made, 1);
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
  LF_INLINE void result(const Sums& sums, X* nowhere) const {
    X* at[kTile * kTile];
    for (int64_t tile = 0; tile < rows(); ++tile) {
      places_of(tile, static_cast<X*>(task.y), task.out, 0, kTile, nowhere, at);
      for (int64_t c = 0; c < task.out; c += kLanes) {
        const int64_t lanes = std::min(kLanes, task.out - c);
        const Lanes bias = task.bias != nullptr ? load(task.bias + c, lanes) : Lanes{};
        const float* from = sums.data + tile * sums.row + c;
        Lanes part[kTile * kSide];
        for (int64_t s = 0; s < kSide; ++s) {
          Lanes column[kSide];
#pragma GCC unroll 6
          for (int64_t r = 0; r < kSide; ++r) column[r] = load(from + (kSide * r + s) * sums.apart);
          results(column, 1, part + s, kSide);
        }
        for (int64_t r = 0; r < kTile; ++r) {
          Lanes made[kTile];
          results(part + kSide * r, 1, made, 1);
#pragma GCC unroll 4
          for (int64_t s = 0; s < kTile; ++s) store(at[kTile * r + s] + c, made[s] + bias, lanes);
        }
      }
    }
  }

  // The slopes of results to those of the products, and their sums to `bias`.
  LF_INLINE void result_back(const X* zeros, const Sums& sums, float* bias) const {
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
          results_back(column, 1, part + s, kTile);
        }
        float* to = sums.data + tile * sums.row + c;
        for (int64_t r = 0; r < kSide; ++r) {
          Lanes made[kSide];
          results_back(part + kTile * r, 1, made, 1);
#pragma GCC unroll 6
          for (int64_t s = 0; s < kSide; ++s) store(to + (kSide * r + s) * sums.apart, made[s]);
          if (r == 1) store(bias + c, load(bias + c) + made[1]);  // the plain sum of all
        }
      }
    }
  }
};

// The products of one of the kSums. A result's frame comes from the one before, itself and the one
// after, tap by tap; slopes go the other way.
struct Taps {
  const ConvolutionTask& task;
  int64_t count, rows;

  // How far from a frame the one lies that a tap looks at, in a matrix of such rows.
  LF_INLINE int64_t offset(int64_t tap, int64_t row) const {
    return (tap - task.taps / 2) * count * row;
  }
  LF_INLINE void forward(const float* image, int64_t in, const float* filters, int64_t out,
                         float* products) const {
    for (int64_t tap = 0; tap < task.taps; ++tap) {
      multiply(Operands::kSingle, {image + offset(tap, in), in},
               {filters + tap * task.in * out, out}, {rows, out, task.in, products, out, tap > 0});
    }
  }
  LF_INLINE void filters_back(const float* image, int64_t in, const float* slopes, int64_t out,
                              float* sums, bool add) const {
    for (int64_t tap = 0; tap < task.taps; ++tap) {
      multiply(Operands::kSingle, {image + offset(tap, in), 1, in}, {slopes, out},
               {task.in, out, rows, sums + tap * task.in * out, out, add});
    }
  }
  LF_INLINE void image_back(const float* slopes, int64_t out, const float* turned, int64_t in,
                            float* image) const {
    for (int64_t tap = 0; tap < task.taps; ++tap) {
      multiply(Operands::kSingle, {slopes - offset(tap, out), out},
               {turned + tap * task.out * in, in}, {rows, in, task.out, image, in, tap > 0});
    }
  }
};

LF_INLINE float* zeroed(Scratch& scratch, int64_t count) {
  auto* out = scratch.take<float>(count);
  std::fill(out, out + count, 0.0F);
  return out;
}

template <typename X>
struct Forward {
  static LF_INLINE void run(const ConvolutionTask* given, int64_t index) {
    const ConvolutionTask& task = *given;
    Scratch scratch;
    const int64_t begin = index * task.strip(), in = task.row(task.in), out = task.row(task.out);
    const Strip<X> strip{task, begin, std::min(task.strip(), task.tiles() - begin)};
    const float* zeros = zeroed(scratch, in);
    auto* nowhere = scratch.take<X>(out);
    const Sums image(scratch, task, in), products(scratch, task, out);
    strip.image(reinterpret_cast<const X*>(zeros), image);
    image.clear_around(strip.rows() * in);
    const Taps taps{task, strip.count, strip.rows()};
    for (int64_t i = 0; i < kSums; ++i) {
      taps.forward(image.of(i), in, task.filters + i * task.filter_size(), out, products.of(i));
    }
    strip.result(products, nowhere);
  }
};

// The slopes of the clips `first` ... `last` begin as zero, and end in what they are kept in.
LF_INLINE int64_t clip_size(const ConvolutionTask& task) {
  return task.frames * task.height * task.width * task.in;
}
LF_INLINE void begin_slopes(const ConvolutionTask& task, int64_t first, int64_t last) {
  std::fill(task.dx_single + first * clip_size(task), task.dx_single + last * clip_size(task),
            0.0F);
}
template <typename X>
LF_INLINE void end_slopes(const ConvolutionTask& task, int64_t first, int64_t last) {
  if constexpr (!std::is_same_v<X, float>) {
    const int64_t end = last * clip_size(task);
    auto* dx = static_cast<X*>(task.dx);
    for (int64_t i = first * clip_size(task); i < end; i += kLanes) {
      store(dx + i, load(task.dx_single + i, end - i), end - i);
    }
  }
}

template <typename X>
struct Back {
  static LF_INLINE void run(const ConvolutionTask* given, int64_t chunk) {
    const ConvolutionTask& task = *given;
    Scratch scratch;
    const int64_t in = task.row(task.in), out = task.row(task.out), each = task.strip();
    const int64_t first = chunk * task.clips / task.chunks(),
                  last = (chunk + 1) * task.clips / task.chunks();
    float* sums = task.sums + chunk * task.sums_size();
    std::fill(sums + task.bias_sums(), sums + task.sums_size(), 0.0F);
    const auto* zeros = reinterpret_cast<const X*>(zeroed(scratch, std::max(in, out)));
    auto* nowhere = zeroed(scratch, in);
    const Sums image(scratch, task, in), slopes(scratch, task, out);
    if (task.dx != nullptr) begin_slopes(task, first, last);
    const int64_t end = last * task.of_image();
    for (int64_t begin = first * task.of_image(); begin < end; begin += each) {
      const Strip<X> strip{task, begin, std::min(each, end - begin)};
      strip.result_back(zeros, slopes, sums + task.bias_sums());
      strip.image(zeros, image);
      image.clear_around(strip.rows() * in);
      const Taps taps{task, strip.count, strip.rows()};
      for (int64_t i = 0; i < kSums; ++i) {
        taps.filters_back(image.of(i), in, slopes.of(i), out, sums + i * task.filter_size(),
                          begin > first * task.of_image());
      }
      if (task.dx == nullptr) continue;
      slopes.clear_around(strip.rows() * out);
      for (int64_t i = 0; i < kSums; ++i) {
        taps.image_back(slopes.of(i), out, task.filters_turned + i * task.turned_size(), in,
                        image.of(i));
      }
      strip.image_back(image, nowhere);
    }
    if (task.dx != nullptr) end_slopes<X>(task, first, last);
  }
};

}  // namespace

void convolution_strip(const ConvolutionTask& task, int64_t strip) {
  run_rows<Forward>(task.half, &task, strip);
}

void convolution_chunk_back(const ConvolutionTask& task, int64_t chunk) {
  run_rows<Back>(task.half, &task, chunk);
}

}  // namespace lf
