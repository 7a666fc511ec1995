// What the .cu files share: vectors of four neighbouring elements, fp32 or bf16, and reductions
// over the lanes of a warp. For nvcc and for tests/kernels/emulation; no torch.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cmath>
#include <cstdint>

#include "cuda/launch.h"

namespace lf {

using Bf16 = __nv_bfloat16;
constexpr int kWarp = 32;

struct Four {
  float at[4];
};

__device__ inline float to_float(float value) { return value; }
__device__ inline float to_float(Bf16 value) { return __bfloat162float(value); }
__device__ inline void put(float* to, float value) { *to = value; }
__device__ inline void put(Bf16* to, float value) { *to = __float2bfloat16_rn(value); }

// `from` and `to` must be aligned to four elements.
__device__ inline Four load_aligned(const float* from) {
  const float4 raw = *reinterpret_cast<const float4*>(from);
  return {{raw.x, raw.y, raw.z, raw.w}};
}
__device__ inline Four load_aligned(const Bf16* from) {
  const uint2 raw = *reinterpret_cast<const uint2*>(from);
  return {{__uint_as_float(raw.x << 16), __uint_as_float(raw.x & 0xffff0000U),
           __uint_as_float(raw.y << 16), __uint_as_float(raw.y & 0xffff0000U)}};
}
__device__ inline void store_aligned(float* to, const Four& four) {
  *reinterpret_cast<float4*>(to) = make_float4(four.at[0], four.at[1], four.at[2], four.at[3]);
}
__device__ inline uint32_t pack(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}
__device__ inline void store_aligned(Bf16* to, const Four& four) {
  *reinterpret_cast<uint2*>(to) =
      make_uint2(pack(four.at[0], four.at[1]), pack(four.at[2], four.at[3]));
}

// The first `count` of four elements, then zeros. `aligned`: every row is aligned to four elements.
template <typename X>
__device__ inline Four load_four(const X* from, int64_t count, bool aligned) {
  if (aligned && count >= 4) return load_aligned(from);
  Four four{};
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    if (e < count) four.at[e] = to_float(from[e]);
  }
  return four;
}
template <typename X>
__device__ inline void store_four(X* to, const Four& four, int64_t count, bool aligned) {
  if (aligned && count >= 4) return store_aligned(to, four);
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    if (e < count) put(to + e, four.at[e]);
  }
}

// The shuffle mask of this thread's group of `lanes` neighbours, a power of two, within its warp.
// Groups of a warp may diverge, so each names only its own lanes.
__device__ inline unsigned mask_of_group(int lanes) {
  if (lanes == kWarp) return 0xffffffffU;
  const unsigned lane = threadIdx.x % kWarp;
  return ((1U << lanes) - 1U) << (lane / lanes * lanes);
}
__device__ inline float sum_over(float value, int lanes, unsigned mask) {
  for (int offset = lanes / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(mask, value, offset);
  }
  return value;
}
__device__ inline float max_over(float value, int lanes, unsigned mask) {
  for (int offset = lanes / 2; offset > 0; offset /= 2) {
    value = fmaxf(value, __shfl_xor_sync(mask, value, offset));
  }
  return value;
}

template <typename X>
__host__ __device__ const X* as(const void* data) {
  return static_cast<const X*>(data);
}
template <typename X>
__host__ __device__ X* as(void* data) {
  return static_cast<X*>(data);
}

// Whether `data` is aligned to four elements of type X.
template <typename X>
bool aligned_to_four(const void* data) {
  return reinterpret_cast<uintptr_t>(data) % (4 * sizeof(X)) == 0;
}

// Division by a number known before the launch, as one multiplication. Exact while the dividend
// times the divisor is below 2^32.
struct Divisor {
  uint32_t number, factor;

  static Divisor of(int number) {
    return {static_cast<uint32_t>(number), 0xffffffffU / static_cast<uint32_t>(number) + 1};
  }
  __device__ int quotient(int value) const {
    return number == 1 ? value : static_cast<int>(__umulhi(static_cast<uint32_t>(value), factor));
  }
};

// The fast exponential and quotient are off by a few units in the last place, less than the
// rounding of the reductions around them.
__device__ inline float sigmoid(float x) { return __fdividef(1.0F, 1.0F + __expf(-x)); }
// 1 / max(sqrt(square), 1e-12): the factor that normalises a vector whose squared length is given.
__device__ inline float over_length(float square) { return rsqrtf(fmaxf(square, 1e-24F)); }

inline int64_t parts_of(int64_t count, int64_t each) { return (count + each - 1) / each; }

// Lanes that share a row of `elements`, four or more elements each.
inline int lanes_of_row(int64_t elements) {
  int lanes = 1;
  while (lanes < kWarp && 4 * lanes < elements) lanes *= 2;
  return lanes;
}

}  // namespace lf
