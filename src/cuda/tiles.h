// Products of small fp32 matrices in shared memory, a tile of 4 x 4 elements a thread. The length
// of a row is four times an odd number, so that neighbouring rows lie in different banks; the
// padding is zero. For nvcc only.
#pragma once

#include "cuda/vectors.h"

namespace lf {

__host__ __device__ inline int fours(int elements) { return (elements + 3) / 4; }
__host__ __device__ inline int shared_row(int elements) { return 4 * (fours(elements) | 1); }

struct Tile {
  float at[4][4];
};

struct SharedMatrix {
  float* data;
  int row;
  __device__ Four four(int r, int c) const { return load_aligned(data + r * row + c); }
};

// a b^T: c[i][j] += sum over k of a[m + i * m_step][k] * b[n + j * n_step][k]. With the number of
// tiles as step, neighbouring threads read neighbouring rows.
__device__ inline void add_product_bt(const SharedMatrix& a, int m, int m_step,
                                      const SharedMatrix& b, int n, int n_step, int depth,
                                      Tile& c) {
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

// a b: c[i][j] += sum over k of a[m + i][k] * b[k][n + j].
__device__ inline void add_product(const SharedMatrix& a, int m, const SharedMatrix& b, int n,
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

// a^T b: c[i][j] += sum over k of a[k][m + i] * b[k][n + j].
__device__ inline void add_product_at(const SharedMatrix& a, int m, const SharedMatrix& b, int n,
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
    store_aligned(to.data + (r + i) * to.row + c,
                  {{tile.at[i][0] * factor, tile.at[i][1] * factor, tile.at[i][2] * factor,
                    tile.at[i][3] * factor}});
  }
}

}  // namespace lf
