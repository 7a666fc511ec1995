#include "launch/bench/breakdown.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>

#include <algorithm>
#include <cstdio>

#include "base/clock.h"
#include "kernels/cpu/products.h"
#include "kernels/cpu/task.h"

namespace lf {
namespace {

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
