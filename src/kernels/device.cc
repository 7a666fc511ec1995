#include "kernels/device.h"

#include <atomic>

namespace lf {
namespace {

std::atomic<const DeviceKernels*> current = nullptr;

}  // namespace

const DeviceKernels* device_kernels() { return current.load(std::memory_order_relaxed); }
void use_device_kernels(const DeviceKernels* kernels) { current = kernels; }

}  // namespace lf
