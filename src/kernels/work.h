// How much arithmetic a fused operation does, told to whoever observes LibTorch's operations
// (`lastframe bench step --breakdown`, LibTorch's profiler): a fused operation appears among them
// as lf::NAME with its floating-point operations as only input. Called by the fused operations.
#pragma once

#include <ATen/record_function.h>

#include <vector>

namespace lf {

// While it lives, the operation runs. `flops` counts a multiplication and an addition as two.
#define LF_RECORD_WORK(name, flops) \
  RECORD_FUNCTION("lf::" name, (std::vector<c10::IValue>{c10::IValue(static_cast<int64_t>(flops))}))

}  // namespace lf
