#include "kernels/convolution_tiles.h"

#include "kernels/products.h"
#include "kernels/scratch.h"

namespace lf {
namespace {

// Four sums of four places in a row of the image, and the way back of slopes.
LF_INLINE void image_sums(const Lanes* d, int64_t step, Lanes* out) {
  const Lanes a = d[0], b = d[step], c = d[2 * step], e = d[3 * step];
  out[0] = a - c;
  out[step] = b + c;
  out[2 * step] = c - b;
  out[3 * step] = b - e;
}
LF_INLINE void image_sums_back(Lanes* t, int64_t step) {
  const Lanes a = t[0], b = t[step], c = t[2 * step], e = t[3 * step];
  t[0] = a;
  t[step] = b - c + e;
  t[2 * step] = b + c - a;
  t[3 * step] = -e;
}

// Memory of a strip's 16 matrices of [tiles][row]: a line between them, which would crowd the cache
// otherwise.
struct Sums {
  float* data;
  int64_t row, apart;
  LF_INLINE Sums(Scratch& scratch, int64_t tiles, int64_t row_)
      : row(row_), apart(tiles * row_ + kLanes) {
    data = scratch.take<float>(16 * apart);
  }
  LF_INLINE float* of(int64_t which) const { return data + which * apart; }
};

// Where the 4 x 4 places of a tile lie; `beyond` for those outside of the image.
template <typename Pointer>
LF_INLINE void places(const ConvolutionTask& task, int64_t tile, Pointer images, int64_t channels,
                      Pointer beyond, Pointer* out) {
  const int64_t image = tile / task.of_image(), within = tile % task.of_image();
  const int64_t top = within / task.across() * 2 - 1, left = within % task.across() * 2 - 1;
  for (int64_t r = 0; r < 4; ++r) {
    for (int64_t s = 0; s < 4; ++s) {
      const int64_t y = top + r, x = left + s;
      const bool inside = y >= 0 && y < task.height && x >= 0 && x < task.width;
      out[4 * r + s] =
          inside ? images + ((image * task.height + y) * task.width + x) * channels : beyond;
    }
  }
}

// A strip of tiles: `begin` ... `begin` + `count`.
struct Strip {
  const ConvolutionTask& task;
  int64_t begin, count;

  LF_INLINE void image(const float* zeros, const Sums& sums) const {
    const float* at[16];
    for (int64_t tile = 0; tile < count; ++tile) {
      places(task, begin + tile, task.x, task.in, zeros, at);
      for (int64_t c = 0; c < task.in; c += kLanes) {
        const int64_t lanes = std::min(kLanes, task.in - c);
        Lanes part[16];
#pragma GCC unroll 16
        for (int64_t i = 0; i < 16; ++i) part[i] = load(at[i] + c, lanes);
#pragma GCC unroll 4
        for (int64_t i = 0; i < 4; ++i) image_sums(part + i, 4, part + i);
#pragma GCC unroll 4
        for (int64_t i = 0; i < 4; ++i) image_sums(part + 4 * i, 1, part + 4 * i);
#pragma GCC unroll 16
        for (int64_t i = 0; i < 16; ++i) store(sums.of(i) + tile * sums.row + c, part[i]);
      }
    }
  }

  // The slopes of image()'s sums to those of the image, added.
  LF_INLINE void image_back(const Sums& sums, float* nowhere) const {
    float* at[16];
    for (int64_t tile = 0; tile < count; ++tile) {
      places(task, begin + tile, task.dx, task.in, nowhere, at);
      for (int64_t c = 0; c < task.in; c += kLanes) {
        const int64_t lanes = std::min(kLanes, task.in - c);
        Lanes part[16];
#pragma GCC unroll 16
        for (int64_t i = 0; i < 16; ++i) part[i] = load(sums.of(i) + tile * sums.row + c);
#pragma GCC unroll 4
        for (int64_t i = 0; i < 4; ++i) image_sums_back(part + i, 4);
#pragma GCC unroll 4
        for (int64_t i = 0; i < 4; ++i) image_sums_back(part + 4 * i, 1);
#pragma GCC unroll 16
        for (int64_t i = 0; i < 16; ++i) {
          store(at[i] + c, load(at[i] + c, lanes) + part[i], lanes);
        }
      }
    }
  }

