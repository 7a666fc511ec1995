#include "launch/bench/breakdown.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <ATen/record_function.h>

#include <algorithm>
#include <cstdio>
#include <map>

#include "base/clock.h"
#include "kernels/cpu/products.h"
#include "kernels/cpu/task.h"

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

// Floating-point operations a second of `parts` products of n x n x n at a time; the best round.
template <typename Multiply>
double speed_of(int64_t n, int64_t parts, const Multiply& product) {
  constexpr int kRounds = 12, kCalls = 40;
  double best = 0;
  for (int round = 0; round < kRounds; ++round) {
    const Clock::time_point begin = Clock::now();
    product(kCalls);
    const double flops = 2.0 * static_cast<double>(n * n * n) * kCalls * static_cast<double>(parts);
    best = std::max(best, flops / seconds_since(begin));
  }
  return best;
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

void print_operations(const std::vector<OperationCost>& operations, double seconds) {
  constexpr size_t kLines = 20;
  constexpr double kGiga = 1e9;
  double outside = seconds, rest = 0;
  std::printf("\n%-58s%8s%10s%8s%10s\n", "operation", "calls", "ms", "share", "GFLOP/s");
  const auto line = [&](const std::string& name, int64_t calls, double took, double flops) {
    std::printf("%-58s%8lld%10.3f%7.1f%%", name.c_str(), static_cast<long long>(calls), 1e3 * took,
                100 * took / seconds);
    flops > 0 ? std::printf("%10.0f\n", flops / took / kGiga) : std::printf("\n");
  };
  for (size_t i = 0; i < operations.size(); ++i) {
    const OperationCost& cost = operations[i];
    outside -= cost.seconds;
    i < kLines ? line(cost.name, cost.calls, cost.seconds, static_cast<double>(cost.flops))
               : static_cast<void>(rest += cost.seconds);
  }
  line("other operations", 0, rest, 0);
  line("outside of operations", 0, outside, 0);
}

void add_operations(const std::vector<OperationCost>& operations, Json& json) {
  json.array("operations", [&] {
    for (const OperationCost& cost : operations) {
      json.object([&] {
        json.field("name", cost.name).field("calls", cost.calls);
        json.field("ms", 1e3 * cost.seconds).field("flops", cost.flops);
      });
    }
  });
}

double product_peak(bool bf16) {
  constexpr int64_t kSide = 192;
  const at::ScalarType type = bf16 ? at::kBFloat16 : at::kFloat;
  const at::Tensor large = at::ones({768, 768}, at::TensorOptions().dtype(type));
  double best = speed_of(768, 1, [&](int calls) {
    for (int i = 0; i < calls; ++i) at::mm(large, large);
  });
  const Operands operands = operands_here(bf16 ? Operands::kBf16 : Operands::kSingle);
  if (bf16 != (operands == Operands::kBf16)) return best;
  const int64_t threads = at::get_num_threads();
  const double ours = speed_of(kSide, threads, [&](int calls) {
    over_threads(threads, operands, [&](int64_t) {
      const std::vector<float> a(kSide * kSide, 1.0F), b(kSide * kSide, 1.0F);
      std::vector<float> c(kSide * kSide);
      std::vector<Bf16> first(static_cast<size_t>(bf16_left_size(kSide, kSide)));
      std::vector<Bf16> second(static_cast<size_t>(bf16_right_size(kSide, kSide)));
      Left left{a.data(), kSide};
      Right right{b.data(), kSide};
      if (bf16) {
        left.bf16 = bf16_left(left, kSide, kSide, first.data());
        right.bf16 = bf16_right(right, kSide, kSide, second.data());
      }
      for (int call = 0; call < calls; ++call) {
        multiply(operands, left, right, {kSide, kSide, kSide, c.data(), kSide, false});
      }
    });
  });
  return std::max(best, ours);
}

}  // namespace lf
