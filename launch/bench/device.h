// What the benchmarks ask of a GPU: to be waited for, the most memory it gave, where its time goes
// kernel by kernel, and the most arithmetic it does. On the CPU, what there is to ask. Called by
// `lastframe bench step | sample`.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "launch/bench/breakdown.h"

namespace lf {

// Until all that is queued on the device has run; nothing on the CPU.
void wait_for(at::Device device);

// The most since this process began. On a GPU: bytes in tensors, and what LibTorch took from the
// device for them. On the CPU both are the process's.
struct PeakMemory {
  int64_t used = 0, taken = 0;
};
PeakMemory peak_memory(at::Device device);

// The kernels that `work` runs on the GPU, added up by the LibTorch operation that launched them,
// the longest first: their own time on the device, by its profiler.
std::vector<OperationCost> observe_kernels(at::Device device, const std::function<void()>& work);

// Floating-point operations a second of large products on the GPU.
struct DevicePeaks {
  double bfloat16 = 0, tf32 = 0, single = 0;
};
DevicePeaks device_peaks(at::Device device);

}  // namespace lf
