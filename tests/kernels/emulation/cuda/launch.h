// Stands in for src/cuda/launch.h when tests compile the .cu files as C++. The threads of a block
// are fibers of this thread, switched at barriers and shuffles; blocks run one after the other.
// Every second block runs its threads in reverse order and shared memory starts as NaN, so that a
// missing barrier or an element that no thread wrote shows in the results.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>

// On the host these are no attributes.
#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __launch_bounds__
#define __global__
#define __device__
#define __host__
#define __shared__ static  // blocks run one after the other
#define __launch_bounds__(...)

namespace lf::emulation {

struct Index {
  unsigned x;
};
extern Index thread, block, block_size, grid_size;

// Runs `body` for every thread of every block. Aborts if threads wait for each other forever.
void run(unsigned blocks, unsigned threads, size_t shared_bytes, const std::function<void()>& body);
float* shared_memory();
void wait_for_block();
// Returns the value of lane `own lane ^ offset`, once all lanes of `mask` have called it.
uint32_t exchange(unsigned mask, uint32_t own, int offset);

}  // namespace lf::emulation

#define threadIdx (::lf::emulation::thread)
#define blockIdx (::lf::emulation::block)
#define blockDim (::lf::emulation::block_size)
#define gridDim (::lf::emulation::grid_size)
#define __syncthreads ::lf::emulation::wait_for_block

inline void __syncwarp() { (void)::lf::emulation::exchange(0xffffffffU, 0, 0); }

template <typename Value>
Value __shfl_xor_sync(unsigned mask, Value value, int offset) {
  static_assert(sizeof(Value) == sizeof(uint32_t));
  uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  bits = ::lf::emulation::exchange(mask, bits, offset);
  std::memcpy(&value, &bits, sizeof(bits));
  return value;
}

inline uint32_t __umulhi(uint32_t a, uint32_t b) {
  return static_cast<uint32_t>(static_cast<uint64_t>(a) * b >> 32);
}
inline float __uint_as_float(uint32_t bits) {
  float value = 0;
  std::memcpy(&value, &bits, sizeof(bits));
  return value;
}
inline float __fdividef(float a, float b) { return a / b; }
#define __expf expf  // a macro: the C library has a function of this name
inline float rsqrtf(float x) { return 1.0F / std::sqrt(x); }

namespace lf {

struct Launch {
  int64_t blocks;
  int threads;
  int64_t shared;
  cudaStream_t stream;
};

inline float* shared_memory() { return emulation::shared_memory(); }
inline int64_t most_shared_memory() { return int64_t{227} * 1024; }

template <typename... Parameters, typename... Arguments>
cudaError_t launch(const Launch& how, void (*kernel)(Parameters...),
                   const Arguments&... arguments) {
  if (how.blocks <= 0 || how.blocks > INT32_MAX) return cudaErrorInvalidValue;
  emulation::run(static_cast<unsigned>(how.blocks), static_cast<unsigned>(how.threads),
                 static_cast<size_t>(how.shared), [&] { kernel(arguments...); });
  return cudaSuccess;
}

}  // namespace lf
