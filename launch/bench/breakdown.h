// Where the time of a piece of work goes, as a table of its operations, and the peak arithmetic of
// this machine.
#pragma once

#include <cstdint>
#include <vector>

#include "base/json.h"
#include "kernels/operation_costs.h"

namespace lf {

// The first prints a table of the longest operations and of what remains of `seconds`; the second
// adds the array "operations".
void print_operations(const std::vector<OperationCost>& operations, double seconds);
void add_operations(const std::vector<OperationCost>& operations, Json& json);

// Floating-point operations a second of the faster of our and LibTorch's matrix products at sizes
// that fit the cache, on at::get_num_threads() threads of the CPU.
double product_peak(bool bf16);

}  // namespace lf
