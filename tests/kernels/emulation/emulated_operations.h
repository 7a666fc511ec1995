// The plugin's kernels on the host, thread by thread: what tests use_device() where there is no
// GPU. Tensors are the CPU's.
#pragma once

#include "kernels/gpu/device.h"

namespace lf {

Device& emulated_device();

}  // namespace lf
