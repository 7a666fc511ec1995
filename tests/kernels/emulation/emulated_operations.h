// A device for tests where there is no GPU: the plugin's kernels, run on the host thread by thread.
// Tensors are the CPU's.
#pragma once

#include "kernels/gpu/device.h"

namespace lf {

Device& emulated_device();

}  // namespace lf
