#include "kernels/gpu/device.h"

#include <atomic>

namespace lf {
namespace {

std::atomic<Device*> current = nullptr;

}  // namespace

Device* used_device() { return current.load(std::memory_order_relaxed); }
void use_device(Device* device) { current = device; }

const DeviceKernels* device_kernels() {
  const Device* device = used_device();
  return device == nullptr ? nullptr : device->kernels();
}

const DeviceOperations* device_operations() {
  const DeviceKernels* kernels = device_kernels();
  return kernels == nullptr ? nullptr : &kernels->operations;
}

}  // namespace lf