  // Products to results.
  LF_INLINE void result(const Sums& sums, float* nowhere) const {
    float* at[16];
    for (int64_t tile = 0; tile < count; ++tile) {
      places(task, begin + tile, task.y, task.out, nowhere, at);
      for (int64_t c = 0; c < task.out; c += kLanes) {
        const int64_t lanes = std::min(kLanes, task.out - c);
        const Lanes bias = task.bias != nullptr ? load(task.bias + c, lanes) : Lanes{};
        Lanes upper[4], lower[4];
#pragma GCC unroll 4
        for (int64_t s = 0; s < 4; ++s) {
          const float* from = sums.of(s) + tile * sums.row + c;
          const Lanes a = load(from), b = load(from + 4 * sums.apart),
                      d = load(from + 8 * sums.apart), e = load(from + 12 * sums.apart);
          upper[s] = a + b + d;
          lower[s] = b - d - e;
        }
        store(at[5] + c, upper[0] + upper[1] + upper[2] + bias, lanes);
        store(at[6] + c, upper[1] - upper[2] - upper[3] + bias, lanes);
        store(at[9] + c, lower[0] + lower[1] + lower[2] + bias, lanes);
        store(at[10] + c, lower[1] - lower[2] - lower[3] + bias, lanes);
      }
    }
  }

