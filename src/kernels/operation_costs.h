// Which operations a piece of work consists of: those of LibTorch and of src/kernels, each with its
// own time (without the operations inside it) and its arithmetic.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace lf {

struct OperationCost {
  std::string name;
  int64_t calls = 0, flops = 0;  // a multiplication and an addition are two
  double seconds = 0;
};

// All operations while `work` runs on this thread and on the threads of its backward pass, the
// longest first. Only products and convolutions count as arithmetic. Times are the host's.
std::vector<OperationCost> observe_operations(const std::function<void()>& work);

}  // namespace lf
