// Winograd's transforms of the fused convolution: tiles of images and of results to the 36 matrices
// that are multiplied, and back, with the gradients of both. Plain pointers.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/convolution_tiles.h"
#include "kernels/cpu/scratch.h"

namespace lf {

// Memory of a strip's matrices of [frames * tiles][row]: a cache line between them, so that
// they do not map to the same cache sets, and tiles of zeros before the first frame and after the
// last where convolutions reach over time.
struct Transformed {
  float *memory, *data;  // `data`: of the first frame
  int64_t row, apart, around;
  Transformed(Scratch& scratch, const ConvolutionTask& task, int64_t row_)
      : row(row_), around(task.taps / 2 * task.strip() * row_) {
    apart = task.frames * task.strip() * row + 2 * around + kLanes;
    memory = scratch.take<float>(kTransformed * apart);
    data = memory + around;
  }
  float* of(int64_t which) const { return data + which * apart; }
  // Zeros around `used` elements of each matrix.
  void clear_around(int64_t used) const {
    for (int64_t i = 0; around > 0 && i < kTransformed; ++i) {
      std::fill(of(i) - around, of(i), 0.0F);
      std::fill(of(i) + used, of(i) + used + around, 0.0F);
    }
  }
};

// A strip of tiles, `begin` ... `begin` + `count`, in all frames: frame by frame.
struct Strip {
  int64_t begin, count;
};

// x -> matrices; `zeros` stand beyond the border, [row(in)].
void transform_image(const ConvolutionTask& task, const Strip& strip, const float* zeros,
                     const Transformed& matrices);
// The matrices' gradients, added to dx_single; `nowhere` takes what falls beyond the border.
void transform_image_back(const ConvolutionTask& task, const Strip& strip,
                          const Transformed& matrices, float* nowhere);
// Products -> y; `nowhere` [row(out)].
void results(const ConvolutionTask& task, const Strip& strip, const Transformed& matrices,
             float* nowhere);
// dy -> the gradients of the products, and their sums to `bias`.
void transform_results_back(const ConvolutionTask& task, const Strip& strip, const float* zeros,
                            const Transformed& matrices, float* bias);

}  // namespace lf
