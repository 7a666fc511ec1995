#include "kernels/cpu/depthwise_rows.h"

#include <algorithm>

#include "kernels/cpu/lanes.h"

namespace lf {
namespace {

// A position (clip, step, row) of the clips.
struct Place {
  int64_t clip, step, row;
};

LF_INLINE Place place_of(const DepthwiseTask& task, int64_t row) {
  return {row / (task.steps * task.height), row / task.height % task.steps, row % task.height};
}

// One row of y, or with kBack of dx, whose taps read later frames instead of earlier ones.
template <typename X, bool kBack>
struct Row {
  static LF_INLINE void run(const DepthwiseTask* given, int64_t index) {
    const DepthwiseTask& task = *given;
    const Place at = place_of(task, index);
    const X* in = static_cast<const X*>(kBack ? task.dy : task.x);
    X* out = static_cast<X*>(kBack ? task.dx : task.y) + index * task.width * task.channels;
    const int64_t sign = kBack ? -1 : 1;
    for (int64_t c = 0; c < task.channels; c += kLanes) {
      const int64_t count = std::min(kLanes, task.channels - c);
      Lanes taps[27];
      for (int64_t tap = 0; tap < 27; ++tap)
        taps[tap] = load(task.taps + tap * task.channels + c, count);
      const Lanes shift = kBack ? Lanes{} : load(task.bias + c, count);
      for (int64_t column = 0; column < task.width; ++column) {
        Lanes sum = shift + load(in + (index * task.width + column) * task.channels + c, count);
        for (int64_t t = 0; t < 3; ++t) {
          const int64_t step = at.step + sign * (t - 2);
          if (step < 0 || step >= task.steps) continue;
          for (int64_t y = 0; y < 3; ++y) {
            const int64_t row = at.row + sign * (y - 1);
            if (row < 0 || row >= task.height) continue;
            const X* line =
                in +
                ((at.clip * task.steps + step) * task.height + row) * task.width * task.channels +
                c;
            for (int64_t x = 0; x < 3; ++x) {
              const int64_t place = column + sign * (x - 1);
              if (place < 0 || place >= task.width) continue;
              sum += taps[t * 9 + y * 3 + x] * load(line + place * task.channels, count);
            }
          }
        }
        store(out + column * task.channels + c, sum, count);
      }
    }
  }
};

template <typename X>
using RowForward = Row<X, false>;
template <typename X>
using RowBack = Row<X, true>;

template <typename X>
struct BlockBack {
  static LF_INLINE void run(const DepthwiseTask* given, int64_t block) {
    const DepthwiseTask& task = *given;
    const int64_t c = block * kLanes, count = std::min(kLanes, task.channels - c);
    const auto* x = static_cast<const X*>(task.x);
    const auto* dy = static_cast<const X*>(task.dy);
    Lanes taps[27] = {}, shift{};
    for (int64_t index = 0; index < task.rows(); ++index) {
      const Place at = place_of(task, index);
      for (int64_t column = 0; column < task.width; ++column) {
        const Lanes gradient = load(dy + (index * task.width + column) * task.channels + c, count);
        shift += gradient;
        for (int64_t t = 0; t < 3; ++t) {
          const int64_t step = at.step + t - 2;
          if (step < 0) continue;
          for (int64_t y = 0; y < 3; ++y) {
            const int64_t row = at.row + y - 1;
            if (row < 0 || row >= task.height) continue;
            const X* line =
                x +
                ((at.clip * task.steps + step) * task.height + row) * task.width * task.channels +
                c;
            for (int64_t z = 0; z < 3; ++z) {
              const int64_t place = column + z - 1;
              if (place < 0 || place >= task.width) continue;
              taps[t * 9 + y * 3 + z] += gradient * load(line + place * task.channels, count);
            }
          }
        }
      }
    }
    for (int64_t tap = 0; tap < 27; ++tap) {
      store(task.tap_gradients + tap * task.channels + c, taps[tap], count);
    }
    store(task.bias_gradients + c, shift, count);
  }
};

}  // namespace

void depthwise_row(const DepthwiseTask& task, int64_t row) {
  run_rows<RowForward>(task.bf16_rows, &task, row);
}

void depthwise_row_back(const DepthwiseTask& task, int64_t row) {
  run_rows<RowBack>(task.bf16_rows, &task, row);
}

void depthwise_block_back(const DepthwiseTask& task, int64_t block) {
  run_rows<BlockBack>(task.bf16_rows, &task, block);
}

}  // namespace lf
