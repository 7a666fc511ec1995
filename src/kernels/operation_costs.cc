#include "kernels/operation_costs.h"

#include <ATen/core/Tensor.h>
#include <ATen/record_function.h>

#include <algorithm>
#include <map>
#include <memory>

#include "base/clock.h"

namespace lf {
namespace {

int64_t numel(const c10::IValue& value, int64_t from = 0) {
  int64_t n = 1;
  for (const int64_t side : value.toTensor().sizes().slice(static_cast<size_t>(from))) n *= side;
  return n;
}

// One filter is multiplied for every output element; backward does so twice.
int64_t convolution_flops(at::ArrayRef<const c10::IValue> inputs, bool backward) {
  const at::Tensor weight = inputs[backward ? 2 : 1].toTensor();
  const int64_t filter = numel(inputs[backward ? 2 : 1], 1);
  if (backward) return 4 * numel(inputs[0]) * filter;
  const at::IntArrayRef x = inputs[0].toTensor().sizes();
  const auto stride = inputs[3].toIntVector(), padding = inputs[4].toIntVector();
  int64_t out = x[0] * weight.size(0);
  for (size_t i = 2; i < x.size(); ++i) {
    const size_t last = stride.size() - 1, pad = padding.size() - 1;
    out *= (x[i] + 2 * padding[std::min(i - 2, pad)] - weight.size(static_cast<int64_t>(i))) /
               stride[std::min(i - 2, last)] +
           1;
  }
  return 2 * out * filter;
}

int64_t flops_of(const std::string& name, at::ArrayRef<const c10::IValue> inputs) {
  if (name.starts_with("lf::")) return inputs[0].toInt();
  // The elements of the left matrix times the columns of the right one.
  const auto product = [&](size_t left, size_t right) {
    return 2 * numel(inputs[left]) * inputs[right].toTensor().sizes().back();
  };
  if (name == "aten::mm" || name == "aten::bmm") return product(0, 1);
  if (name == "aten::addmm" || name == "aten::baddbmm") return product(1, 2);
  if (name.starts_with("aten::_scaled_dot_product_") && name.find("math") == std::string::npos) {
    return name.ends_with("_backward") ? 10 * numel(inputs[1]) * inputs[2].toTensor().size(2)
                                       : 4 * numel(inputs[0]) * inputs[1].toTensor().size(2);
  }
  if (name == "aten::_convolution") return convolution_flops(inputs, false);
  if (name == "aten::convolution_backward") return convolution_flops(inputs, true);
  return 0;
}

struct Open : at::ObserverContext {
  Clock::time_point begin = Clock::now();
  double within = 0;  // seconds of the operations inside it
  Open* outer = nullptr;
  int64_t flops = 0;
};

struct Observation {
  std::map<std::string, OperationCost> costs;
  Open* innermost = nullptr;
};

// One for the process: the threads of a GPU's backward pass take it over, one at a time, while
// their caller waits.
Observation* observation = nullptr;

std::unique_ptr<at::ObserverContext> begin_operation(const at::RecordFunction& function) {
  auto open = std::make_unique<Open>();
  open->outer = observation->innermost;
  open->flops = flops_of(function.name(), function.inputs());
  observation->innermost = open.get();
  open->begin = Clock::now();
  return open;
}

void end_operation(const at::RecordFunction& function, at::ObserverContext* context) {
  auto& open = static_cast<Open&>(*context);
  const double took = seconds_since(open.begin);
  OperationCost& cost = observation->costs[function.name()];
  ++cost.calls;
  cost.flops += open.flops;
  cost.seconds += took - open.within;
  observation->innermost = open.outer;
  if (open.outer != nullptr) open.outer->within += took;
}

}  // namespace

std::vector<OperationCost> observe_operations(const std::function<void()>& work) {
  Observation seen;
  observation = &seen;
  const at::CallbackHandle handle =
      at::addThreadLocalCallback(at::RecordFunctionCallback(begin_operation, end_operation)
                                     .needsInputs(true)
                                     .scopes({at::RecordScope::FUNCTION}));
  work();
  at::removeCallback(handle);
  observation = nullptr;
  std::vector<OperationCost> costs;
  for (auto& [name, cost] : seen.costs) {
    costs.push_back(cost);
    costs.back().name = name;
  }
  std::sort(costs.begin(), costs.end(),
            [](const auto& a, const auto& b) { return a.seconds > b.seconds; });
  return costs;
}

}  // namespace lf
