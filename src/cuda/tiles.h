// Products of small matrices in shared memory, 4 x 4 numbers a thread, in single precision. Rows
// have a length that is a multiple of four and an odd number of fours, so that neighbours' rows lie
// in different banks; what pads them is zero. For nvcc only.
#pragma once

#include "cuda/vectors.h"

namespace lf {

__host__ __device__ inline int fours(int numbers) { return (numbers + 3) / 4; }
__host__ __device__ inline int shared_row(int numbers) { return 4 * (fours(numbers) | 1); }

struct Tile {
  float at[4][4];
};

struct SharedMatrix {
  float* data;
  int row;
  __device__ Four four(int r, int c) const { return load_whole(data + r * row + c); }
};

// c[i][j] += sum over k of a[m + i * m_step][k] * b[n + j * n_step][k]. With steps of the number of
// tiles, neighbouring threads read neighbouring rows.
__device__ inline void add_across(const SharedMatrix& a, int m, int m_step, const SharedMatrix& b,
                                  int n, int n_step, int depth, Tile& c) {
  for (int k = 0; k < depth; k += 4) {
    Four left[4], right[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      left[i] = a.four(m + i * m_step, k);
      right[i] = b.four(n + i * n_step, k);
    }
#pragma unroll
    for (int e = 0; e < 4; ++e) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          c.at[i][j] = fmaf(left[i].at[e], right[j].at[e], c.at[i][j]);
        }
      }
    }
  }
}

// c[i][j] += sum over k of a[m + i][k] * b[k][n + j].
__device__ inline void add_down(const SharedMatrix& a, int m, const SharedMatrix& b, int n,
                                int depth, Tile& c) {
  for (int k = 0; k < depth; k += 4) {
    Four left[4], right[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      left[i] = a.four(m + i, k);
      right[i] = b.four(k + i, n);
    }
#pragma unroll
    for (int e = 0; e < 4; ++e) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          c.at[i][j] = fmaf(left[i].at[e], right[e].at[j], c.at[i][j]);
        }
      }
    }
  }
}

// c[i][j] += sum over k of a[k][m + i] * b[k][n + j].
__device__ inline void add_turned(const SharedMatrix& a, int m, const SharedMatrix& b, int n,
                                  int depth, Tile& c) {
#pragma unroll 4
  for (int k = 0; k < depth; ++k) {
    const Four left = a.four(k, m), right = b.four(k, n);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) c.at[i][j] = fmaf(left.at[i], right.at[j], c.at[i][j]);
    }
  }
}

__device__ inline void store_shared(const SharedMatrix& to, int r, int c, const Tile& tile,
                                    float factor) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    store_whole(to.data + (r + i) * to.row + c, {{tile.at[i][0] * factor, tile.at[i][1] * factor,
                                                  tile.at[i][2] * factor, tile.at[i][3] * factor}});
  }
}

}  // namespace lf
