// What the .cu files have in common: four neighbouring numbers at a time, single or bfloat16, and
// sums over the lanes of a warp. For nvcc, and for tests/kernels/emulation; no torch.
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

__device__ inline Four load_whole(const float* from) {
  const float4 raw = *reinterpret_cast<const float4*>(from);
  return {{raw.x, raw.y, raw.z, raw.w}};
}
__device__ inline Four load_whole(const Bf16* from) {
  const uint2 raw = *reinterpret_cast<const uint2*>(from);
  return {{__uint_as_float(raw.x << 16), __uint_as_float(raw.x & 0xffff0000U),
           __uint_as_float(raw.y << 16), __uint_as_float(raw.y & 0xffff0000U)}};
}
__device__ inline void store_whole(float* to, const Four& four) {
  *reinterpret_cast<float4*>(to) = make_float4(four.at[0], four.at[1], four.at[2], four.at[3]);
}
__device__ inline uint32_t pack(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}
__device__ inline void store_whole(Bf16* to, const Four& four) {
  *reinterpret_cast<uint2*>(to) =
      make_uint2(pack(four.at[0], four.at[1]), pack(four.at[2], four.at[3]));
}

// `count` of the four are there, the others are zero. `whole`: rows begin where vectors may.
template <typename X>
__device__ inline Four load_four(const X* from, int64_t count, bool whole) {
  if (whole && count >= 4) return load_whole(from);
  Four four{};
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    if (e < count) four.at[e] = to_float(from[e]);
  }
  return four;
}
template <typename X>
__device__ inline void store_four(X* to, const Four& four, int64_t count, bool whole) {
  if (whole && count >= 4) return store_whole(to, four);
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    if (e < count) put(to + e, four.at[e]);
  }
}

// Groups of `lanes` neighbours (a power of two) of a warp work by themselves, so they name
// themselves in shuffles.
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
__device__ inline float greatest_over(float value, int lanes, unsigned mask) {
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

// Division by a number known before the launch: one multiplication. For what is below 2^32 together
// with the number.
struct Divisor {
  uint32_t number, factor;

  static Divisor of(int number) {
    return {static_cast<uint32_t>(number), 0xffffffffU / static_cast<uint32_t>(number) + 1};
  }
  __device__ int quotient(int value) const {
    return number == 1 ? value : static_cast<int>(__umulhi(static_cast<uint32_t>(value), factor));
  }
};

// Exponentials and quotients here are within a few units in the last place, which the sums around
// them lose anyway.
__device__ inline float sigmoid(float x) { return __fdividef(1.0F, 1.0F + __expf(-x)); }
// 1 over a length whose square is given, at most 1e12.
__device__ inline float over_length(float square) { return rsqrtf(fmaxf(square, 1e-24F)); }

inline int64_t parts_of(int64_t count, int64_t each) { return (count + each - 1) / each; }

// Lanes that share a row of `numbers`, four or more numbers each.
inline int lanes_of_row(int64_t numbers) {
  int lanes = 1;
  while (lanes < kWarp && 4 * lanes < numbers) lanes *= 2;
  return lanes;
}

}  // namespace lf
