// Where the time of a piece of work goes: the operations of LibTorch and of src/kernels that this
// thread runs, each with its own time (without that of the operations within it) and its
// arithmetic, and the most arithmetic this machine does. Called by `lastframe bench step
// --breakdown` and `bench sample --breakdown`.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/json.h"

namespace lf {

struct OperationCost {
  std::string name;
  int64_t calls = 0, flops = 0;
  double seconds = 0;
};

// Of all operations while `work` runs on this thread and on those that make backward for it, the
// longest first. Only products and convolutions count as arithmetic. Times are the host's.
std::vector<OperationCost> observe_operations(const std::function<void()>& work);

// A table of the longest of them and of what is left of `seconds`; all of them as `operations`.
void print_operations(const std::vector<OperationCost>& operations, double seconds);
void add_operations(const std::vector<OperationCost>& operations, Json& json);

// Floating-point operations a second of the best of our and LibTorch's matrix products at sizes
// that lie in the cache, on at::get_num_threads() threads of the CPU.
double product_peak(bool bfloat16);

}  // namespace lf
