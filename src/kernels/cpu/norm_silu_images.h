// The fused norm with SiLU on CPU: plain pointers, an image at a time, forward and backward.
#pragma once

#include <cstdint>

namespace lf {

struct NormSiluTask {
  int64_t images, places, channels, groups, shared;  // shared: images to a row of gain and shift
  float epsilon;
  bool silu, bf16_rows;  // bf16_rows: x, residual, y and their gradients are bf16
  const float *gain, *shift;
  const void *x, *residual, *dy;
  void *y, *dx;
  float* sums;  // [images][2][channels]: the gradients of an image's gain and shift
};

void norm_silu_image(const NormSiluTask& task, int64_t image);
void norm_silu_image_back(const NormSiluTask& task, int64_t image);

}  // namespace lf
