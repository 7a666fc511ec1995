#include "launch/bench/device.h"

#include <ATen/Context.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randn.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/autograd/profiler_kineto.h>

#include <algorithm>
#include <map>
#include <string>
#include <unordered_map>

#include "base/clock.h"
#include "base/memory.h"

namespace lf {
namespace {

double seconds_of(at::Device device, const std::function<void()>& work) {
  wait_for(device);
  const Clock::time_point begin = Clock::now();
  work();
  wait_for(device);
  return seconds_since(begin);
}

// Of random values: on zeros a device draws less power and runs faster.
double product_speed(at::Device device, at::ScalarType type) {
  constexpr int64_t kSide = 8192;
  constexpr int kRounds = 3, kCalls = 10;
  const auto options = at::TensorOptions().device(device);
  const at::Tensor a = at::randn({kSide, kSide}, options).to(type),
                   b = at::randn({kSide, kSide}, options).to(type);
  const auto products = [&] {
    for (int i = 0; i < kCalls; ++i) at::mm(a, b);
  };
  products();
  double best = 0;
  for (int round = 0; round < kRounds; ++round) {
    best = std::max(best, 2.0 * kCalls * kSide * kSide * kSide / seconds_of(device, products));
  }
  return best;
}

// Events of the profiler itself and of the driver.
bool is_overhead(const std::string& name) {
  return name == "Command Buffer Full" || name == "Lazy Function Loading" ||
         name == "Buffer Flush" || name == "Activity Buffer Request" || name == "Instrumentation" ||
         name == "Resource";
}

}  // namespace

void wait_for(at::Device device) {
  if (device.is_cpu()) return;
  c10::impl::VirtualGuardImpl(device.type()).synchronizeDevice(device.index());
}

PeakMemory peak_memory(at::Device device) {
  if (device.is_cpu()) {
    const auto bytes = static_cast<int64_t>(peak_memory_bytes());
    return {bytes, bytes};
  }
  const auto stats = c10::getDeviceAllocator(device.type())->getDeviceStats(device.index());
  constexpr auto kAll = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  return {stats.allocated_bytes[kAll].peak, stats.reserved_bytes[kAll].peak};
}

std::vector<OperationCost> observe_kernels(at::Device device, const std::function<void()>& work) {
  using torch::profiler::impl::ActivityType;
  const torch::profiler::impl::ProfilerConfig config(torch::profiler::impl::ProfilerState::KINETO);
  const std::set<ActivityType> activities = {ActivityType::CPU, ActivityType::CUDA};
  torch::autograd::profiler::prepareProfiler(config, activities);
  torch::autograd::profiler::enableProfiler(config, activities);
  work();
  wait_for(device);
  const auto result = torch::autograd::profiler::disableProfiler();
  std::unordered_map<uint64_t, std::string> operations;
  for (const auto& event : result->events()) {
    if (event.deviceType() == at::kCPU) operations[event.correlationId()] = event.name();
  }
  std::map<std::string, OperationCost> costs;
  for (const auto& event : result->events()) {
    if (event.deviceType() == at::kCPU || is_overhead(event.name())) continue;
    const auto launched = operations.find(event.linkedCorrelationId());
    OperationCost& cost =
        costs[launched != operations.end() ? launched->second : event.name().substr(0, 58)];
    ++cost.calls;
    cost.seconds += 1e-9 * static_cast<double>(event.durationNs());
  }
  std::vector<OperationCost> out;
  for (auto& [name, cost] : costs) {
    out.push_back(cost);
    out.back().name = name;
  }
  std::sort(out.begin(), out.end(),
            [](const auto& a, const auto& b) { return a.seconds > b.seconds; });
  return out;
}

DevicePeaks device_peaks(at::Device device) {
  DevicePeaks peaks;
  peaks.bf16 = product_speed(device, at::kBFloat16);
  const bool before = at::globalContext().allowTF32CuBLAS();
  at::globalContext().setAllowTF32CuBLAS(true);
  peaks.tf32 = product_speed(device, at::kFloat);
  at::globalContext().setAllowTF32CuBLAS(false);
  peaks.single = product_speed(device, at::kFloat);
  at::globalContext().setAllowTF32CuBLAS(before);
  return peaks;
}

}  // namespace lf
