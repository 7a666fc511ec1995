// The plugin's kernels on the host, thread by thread: what tests install as a GPU's operations
// where there is no GPU. Tensors are the CPU's.
#pragma once

#include "kernels/gpu/device_operations.h"

namespace lf {

const DeviceOperations& emulated_operations();

}  // namespace lf
