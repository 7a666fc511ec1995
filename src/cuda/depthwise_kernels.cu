// See depthwise_kernels.h. A thread has one channel or two neighbouring ones and walks along rows
// of images with the 27 elements around each place in registers, nine new ones a step; its
// neighbours have the channels beside it. The gradient of x is the same walk over that of y, with
// time and space reversed. Each thread sums the gradients of the taps over its part of the rows;
// the caller adds these partial sums in order.
#include "cuda/depthwise_kernels.h"
#include "cuda/vectors.h"

namespace lf {
namespace {

constexpr int kTaps = 27;
constexpr int kMostThreads = 128;

// Neighbouring channels of a place.
template <int kWide>
struct Channels {
  float at[kWide];
};

template <int kWide>
__device__ Channels<kWide> load(const float* from) {
  if constexpr (kWide == 1) return {{from[0]}};
  const float2 raw = *reinterpret_cast<const float2*>(from);
  if constexpr (kWide == 2) return {{raw.x, raw.y}};
}
template <int kWide>
__device__ Channels<kWide> load(const Bf16* from) {
  if constexpr (kWide == 1) return {{to_float(from[0])}};
  const uint32_t raw = *reinterpret_cast<const uint32_t*>(from);
  if constexpr (kWide == 2)
    return {{__uint_as_float(raw << 16), __uint_as_float(raw & 0xffff0000U)}};
}
template <int kWide>
__device__ void store(float* to, const Channels<kWide>& value) {
  if constexpr (kWide == 1) {
    to[0] = value.at[0];
  } else {
    *reinterpret_cast<float2*>(to) = make_float2(value.at[0], value.at[1]);
  }
}
template <int kWide>
__device__ void store(Bf16* to, const Channels<kWide>& value) {
  if constexpr (kWide == 1) {
    put(to, value.at[0]);
  } else {
    *reinterpret_cast<uint32_t*>(to) = pack(value.at[0], value.at[1]);
  }
}

// The elements around a place: [step and row][column]. Columns are a ring: after s of three moves
// the j-th lies at (s + j) % 3, so that none is copied.
template <int kWide>
struct Window {
  Channels<kWide> at[9][3];
  int turn;
  __device__ const Channels<kWide>& operator()(int i, int j) const { return at[i][(turn + j) % 3]; }
};

// Walks along one row of an image of `from`: body(column, window) with the elements around it.
// `sign` 1: the window holds earlier steps; -1: later ones.
template <int kWide, typename X, typename Body>
__device__ void walk(const DeviceDepthwise& task, const X* from, int64_t row, int64_t channel,
                     int sign, const Body& body) {
  const int width = static_cast<int>(task.width);
  const int64_t h = row % task.height, image = row / task.height, t = image % task.steps;
  const X* line[9];
  Window<kWide> window{};
#pragma unroll
  for (int i = 0; i < 9; ++i) {
    const int64_t step = t + sign * (i / 3 - 2), y = h + sign * (i % 3 - 1);
    const bool inside = step >= 0 && step < task.steps && y >= 0 && y < task.height;
    line[i] = nullptr;
    if (!inside) continue;
    line[i] = from + ((image - t + step) * task.height + y) * width * task.channels + channel;
    window.at[i][1] = load<kWide>(line[i]);
  }
  for (int base = 0; base < width; base += 3) {
#pragma unroll
    for (int turn = 0; turn < 3; ++turn) {
      const int w = base + turn;
      if (w >= width) break;
      window.turn = turn;
#pragma unroll
      for (int i = 0; i < 9; ++i) {
        window.at[i][(turn + 2) % 3] = line[i] != nullptr && w + 1 < width
                                           ? load<kWide>(line[i] + (w + 1) * task.channels)
                                           : Channels<kWide>{};
      }
      body(w, window);
    }
  }
}

// The channels of a row that a thread has; a thread beyond the last channel has no work.
struct Item {
  int64_t row, channel;
};
template <int kWide>
__device__ Item item_of(const DeviceDepthwise& task) {
  const int64_t across = (task.channels + kWide * blockDim.x - 1) / (kWide * blockDim.x);
  return {blockIdx.x / across,
          kWide * (static_cast<int64_t>(blockIdx.x) % across * blockDim.x + threadIdx.x)};
}

// y of a row from x, or dx from dy.
template <typename X, int kWide, bool kBack>
__global__ void __launch_bounds__(kMostThreads) depthwise_kernel(DeviceDepthwise task) {
  const Item item = item_of<kWide>(task);
  if (item.channel >= task.channels) return;
  Channels<kWide> taps[kTaps], bias{};
#pragma unroll
  for (int k = 0; k < kTaps; ++k) {
    taps[k] = load<kWide>(task.taps + k * task.channels + item.channel);
  }
  if (!kBack) bias = load<kWide>(task.bias + item.channel);
  const X* from = as<X>(kBack ? task.dy.data : task.x.data);
  X* to = as<X>(kBack ? task.dx.data : task.y.data) + item.row * task.width * task.channels +
          item.channel;
  walk<kWide>(task, from, item.row, item.channel, kBack ? -1 : 1,
              [&](int w, const Window<kWide>& window) {
                // The place itself is the middle of the window's last step.
                Channels<kWide> sum = window(7, 1);
#pragma unroll
                for (int e = 0; e < kWide; ++e) {
                  float own = bias.at[e];
#pragma unroll
                  for (int i = 0; i < 9; ++i) {
#pragma unroll
                    for (int j = 0; j < 3; ++j) {
                      own = fmaf(taps[3 * i + j].at[e], window(i, kBack ? 2 - j : j).at[e], own);
                    }
                  }
                  sum.at[e] += own;
                }
                store<kWide>(to + w * task.channels, sum);
              });
}

// Partial sums of the gradients of taps and bias over a chunk of rows.
template <typename X, int kWide>
__global__ void __launch_bounds__(kMostThreads)
    depthwise_sums_kernel(DeviceDepthwise task, int64_t chunks) {
  const Item item = item_of<kWide>(task);  // its row is a chunk
  if (item.channel >= task.channels) return;
  const int64_t rows = task.clips * task.steps * task.height, each = (rows + chunks - 1) / chunks;
  Channels<kWide> sums[kTaps + 1] = {};
  for (int64_t row = item.row * each; row < (item.row + 1) * each && row < rows; ++row) {
    const X* gradients = as<X>(task.dy.data) + row * task.width * task.channels + item.channel;
    walk<kWide>(task, as<X>(task.x.data), row, item.channel, 1,
                [&](int w, const Window<kWide>& window) {
                  const Channels<kWide> dy = load<kWide>(gradients + w * task.channels);
#pragma unroll
                  for (int e = 0; e < kWide; ++e) {
#pragma unroll
                    for (int k = 0; k < kTaps; ++k) {
                      sums[k].at[e] = fmaf(dy.at[e], window(k / 3, k % 3).at[e], sums[k].at[e]);
                    }
                    sums[kTaps].at[e] += dy.at[e];
                  }
                });
  }
#pragma unroll
  for (int k = 0; k <= kTaps; ++k) {
    store<kWide>(task.sums + (item.row * (kTaps + 1) + k) * task.channels + item.channel, sums[k]);
  }
}

Launch over(int64_t rows, int64_t channels, int wide, cudaStream_t stream) {
  int threads = kMostThreads;
  while (threads > kWarp && threads * wide >= 2 * channels) threads /= 2;
  return {rows * parts_of(channels, threads * wide), threads, 0, stream};
}

template <typename X, int kWide>
cudaError_t run(const DeviceDepthwise& task, bool back, cudaStream_t stream) {
  const Launch rows = over(task.rows(), task.channels, kWide, stream);
  if (!back) return launch(rows, depthwise_kernel<X, kWide, false>, task);
  const cudaError_t status = launch(rows, depthwise_kernel<X, kWide, true>, task);
  if (status != cudaSuccess) return status;
  // One channel a thread: its 28 sums take the registers.
  return launch(over(task.chunks(), task.channels, 1, stream), depthwise_sums_kernel<X, 1>, task,
                task.chunks());
}

template <typename X>
cudaError_t run(const DeviceDepthwise& task, bool back, cudaStream_t stream) {
  const auto even = [](const void* data, size_t size) {
    return reinterpret_cast<uintptr_t>(data) % (2 * size) == 0;
  };
  const bool wide = task.channels % 2 == 0 && even(task.x.data, sizeof(X)) &&
                    even(task.y.data, sizeof(X)) && even(task.dy.data, sizeof(X)) &&
                    even(task.dx.data, sizeof(X)) && even(task.taps, sizeof(float)) &&
                    even(task.bias, sizeof(float));
  return wide ? run<X, 2>(task, back, stream) : run<X, 1>(task, back, stream);
}

}  // namespace

cudaError_t cuda_depthwise(const DeviceDepthwise& task, cudaStream_t stream) {
  return task.x.bf16 ? run<Bf16>(task, false, stream) : run<float>(task, false, stream);
}

cudaError_t cuda_depthwise_back(const DeviceDepthwise& task, cudaStream_t stream) {
  return task.x.bf16 ? run<Bf16>(task, true, stream) : run<float>(task, true, stream);
}

}  // namespace lf
