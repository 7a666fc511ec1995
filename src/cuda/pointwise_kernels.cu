// See pointwise_kernels.h. One warp a row; a lane takes four neighbouring elements where rows are
// aligned to four, else one.
#include <algorithm>

#include "cuda/pointwise_kernels.h"
#include "cuda/vectors.h"

namespace lf {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMostBlocks = 1 << 14;

// body(row, column) for each row and every kWide-th column.
template <int kWide, typename Body>
__device__ void over_rows(int64_t rows, int64_t width, const Body& body) {
  const int warps = kThreads / kWarp;
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * warps + threadIdx.x / kWarp; row < rows;
       row += static_cast<int64_t>(gridDim.x) * warps) {
    for (int64_t c = kWide * (threadIdx.x % kWarp); c < width; c += kWide * kWarp) body(row, c);
  }
}

template <int kWide, typename X>
__device__ Four load_wide(const X* from) {
  return load_four(from, kWide, kWide == 4);
}
template <int kWide, typename X>
__device__ void store_wide(X* to, const Four& four) {
  store_four(to, four, kWide, kWide == 4);
}

constexpr float kRootHalf = 0.70710678118654752440F;  // sqrt(1 / 2)
constexpr float kDensity = 0.39894228040143267794F;   // 1 / sqrt(2 pi)

__device__ float normal_cdf(float x) { return 0.5F * (1.0F + erff(x * kRootHalf)); }

template <typename X, int kWide>
__global__ void __launch_bounds__(kThreads) activation_kernel(DeviceActivation task) {
  over_rows<kWide>(task.rows, task.hidden, [&](int64_t row, int64_t c) {
    const X* h = as<X>(task.h.data) + row * task.hidden * (task.gated ? 2 : 1) + c;
    const Four x = load_wide<kWide>(task.gated ? h + task.hidden : h);
    Four gate{{1, 1, 1, 1}}, y;
    if (task.gated) gate = load_wide<kWide>(h);
#pragma unroll
    for (int e = 0; e < kWide; ++e) y.at[e] = gate.at[e] * x.at[e] * normal_cdf(x.at[e]);
    store_wide<kWide>(as<X>(task.y.data) + row * task.hidden + c, y);
  });
}

template <typename X, int kWide>
__global__ void __launch_bounds__(kThreads) activation_back_kernel(DeviceActivation task) {
  over_rows<kWide>(task.rows, task.hidden, [&](int64_t row, int64_t c) {
    const int64_t at = row * task.hidden * (task.gated ? 2 : 1) + c;
    const X* h = as<X>(task.h.data) + at;
    X* dh = as<X>(task.dh.data) + at;
    const Four x = load_wide<kWide>(task.gated ? h + task.hidden : h);
    const Four dy = load_wide<kWide>(as<X>(task.dy.data) + row * task.hidden + c);
    Four gate{{1, 1, 1, 1}}, y, dx, d_gate;
    if (task.gated) gate = load_wide<kWide>(h);
#pragma unroll
    for (int e = 0; e < kWide; ++e) {
      const float cdf = normal_cdf(x.at[e]), active = x.at[e] * cdf;
      y.at[e] = gate.at[e] * active;
      d_gate.at[e] = dy.at[e] * active;
      const float density = kDensity * expf(-0.5F * x.at[e] * x.at[e]);
      dx.at[e] = dy.at[e] * gate.at[e] * fmaf(x.at[e], density, cdf);
    }
    store_wide<kWide>(as<X>(task.y.data) + row * task.hidden + c, y);
    store_wide<kWide>(task.gated ? dh + task.hidden : dh, dx);
    if (task.gated) store_wide<kWide>(dh, d_gate);
  });
}

template <typename X, typename Branch, int kWide>
__global__ void __launch_bounds__(kThreads) residual_kernel(DeviceResidual task) {
  over_rows<kWide>(task.rows, task.width, [&](int64_t row, int64_t c) {
    const int64_t at = row * task.width + c;
    const Four x = load_wide<kWide>(as<X>(task.x.data) + at);
    const Four branch = load_wide<kWide>(as<Branch>(task.branch.data) + at);
    Four bias{}, y;
    if (task.bias != nullptr) bias = load_wide<kWide>(task.bias + c);
#pragma unroll
    for (int e = 0; e < kWide; ++e) y.at[e] = x.at[e] + (branch.at[e] + bias.at[e]);
    store_wide<kWide>(as<X>(task.y.data) + at, y);
  });
}

bool aligned(DeviceData data) {
  return reinterpret_cast<uintptr_t>(data.data) % (data.bf16 ? 8 : 16) == 0;
}
bool aligned(DeviceResult result) { return aligned(DeviceData{result.data, result.bf16}); }

Launch over(int64_t rows, cudaStream_t stream) {
  return {std::min(parts_of(rows, kThreads / kWarp), kMostBlocks), kThreads, 0, stream};
}

template <typename X>
cudaError_t activation(const DeviceActivation& task, bool back, cudaStream_t stream) {
  const bool aligned_rows = task.hidden % 4 == 0 && aligned(task.h) && aligned(task.y) &&
                            aligned(task.dy) && aligned(task.dh);
  const Launch how = over(task.rows, stream);
  if (back) {
    return aligned_rows ? launch(how, activation_back_kernel<X, 4>, task)
                        : launch(how, activation_back_kernel<X, 1>, task);
  }
  return aligned_rows ? launch(how, activation_kernel<X, 4>, task)
                      : launch(how, activation_kernel<X, 1>, task);
}

template <typename X, typename Branch>
cudaError_t residual(const DeviceResidual& task, cudaStream_t stream) {
  const bool aligned_rows = task.width % 4 == 0 && aligned(task.x) && aligned(task.branch) &&
                            aligned(task.y) && aligned(DeviceData{task.bias, false});
  const Launch how = over(task.rows, stream);
  return aligned_rows ? launch(how, residual_kernel<X, Branch, 4>, task)
                      : launch(how, residual_kernel<X, Branch, 1>, task);
}

}  // namespace

cudaError_t cuda_activation(const DeviceActivation& task, cudaStream_t stream) {
  return task.h.bf16 ? activation<Bf16>(task, false, stream)
                     : activation<float>(task, false, stream);
}

cudaError_t cuda_activation_back(const DeviceActivation& task, cudaStream_t stream) {
  return task.h.bf16 ? activation<Bf16>(task, true, stream) : activation<float>(task, true, stream);
}

cudaError_t cuda_add_residual(const DeviceResidual& task, cudaStream_t stream) {
  if (task.x.bf16) return residual<Bf16, Bf16>(task, stream);
  return task.branch.bf16 ? residual<float, Bf16>(task, stream)
                          : residual<float, float>(task, stream);
}

}  // namespace lf
