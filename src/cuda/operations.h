// The plugin's table of fused operations.
#pragma once

#include "kernels/gpu/device_operations.h"

namespace lf {

DeviceOperations cuda_operations();

}  // namespace lf
