// Reports the arithmetic of a fused operation to observers of LibTorch's operations (`lastframe
// bench step --breakdown`, LibTorch's profiler): it appears among them as lf::NAME with its
// floating-point operations as only input.
#pragma once

#include <ATen/record_function.h>

#include <vector>

namespace lf {

// While it lives, the operation runs. `flops` counts a multiplication and an addition as two.
#define LF_RECORD_WORK(name, flops) \
  RECORD_FUNCTION("lf::" name, (std::vector<c10::IValue>{c10::IValue(static_cast<int64_t>(flops))}))

}  // namespace lf
