// See frame_kernels.h. The arithmetic is that of data/recipe/frame_kernels.cc and
// base/random_lanes.h, to the bit: sums in the order stated there, fused only where std::fma is
// written (the build passes -fmad=false). At most three passes: the sum of the parents, the blur
// down the columns, then the blur along the rows and the noise.
#include <cuda_fp16.h>

#include <algorithm>

#include "base/random_lanes.h"
#include "cuda/frame_kernels.h"
#include "cuda/launch.h"

namespace lf {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMostBlocks = 1 << 16;
constexpr int64_t kTogether = kBlocksTogether, kChunk = 4 * kTogether;

Launch over(int64_t threads, cudaStream_t stream) {
  return {std::min((threads + kThreads - 1) / kThreads, kMostBlocks), kThreads, 0, stream};
}

__device__ int64_t first_thread() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ int64_t all_threads() { return static_cast<int64_t>(gridDim.x) * blockDim.x; }

// The index that half-sample symmetric reflection maps `i` to.
__device__ int64_t reflect(int64_t i, int64_t n) {
  if (i >= 0 && i < n) return i;
  int64_t m = i % (2 * n);
  if (m < 0) m += 2 * n;
  return m < n ? m : 2 * n - 1 - m;
}

// Elements of a frame of a clip.
__host__ __device__ int64_t size_of(const DeviceFrame& task) {
  return task.height * task.width * task.channels;
}

__device__ float* frame_of(const DeviceFrame& task, int64_t frame, int64_t clip) {
  return task.frames + (frame * task.clips + clip) * size_of(task);
}

__device__ float sum_of(const DeviceFrame& task, int64_t clip, int64_t e) {
  float sum = frame_of(task, task.parent[0], clip)[e];
  if (!task.sums) return sum;
  sum = std::fma(task.weight[0], sum, task.offset);
  for (int p = 1; p < task.parents; ++p) {
    sum = std::fma(task.weight[p], frame_of(task, task.parent[p], clip)[e], sum);
  }
  return sum;
}

// Element `e` of a line of `n` elements, `step` apart in memory, blurred.
__device__ float blurred(const DeviceFrame& task, const float* line, int64_t e, int64_t n,
                         int64_t step) {
  float sum = task.blur[0] * line[e * step];
  for (int64_t k = 1; k <= task.radius; ++k) {
    const float both = line[reflect(e - k, n) * step] + line[reflect(e + k, n) * step];
    sum = std::fma(task.blur[k], both, sum);
  }
  return sum;
}

__global__ void sum_kernel(DeviceFrame task) {
  const int64_t all = task.clips * size_of(task);
  for (int64_t at = first_thread(); at < all; at += all_threads()) {
    task.sum[at] = sum_of(task, at / size_of(task), at % size_of(task));
  }
}

__global__ void columns_kernel(DeviceFrame task) {
  const int64_t row = task.width * task.channels, all = task.clips * size_of(task);
  for (int64_t at = first_thread(); at < all; at += all_threads()) {
    const int64_t clip = at / size_of(task), e = at % size_of(task);
    const float* image =
        task.sums ? task.sum + clip * size_of(task) : frame_of(task, task.parent[0], clip);
    task.columns[at] = blurred(task, image + e % row, e / row, task.height, row);
  }
}

// Element `e` before noise: blurred along its row, or the sum of the parents.
__device__ float smooth(const DeviceFrame& task, int64_t clip, int64_t e) {
  if (task.blur == nullptr) return sum_of(task, clip, e);
  const int64_t row = task.width * task.channels;
  const float* line = task.columns + clip * size_of(task) + e / row * row + e % row % task.channels;
  return blurred(task, line, e % row / task.channels, task.width, task.channels);
}

// One thread for each block of four random words, which belong to elements kTogether apart.
__global__ void finish_kernel(DeviceFrame task, int64_t blocks_a_clip) {
  const int64_t all = task.clips * blocks_a_clip;
  for (int64_t at = first_thread(); at < all; at += all_threads()) {
    const int64_t clip = at / blocks_a_clip, block = at % blocks_a_clip;
    float values[4] = {};
    if (task.noise != 0) {
      const uint64_t item = task.items[clip];
      uint32_t words[4] = {static_cast<uint32_t>(block), static_cast<uint32_t>(item),
                           static_cast<uint32_t>(item >> 32), task.draws[clip]};
      philox_block(task.keys[2 * clip], task.keys[2 * clip + 1], words);
      box_muller(words[0], words[1], &values[0], &values[1]);
      box_muller(words[2], words[3], &values[2], &values[3]);
    }
    float* out = frame_of(task, task.frame, clip);
    for (int w = 0; w < 4; ++w) {
      const int64_t e = block / kTogether * kChunk + block % kTogether + w * kTogether;
      if (e >= size_of(task)) continue;
      const float value = smooth(task, clip, e);
      out[e] = task.noise != 0 ? std::fma(task.noise, values[w], value) : value;
    }
  }
}

// Rounds half to even by pushing the fraction out of the mantissa.
__device__ float grey(float x) {
  x = x < 0.0F ? 0.0F : x;
  x = x > 255.0F ? 255.0F : x;
  return (x + 12582912.0F) - 12582912.0F;
}

__global__ void show_kernel(DeviceShow task) {
  const int64_t size = task.height * task.width * task.channels;
  const int64_t all = task.clips * task.frames * size;
  for (int64_t at = first_thread(); at < all; at += all_threads()) {
    const int64_t e = at % size, c = e % task.channels, x = e / task.channels % task.width;
    const int64_t row = e - c - x * task.channels;
    const int64_t s = task.frames - 1 - at / size % task.frames, clip = at / (size * task.frames);
    const int64_t from = task.mirrored[clip] != 0 ? task.width - 1 - x : x;
    const float value = task.made[(s * task.clips + clip) * size + row + from * task.channels + c];
    task.out[at] = s > 0 && task.fp16 ? __half2float(__float2half_rn(value / 127.5F - 1.0F))
                                      : grey(value) * static_cast<float>(1.0 / 127.5) - 1.0F;
  }
}

}  // namespace

cudaError_t cuda_frame(const DeviceFrame& task, cudaStream_t stream) {
  const int64_t all = task.clips * size_of(task);
  const int64_t blocks_a_clip = (size_of(task) + kChunk - 1) / kChunk * kTogether;
  if (task.parents < 1 || task.parents > DeviceFrame::kMostParents || task.frame < 1 ||
      (task.parents > 1 && !task.sums) || blocks_a_clip > int64_t{UINT32_MAX}) {
    return cudaErrorInvalidValue;
  }
  if (all == 0) return cudaSuccess;
  if (task.blur != nullptr) {
    if (task.sums) {
      const cudaError_t status = launch(over(all, stream), sum_kernel, task);
      if (status != cudaSuccess) return status;
    }
    const cudaError_t status = launch(over(all, stream), columns_kernel, task);
    if (status != cudaSuccess) return status;
  }
  return launch(over(task.clips * blocks_a_clip, stream), finish_kernel, task, blocks_a_clip);
}

cudaError_t cuda_show(const DeviceShow& task, cudaStream_t stream) {
  const int64_t all = task.clips * task.frames * task.height * task.width * task.channels;
  if (all == 0) return cudaSuccess;
  return launch(over(all, stream), show_kernel, task);
}

}  // namespace lf
