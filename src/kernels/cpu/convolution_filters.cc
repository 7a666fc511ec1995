#include "kernels/cpu/convolution_filters.h"

#include <algorithm>

namespace lf {
namespace {

constexpr int64_t kNine = 9;  // elements of a filter

// Winograd's transform of three elements of a filter to six, and of their gradients; see
// convolution_transforms.cc.
LF_INLINE void filter_transform(const Lanes* g, int64_t step, Lanes* out, int64_t to) {
  const Lanes a = g[0], b = g[step], c = g[2 * step];
  const Lanes outer = (a + c) * (-1.0F / 6), inner = b * (1.0F / 6);
  const Lanes wide_outer = a * (1.0F / 24) + c * (1.0F / 6), wide_inner = b * (1.0F / 12);
  out[0] = 0.25F * a;
  out[to] = outer - inner;
  out[2 * to] = outer + inner;
  out[3 * to] = wide_outer + wide_inner;
  out[4 * to] = wide_outer - wide_inner;
  out[5 * to] = c;
}
LF_INLINE void filter_transform_back(const Lanes* u, int64_t step, Lanes* out, int64_t to) {
  const Lanes p = u[step] + u[2 * step], m = u[2 * step] - u[step], q = u[3 * step] + u[4 * step],
              n = u[3 * step] - u[4 * step];
  const Lanes first = u[0], last = u[5 * step];
  out[0] = 0.25F * first - p * (1.0F / 6) + q * (1.0F / 24);
  out[to] = m * (1.0F / 6) + n * (1.0F / 12);
  out[2 * to] = (q - p) * (1.0F / 6) + last;
}

LF_INLINE void transform(const Lanes* nine, float* sums, int64_t apart) {
  Lanes part[3 * kSide];
  for (int64_t s = 0; s < 3; ++s) filter_transform(nine + s, 3, part + s, 3);
  for (int64_t r = 0; r < kSide; ++r) {
    Lanes made[kSide];
    filter_transform(part + 3 * r, 1, made, 1);
#pragma GCC unroll 6
    for (int64_t s = 0; s < kSide; ++s) store(sums + (kSide * r + s) * apart, made[s]);
  }
}

// Up to sixteen filters of each of up to sixteen output channels.
struct Square {
  int64_t outs, ins;
  int64_t all, first;  // all: channels of a place; first: the number in the weight

  LF_INLINE Square(const ConvolutionTask& task, int64_t block, int64_t tap, int64_t c)
      : outs(std::min(kLanes, task.out - block * kLanes)),
        ins(std::min(kLanes, task.in - c)),
        all(task.taps * task.in),
        first(block * kLanes * kNine * all + tap * task.in + c) {}

  LF_INLINE int64_t at(int64_t o, int64_t n) const { return first + (o * kNine + n) * all; }

  // To [in][number], each over the output channels; zeros for absent ones.
  LF_INLINE void read(const float* weight, Lanes* lanes) const {
    for (int64_t n = 0; n < kNine; ++n) {
      Lanes part[kLanes];
      for (int64_t o = 0; o < kLanes; ++o) {
        part[o] = o < outs ? load(weight + at(o, n), ins) : Lanes{};
      }
      transpose(part);
      for (int64_t i = 0; i < kLanes; ++i) lanes[i * kNine + n] = part[i];
    }
  }
  LF_INLINE void write(const Lanes* lanes, float* weight) const {
    for (int64_t n = 0; n < kNine; ++n) {
      Lanes part[kLanes];
      for (int64_t i = 0; i < kLanes; ++i) part[i] = lanes[i * kNine + n];
      transpose(part);
      for (int64_t o = 0; o < outs; ++o) store(weight + at(o, n), part[o], ins);
    }
  }
};

// The squares of a block follow each other through the taps.
LF_INLINE int64_t next(const ConvolutionTask& task, int64_t first) {
  return std::min(first + kLanes, (first / task.in + 1) * task.in);
}

struct TransformFilters {
  static LF_INLINE void run(const ConvolutionTask* task, const float* weight, int64_t block,
                            float* sums) {
    const int64_t wide = ConvolutionTask::row(task->out);
    for (int64_t c = 0; c < task->taps * task->in; c = next(*task, c)) {
      const Square square(*task, block, c / task->in, c % task->in);
      Lanes lanes[kLanes * kNine];
      square.read(weight, lanes);
      for (int64_t i = 0; i < square.ins; ++i) {
        transform(lanes + i * kNine, sums + (c + i) * wide + block * kLanes, task->filter_size());
      }
    }
  }
};

struct TransformTransposedFilters {
  static LF_INLINE void run(const ConvolutionTask* task, const float* weight, int64_t block,
                            float* sums) {
    const int64_t wide = ConvolutionTask::row(task->in);
    for (int64_t c = 0; c < task->taps * task->in; c = next(*task, c)) {
      const int64_t tap = c / task->in;
      const Square square(*task, block, tap, c % task->in);
      for (int64_t o = 0; o < square.outs; ++o) {
        Lanes nine[kNine];
        for (int64_t n = 0; n < kNine; ++n) nine[n] = load(weight + square.at(o, n), square.ins);
        transform(nine, sums + (tap * task->out + block * kLanes + o) * wide + c % task->in,
                  task->transposed_size());
      }
    }
  }
};

struct TransformFiltersBack {
  static LF_INLINE void run(const ConvolutionTask* task, int64_t block, float* weight_gradients) {
    const int64_t wide = ConvolutionTask::row(task->out);
    const int64_t chunks = task->chunks(), apart = task->sums_size();
    for (int64_t c = 0; c < task->taps * task->in; c = next(*task, c)) {
      const Square square(*task, block, c / task->in, c % task->in);
      Lanes lanes[kLanes * kNine] = {};
      for (int64_t i = 0; i < square.ins; ++i) {
        const float* from = task->sums + (c + i) * wide + block * kLanes;
        Lanes part[kSide * 3], sum[kSide];
        for (int64_t r = 0; r < kSide; ++r) {
          for (int64_t s = 0; s < kSide; ++s) {
            const float* one = from + (kSide * r + s) * task->filter_size();
            sum[s] = load(one);
            for (int64_t k = 1; k < chunks; ++k) sum[s] += load(one + k * apart);
          }
          filter_transform_back(sum, 1, part + 3 * r, 1);
        }
        for (int64_t s = 0; s < 3; ++s) {
          filter_transform_back(part + s, 3, lanes + i * kNine + s, 3);
        }
      }
      square.write(lanes, weight_gradients);
    }
  }
};

}  // namespace

void transform_filters(const ConvolutionTask& task, const float* weight, int64_t block,
                       float* sums) {
  run_kernel<TransformFilters>(&task, weight, block, sums);
}

void transform_transposed_filters(const ConvolutionTask& task, const float* weight, int64_t block,
                                  float* sums) {
  run_kernel<TransformTransposedFilters>(&task, weight, block, sums);
}

void transform_filters_back(const ConvolutionTask& task, int64_t block, float* weight_gradients) {
  run_kernel<TransformFiltersBack>(&task, block, weight_gradients);
}

}  // namespace lf
