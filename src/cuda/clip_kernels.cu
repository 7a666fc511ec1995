// See clip_kernels.h. A clip crosses the bus as bytes and becomes floats here: a quarter of the
// traffic of converting on the host.
#include <algorithm>

#include "cuda/clip_kernels.h"

namespace lf {
namespace {

// One thread a pixel: the channels of a pixel are neighbours in the source, and every plane of the
// result is written by neighbouring threads at neighbouring addresses.
__global__ void to_signed_unit_kernel(const uint8_t* __restrict__ clips, float* __restrict__ out,
                                      int64_t pixels, int64_t plane, int channels) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t at = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; at < pixels;
       at += stride) {
    const uint8_t* pixel = clips + at * channels;
    float* target = out + (at / plane) * plane * channels + at % plane;
    for (int channel = 0; channel < channels; ++channel) {
      // 2 v - 255 is exact, so the division is the only rounding, as on the CPU.
      target[channel * plane] =
          __fdiv_rn(static_cast<float>(2 * static_cast<int>(pixel[channel]) - 255), 255.0f);
    }
  }
}

}  // namespace

cudaError_t cuda_to_signed_unit(const uint8_t* clips_NTHWC, const BatchShape& shape,
                                float* out_NTCHW, cudaStream_t stream) {
  const int64_t plane = shape.height * shape.width;
  const int64_t pixels = shape.clips * shape.frames * plane;
  if (pixels < 0 || shape.channels < 0 || shape.channels > INT32_MAX) return cudaErrorInvalidValue;
  if (pixels == 0 || shape.channels == 0) return cudaSuccess;
  constexpr int kThreads = 256;
  constexpr int64_t kMostBlocks = 1 << 16;
  const int64_t blocks = std::min((pixels + kThreads - 1) / kThreads, kMostBlocks);
  to_signed_unit_kernel<<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(
      clips_NTHWC, out_NTCHW, pixels, plane, static_cast<int>(shape.channels));
  return cudaGetLastError();
}

}  // namespace lf
