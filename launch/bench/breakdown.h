// Where the time of a piece of work goes: the operations of LibTorch and of src/kernels, each with
// its own time (without the operations inside it) and its arithmetic; and the peak arithmetic of
// this machine.
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

// All operations while `work` runs on this thread and on the threads of its backward pass, the
// longest first. Only products and convolutions count as arithmetic. Times are the host's.
std::vector<OperationCost> observe_operations(const std::function<void()>& work);

// The first prints a table of the longest operations and of what remains of `seconds`; the second
// adds the array "operations".
void print_operations(const std::vector<OperationCost>& operations, double seconds);
void add_operations(const std::vector<OperationCost>& operations, Json& json);

// Floating-point operations a second of the faster of our and LibTorch's matrix products at sizes
// that fit the cache, on at::get_num_threads() threads of the CPU.
double product_peak(bool bf16);

}  // namespace lf
