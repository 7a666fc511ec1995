// The plugin's kernels run on the host, thread by thread, as the operations of a GPU that is not
// there. Tensors are the CPU's.
#pragma once

#include "kernels/gpu/device_operations.h"

namespace lf {

const DeviceOperations& emulated_operations();

}  // namespace lf
