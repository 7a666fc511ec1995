// The fused norm with SiLU on CPU: plain pointers, an image at a time, forward and backward. Called
// by norm_silu.cc.
#pragma once

#include <cstdint>

namespace lf {

struct NormSiluTask {
  int64_t images, places, channels, groups, shared;  // shared: images to a row of gain and shift
  float epsilon;
  bool silu, half;  // half: x, residual, y and their gradients are bfloat16
  const float *gain, *shift;
  const void *x, *residual, *dy;
  void *y, *dx;
  float* sums;  // [images][2][channels]: the slopes of an image's gain and shift
};

void norm_silu_image(const NormSiluTask& task, int64_t image);
void norm_silu_image_back(const NormSiluTask& task, int64_t image);

}  // namespace lf
