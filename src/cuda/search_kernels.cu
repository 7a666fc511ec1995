// See search_kernels.h. A block scores 128 rows against 128 codes at a time, 8 x 8 a thread, and
// keeps the best of each row in registers; a second kernel chooses among the parts of the codebook.
// Dot products have one order of summation wherever a code lies, so that equal codes have equal
// scores and the first of them wins.
#include "cuda/search_kernels.h"
#include "cuda/tiles.h"

namespace lf {
namespace {

constexpr int kSide = 128, kThreads = 256, kDepth = 16;
constexpr int kAcross = 16;       // threads that share a row
constexpr int kHalf = kSide / 2;  // a thread has four rows and codes of each half
constexpr int kEach = 8;

struct Best {
  float score;
  int32_t code;
};

__device__ bool better(const Best& a, const Best& b) {
  return a.score < b.score || (a.score == b.score && a.code < b.code);
}

// Elements [at, at + kDepth) of rows first .. rows - 1, transposed and padded with zeros.
__device__ void load_part(const float* from, int64_t first, int64_t rows, int64_t dim, int64_t at,
                          bool aligned, const SharedMatrix& to) {
#pragma unroll
  for (int i = 0; i < kSide * kDepth / 4 / kThreads; ++i) {
    const int task = threadIdx.x + i * kThreads, r = task % kSide, c = task / kSide * 4;
    Four four{};
    if (first + r < rows) {
      four = load_four(from + (first + r) * dim + at + c, dim - at - c, aligned);
    }
#pragma unroll
    for (int e = 0; e < 4; ++e) to.data[(c + e) * to.row + r] = four.at[e];
  }
}

// The place in the tile of a thread's i-th row or code.
__device__ int own(int thread, int i) { return i / 4 * kHalf + 4 * thread + i % 4; }

__global__ void __launch_bounds__(kThreads, 2)
    search_kernel(DeviceSearch task, int64_t parts, bool aligned) {
  constexpr int kRow = kSide + 4;
  __shared__ float4 row_memory[kDepth * kRow / 4], code_memory[kDepth * kRow / 4];
  const SharedMatrix rows{reinterpret_cast<float*>(row_memory), kRow};
  const SharedMatrix codes{reinterpret_cast<float*>(code_memory), kRow};
  const int64_t first = blockIdx.x / parts * kSide, part = blockIdx.x % parts;
  const int64_t each = (task.size + parts - 1) / parts;
  const int64_t end = (part + 1) * each < task.size ? (part + 1) * each : task.size;
  const int m = threadIdx.x / kAcross, n = threadIdx.x % kAcross;
  Best best[kEach];
#pragma unroll
  for (int i = 0; i < kEach; ++i) best[i] = {INFINITY, INT32_MAX};
  for (int64_t code = part * each; code < end; code += kSide) {
    float score[kEach][kEach] = {};
    for (int64_t at = 0; at < task.dim; at += kDepth) {
      __syncthreads();
      load_part(task.rows, first, task.count, task.dim, at, aligned, rows);
      load_part(task.codes, code, end, task.dim, at, aligned, codes);
      __syncthreads();
#pragma unroll 2
      for (int k = 0; k < kDepth; ++k) {
        const Four left[2] = {rows.four(k, 4 * m), rows.four(k, kHalf + 4 * m)};
        const Four right[2] = {codes.four(k, 4 * n), codes.four(k, kHalf + 4 * n)};
#pragma unroll
        for (int i = 0; i < kEach; ++i) {
#pragma unroll
          for (int j = 0; j < kEach; ++j) {
            score[i][j] = fmaf(left[i / 4].at[i % 4], right[j / 4].at[j % 4], score[i][j]);
          }
        }
      }
    }
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      const int64_t k = code + own(n, j);
      if (k >= end) continue;
      const float square = task.squares[k];
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        const Best one{fmaf(-2.0F, score[i][j], square), static_cast<int32_t>(k)};
        if (better(one, best[i])) best[i] = one;
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    for (int offset = kAcross / 2; offset > 0; offset /= 2) {  // a half of a warp has a row
      const Best other{__shfl_xor_sync(0xffffffffU, best[i].score, offset),
                       __shfl_xor_sync(0xffffffffU, best[i].code, offset)};
      if (better(other, best[i])) best[i] = other;
    }
    const int64_t row = first + own(m, i);
    if (n == 0 && row < task.count) {
      task.least[part * task.count + row] = best[i].score;
      task.best[part * task.count + row] = best[i].code;
    }
  }
}

__global__ void __launch_bounds__(kThreads) choose_kernel(DeviceSearch task, int64_t parts) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (row >= task.count) return;
  Best best{INFINITY, INT32_MAX};
  for (int64_t part = 0; part < parts; ++part) {
    const Best one{task.least[part * task.count + row], task.best[part * task.count + row]};
    if (better(one, best)) best = one;
  }
  // No code is nearest to a row that is not finite; its id must be in range.
  task.ids[row] = best.code == INT32_MAX ? 0 : best.code;
}

}  // namespace

cudaError_t cuda_nearest_code(const DeviceSearch& task, cudaStream_t stream) {
  if (task.size <= 0 || task.size >= INT32_MAX) return cudaErrorInvalidValue;
  const int64_t parts = task.parts();
  const bool aligned = task.dim % 4 == 0 && reinterpret_cast<uintptr_t>(task.rows) % 16 == 0 &&
                       reinterpret_cast<uintptr_t>(task.codes) % 16 == 0;
  const cudaError_t status = launch({parts_of(task.count, kSide) * parts, kThreads, 0, stream},
                                    search_kernel, task, parts, aligned);
  if (status != cudaSuccess) return status;
  return launch({parts_of(task.count, kThreads), kThreads, 0, stream}, choose_kernel, task, parts);
}

}  // namespace lf
