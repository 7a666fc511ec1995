// A GPU under measurement: synchronisation, peak memory, time by kernel, peak arithmetic. The CPU
// answers what applies to it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "launch/bench/breakdown.h"

namespace lf {

// Waits until all work queued on the device has run; returns at once on the CPU.
void wait_for(at::Device device);

// Peak since the process began. On a GPU: bytes in tensors, and bytes that LibTorch's allocator
// took from the device. On the CPU both are the process's.
struct PeakMemory {
  int64_t used = 0, taken = 0;
};
PeakMemory peak_memory(at::Device device);

// The kernels that `work` runs on the GPU, summed by the LibTorch operation that launched them, the
// longest first. Times are on the device, from its profiler.
std::vector<OperationCost> observe_kernels(at::Device device, const std::function<void()>& work);

// Floating-point operations a second of large products on the GPU.
struct DevicePeaks {
  double bf16 = 0, tf32 = 0, single = 0;
};
DevicePeaks device_peaks(at::Device device);

}  // namespace lf