  // The slopes of results to those of the products, and their sums to `bias`.
  LF_INLINE void result_back(const float* zeros, const Sums& sums, float* bias) const {
    const float* at[16];
    for (int64_t tile = 0; tile < count; ++tile) {
      places(task, begin + tile, task.dy, task.out, zeros, at);
      for (int64_t c = 0; c < task.out; c += kLanes) {
        const int64_t lanes = std::min(kLanes, task.out - c);
        const Lanes a = load(at[5] + c, lanes), b = load(at[6] + c, lanes),
                    d = load(at[9] + c, lanes), e = load(at[10] + c, lanes);
        const Lanes left[4] = {a, a + d, a - d, -d}, right[4] = {b, b + e, b - e, -e};
#pragma GCC unroll 4
        for (int64_t r = 0; r < 4; ++r) {
          float* to = sums.of(4 * r) + tile * sums.row + c;
          store(to, left[r]);
          store(to + sums.apart, left[r] + right[r]);
          store(to + 2 * sums.apart, left[r] - right[r]);
          store(to + 3 * sums.apart, -right[r]);
        }
        store(bias + c, load(bias + c) + (left[1] + right[1]));
      }
    }
  }
};

LF_INLINE float* zeroed(Scratch& scratch, int64_t count) {
  auto* out = scratch.take<float>(count);
  std::fill(out, out + count, 0.0F);
  return out;
}

struct Forward {
  static LF_INLINE void run(const ConvolutionTask* given, int64_t index) {
    const ConvolutionTask& task = *given;
    Scratch scratch;
    const int64_t begin = index * task.strip(), in = task.row(task.in), out = task.row(task.out);
    const Strip strip{task, begin, std::min(task.strip(), task.tiles() - begin)};
    auto* spare = zeroed(scratch, std::max(in, out));
    const Sums image(scratch, task.strip(), in), products(scratch, task.strip(), out);
    strip.image(spare, image);
    for (int64_t i = 0; i < 16; ++i) {
      multiply(Operands::kSingle, {image.of(i), in}, {task.filters + i * task.in * out, out},
               {strip.count, out, task.in, products.of(i), out, false});
    }
    strip.result(products, spare);
  }
};

struct Back {
  static LF_INLINE void run(const ConvolutionTask* given, int64_t chunk) {
    const ConvolutionTask& task = *given;
    Scratch scratch;
    const int64_t in = task.row(task.in), out = task.row(task.out), each = task.strip();
    const int64_t first = chunk * task.images / task.chunks(),
                  last = (chunk + 1) * task.images / task.chunks();
    float* sums = task.sums + chunk * task.sums_size();
    std::fill(sums + task.bias_sums(), sums + task.sums_size(), 0.0F);
    const int64_t pixels = task.height * task.width * task.in;
    if (task.dx != nullptr) std::fill(task.dx + first * pixels, task.dx + last * pixels, 0.0F);
    auto* zeros = zeroed(scratch, std::max(in, out));
    auto* nowhere = zeroed(scratch, std::max(in, out));
    const Sums image(scratch, each, in), slopes(scratch, each, out);
    const int64_t end = last * task.of_image();
    for (int64_t begin = first * task.of_image(); begin < end; begin += each) {
      const Strip strip{task, begin, std::min(each, end - begin)};
      strip.result_back(zeros, slopes, sums + task.bias_sums());
      strip.image(zeros, image);
      for (int64_t i = 0; i < 16; ++i) {
        multiply(Operands::kSingle, {image.of(i), 1, in}, {slopes.of(i), out},
                 {task.in, out, strip.count, sums + i * task.in * out, out,
                  begin > first * task.of_image()});
      }
      if (task.dx == nullptr) continue;
      for (int64_t i = 0; i < 16; ++i) {
        multiply(Operands::kSingle, {slopes.of(i), out},
                 {task.filters_turned + i * task.out * in, in},
                 {strip.count, in, task.out, image.of(i), in, false});
      }
      strip.image_back(image, nowhere);
    }
  }
};

// Four sums of three numbers of a filter, and the way back of slopes.
LF_INLINE void three_to_four(const Lanes* g, int64_t step, Lanes* out, int64_t out_step) {
  const Lanes a = g[0], b = g[step], c = g[2 * step];
  out[0] = a;
  out[out_step] = 0.5F * (a + b + c);
  out[2 * out_step] = 0.5F * (a - b + c);
  out[3 * out_step] = c;
}
LF_INLINE void four_to_three(const Lanes* u, int64_t step, Lanes* out, int64_t out_step) {
  const Lanes a = u[0], b = u[step], c = u[2 * step], d = u[3 * step];
  out[0] = a + 0.5F * (b + c);
  out[out_step] = 0.5F * (b - c);
  out[2 * out_step] = 0.5F * (b + c) + d;
}

struct FilterSums {
  static LF_INLINE void run(const float* filters, int64_t size, float* sums) {
    for (int64_t c = 0; c < size; c += kLanes) {
      Lanes g[9], between[12], all[16];
#pragma GCC unroll 9
      for (int64_t i = 0; i < 9; ++i) g[i] = load(filters + i * size + c, size - c);
#pragma GCC unroll 3
      for (int64_t i = 0; i < 3; ++i) three_to_four(g + i, 3, between + i, 3);
#pragma GCC unroll 4
      for (int64_t i = 0; i < 4; ++i) three_to_four(between + 3 * i, 1, all + 4 * i, 1);
#pragma GCC unroll 16
      for (int64_t i = 0; i < 16; ++i) store(sums + i * size + c, all[i], size - c);
    }
  }
};

struct FilterSumsBack {
  static LF_INLINE void run(const float* slopes, int64_t chunks, int64_t chunk, int64_t size,
                            float* filters) {
    for (int64_t c = 0; c < size; c += kLanes) {
      Lanes all[16], between[12], g[9];
#pragma GCC unroll 16
      for (int64_t i = 0; i < 16; ++i) all[i] = load(slopes + i * size + c, size - c);
      for (int64_t k = 1; k < chunks; ++k) {
#pragma GCC unroll 16
        for (int64_t i = 0; i < 16; ++i)
          all[i] += load(slopes + k * chunk + i * size + c, size - c);
      }
#pragma GCC unroll 4
      for (int64_t i = 0; i < 4; ++i) four_to_three(all + 4 * i, 1, between + 3 * i, 1);
#pragma GCC unroll 3
      for (int64_t i = 0; i < 3; ++i) four_to_three(between + i, 3, g + i, 3);
#pragma GCC unroll 9
      for (int64_t i = 0; i < 9; ++i) store(filters + i * size + c, g[i], size - c);
    }
  }
};

}  // namespace

void convolution_strip(const ConvolutionTask& task, int64_t strip) {
  run_kernel<Forward>(&task, strip);
}

void convolution_chunk_back(const ConvolutionTask& task, int64_t chunk) {
  run_kernel<Back>(&task, chunk);
}

void filter_sums(const float* filters, int64_t size, float* sums) {
  run_kernel<FilterSums>(filters, size, sums);
}

void filter_sums_back(const float* slopes, int64_t chunks, int64_t chunk, int64_t size,
                      float* filters) {
  run_kernel<FilterSumsBack>(slopes, chunks, chunk, size, filters);
}

}  // namespace lf
