// See depthwise_kernels.h. A thread has a channel and walks along rows of images with the 27
// numbers around it in registers, nine new ones a step; its neighbours have the channels beside it.
// Backward to x is the same walk over the slopes with time and space turned round. Slopes of the
// taps are summed by each thread over its part of the rows; the caller adds the parts in order.
#include "cuda/depthwise_kernels.h"
#include "cuda/vectors.h"

namespace lf {
namespace {

constexpr int kTaps = 27;

struct Window {
  float at[9][3];  // step and row, column
};

// Walks along one row of an image of `from`: body(column, window) with the numbers around it.
// `sign` 1: steps before; -1: steps after.
template <typename X, typename Body>
__device__ void walk(const DeviceDepthwise& task, const X* from, int64_t row, int64_t channel,
                     int sign, const Body& body) {
  const int64_t h = row % task.height, image = row / task.height, t = image % task.steps;
  const X* line[9];
#pragma unroll
  for (int i = 0; i < 9; ++i) {
    const int64_t step = t + sign * (i / 3 - 2), y = h + sign * (i % 3 - 1);
    const bool there = step >= 0 && step < task.steps && y >= 0 && y < task.height;
    line[i] = there ? from + (((image - t + step) * task.height + y) * task.width) * task.channels +
                          channel
                    : nullptr;
  }
  Window window{};
#pragma unroll
  for (int i = 0; i < 9; ++i) {
    if (line[i] != nullptr) window.at[i][2] = to_float(line[i][0]);
  }
  for (int64_t w = 0; w < task.width; ++w) {
#pragma unroll
    for (int i = 0; i < 9; ++i) {
      window.at[i][0] = window.at[i][1];
      window.at[i][1] = window.at[i][2];
      window.at[i][2] = line[i] != nullptr && w + 1 < task.width
                            ? to_float(line[i][(w + 1) * task.channels])
                            : 0.0F;
    }
    body(w, window);
  }
}

// A thread a channel of a row; threads beyond the last channel have nothing to do.
struct Item {
  int64_t row, channel;
};
__device__ Item item_of(const DeviceDepthwise& task) {
  const int64_t across = (task.channels + blockDim.x - 1) / blockDim.x;
  return {blockIdx.x / across,
          static_cast<int64_t>(blockIdx.x) % across * blockDim.x + threadIdx.x};
}

// y of a row from x, or dx from dy.
template <typename X, bool kBack>
__global__ void depthwise_kernel(DeviceDepthwise task) {
  const Item item = item_of(task);
  if (item.channel >= task.channels) return;
  float taps[kTaps];
#pragma unroll
  for (int k = 0; k < kTaps; ++k) taps[k] = task.taps[k * task.channels + item.channel];
  const float bias = kBack ? 0.0F : task.bias[item.channel];
  const X* from = as<X>(kBack ? task.dy.data : task.x.data);
  X* to = as<X>(kBack ? task.dx.data : task.y.data);
  walk(task, from, item.row, item.channel, kBack ? -1 : 1, [&](int64_t w, const Window& window) {
    float sum = bias;
#pragma unroll
    for (int i = 0; i < 9; ++i) {
#pragma unroll
      for (int j = 0; j < 3; ++j) {
        sum = fmaf(taps[3 * i + j], window.at[i][kBack ? 2 - j : j], sum);
      }
    }
    // The present lies in the middle of the window's last step.
    put(to + (item.row * task.width + w) * task.channels + item.channel, sum + window.at[7][1]);
  });
}

template <typename X>
__global__ void depthwise_sums_kernel(DeviceDepthwise task, int64_t chunks) {
  const Item item = item_of(task);  // of a chunk of rows
  if (item.channel >= task.channels) return;
  const int64_t rows = task.clips * task.steps * task.height, each = (rows + chunks - 1) / chunks;
  float sums[kTaps + 1] = {};
  for (int64_t row = item.row * each; row < (item.row + 1) * each && row < rows; ++row) {
    const X* slopes = as<X>(task.dy.data) + row * task.width * task.channels + item.channel;
    walk(task, as<X>(task.x.data), row, item.channel, 1, [&](int64_t w, const Window& window) {
      const float slope = to_float(slopes[w * task.channels]);
#pragma unroll
      for (int i = 0; i < 9; ++i) {
#pragma unroll
        for (int j = 0; j < 3; ++j) {
          sums[3 * i + j] = fmaf(slope, window.at[i][j], sums[3 * i + j]);
        }
      }
      sums[kTaps] += slope;
    });
  }
#pragma unroll
  for (int k = 0; k <= kTaps; ++k) {
    task.sums[(item.row * (kTaps + 1) + k) * task.channels + item.channel] = sums[k];
  }
}

Launch over(int64_t rows, int64_t channels, cudaStream_t stream) {
  const int threads = channels > 64 ? 128 : channels > 32 ? 64 : 32;
  return {rows * parts_of(channels, threads), threads, 0, stream};
}

template <typename X>
cudaError_t backward(const DeviceDepthwise& task, cudaStream_t stream) {
  const cudaError_t status =
      launch(over(task.rows(), task.channels, stream), depthwise_kernel<X, true>, task);
  if (status != cudaSuccess) return status;
  return launch(over(task.chunks(), task.channels, stream), depthwise_sums_kernel<X>, task,
                task.chunks());
}

}  // namespace

cudaError_t cuda_depthwise(const DeviceDepthwise& task, cudaStream_t stream) {
  const Launch how = over(task.rows(), task.channels, stream);
  return task.x.half ? launch(how, depthwise_kernel<Bf16, false>, task)
                     : launch(how, depthwise_kernel<float, false>, task);
}

cudaError_t cuda_depthwise_back(const DeviceDepthwise& task, cudaStream_t stream) {
  return task.x.half ? backward<Bf16>(task, stream) : backward<float>(task, stream);
}

}  // namespace lf
