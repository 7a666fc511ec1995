// See search_kernels.h. A block scores 64 rows against 64 codes at a time, 4 x 4 a thread, and
// keeps the best of each row in registers; a second kernel chooses among the parts of the codebook.
// Sums run over the dimensions in one order wherever a code lies, so that equal codes have equal
// scores and the first is found.
#include "cuda/search_kernels.h"
#include "cuda/tiles.h"

namespace lf {
namespace {

constexpr int kSide = 64, kThreads = 256, kDepth = 32;
constexpr int kTiles = kSide / 4;

struct Best {
  float score;
  int32_t code;
};

__device__ bool better(const Best& a, const Best& b) {
  return a.score < b.score || (a.score == b.score && a.code < b.code);
}

// Numbers [at, at + kDepth) of `rows` rows from `first` on; zeros where there are none.
__device__ void load_part(const float* from, int64_t first, int64_t rows, int64_t dim, int64_t at,
                          const SharedMatrix& to) {
  for (int i = threadIdx.x; i < kSide * kDepth; i += kThreads) {
    const int r = i / kDepth, c = i % kDepth;
    const bool there = first + r < rows && at + c < dim;
    to.data[r * to.row + c] = there ? from[(first + r) * dim + at + c] : 0.0F;
  }
}

__global__ void __launch_bounds__(kThreads) search_kernel(DeviceSearch task, int64_t parts) {
  constexpr int kRow = kDepth + 4;
  __shared__ float4 row_memory[kSide * kRow / 4], code_memory[kSide * kRow / 4];
  const SharedMatrix rows{reinterpret_cast<float*>(row_memory), kRow};
  const SharedMatrix codes{reinterpret_cast<float*>(code_memory), kRow};
  const int64_t first = blockIdx.x / parts * kSide, part = blockIdx.x % parts;
  const int64_t each = (task.size + parts - 1) / parts;
  const int64_t end = (part + 1) * each < task.size ? (part + 1) * each : task.size;
  const int m = threadIdx.x / kTiles, n = threadIdx.x % kTiles;
  Best best[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) best[i] = {INFINITY, INT32_MAX};
  for (int64_t code = part * each; code < end; code += kSide) {
    Tile tile{};
    for (int64_t at = 0; at < task.dim; at += kDepth) {
      __syncthreads();
      load_part(task.rows, first, task.count, task.dim, at, rows);
      load_part(task.codes, code, end, task.dim, at, codes);
      __syncthreads();
      add_across(rows, m, kTiles, codes, n, kTiles, kDepth, tile);
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int64_t k = code + n + j * kTiles;
      if (k >= end) continue;
      const float square = task.squares[k];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const Best one{fmaf(-2.0F, tile.at[i][j], square), static_cast<int32_t>(k)};
        if (better(one, best[i])) best[i] = one;
      }
    }
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    for (int offset = kTiles / 2; offset > 0; offset /= 2) {  // a half of a warp has a row
      const Best other{__shfl_xor_sync(0xffffffffU, best[i].score, offset),
                       __shfl_xor_sync(0xffffffffU, best[i].code, offset)};
      if (better(other, best[i])) best[i] = other;
    }
    const int64_t row = first + m + i * kTiles;
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
  // Nothing is near a row that is not finite; an index it must have.
  task.ids[row] = best.code == INT32_MAX ? 0 : best.code;
}

}  // namespace

cudaError_t cuda_nearest_code(const DeviceSearch& task, cudaStream_t stream) {
  if (task.size <= 0 || task.size >= INT32_MAX) return cudaErrorInvalidValue;
  const int64_t parts = task.parts();
  const cudaError_t status = launch({parts_of(task.count, kSide) * parts, kThreads, 0, stream},
                                    search_kernel, task, parts);
  if (status != cudaSuccess) return status;
  return launch({parts_of(task.count, kThreads), kThreads, 0, stream}, choose_kernel, task, parts);
}

}  // namespace lf
