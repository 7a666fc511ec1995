// What the makers' data sheets say of GPUs, for estimates. Nothing is asked of a device.
#pragma once

#include <algorithm>
#include <array>
#include <string_view>

namespace lf {

// TFLOP/s of dense products, 0 for arithmetic that it has not; GB/s (10^9 bytes) one way.
struct GpuModel {
  const char* name;
  double memory_gib;          // that a process can have: a little less than is sold
  double bf16, tf32, fp32;    // tf32 of those without: fp32
  double memory, link, host;  // its memory; to a GPU of its node, NVLink or PCIe; to host memory
};

inline constexpr GpuModel kGpus[] = {
    {"b200", 178, 2250, 1125, 75, 7700, 900, 64},   {"h200", 139, 989, 495, 67, 4800, 450, 64},
    {"h100", 79, 989, 495, 67, 3350, 450, 64},      {"h100-pcie", 79, 756, 378, 51, 2000, 64, 64},
    {"a100", 79, 312, 156, 19.5, 2039, 300, 32},    {"a100-40", 39, 312, 156, 19.5, 1555, 300, 32},
    {"l40s", 44, 362, 183, 91.6, 864, 32, 32},      {"l4", 22, 121, 60, 30.3, 300, 32, 32},
    {"a40", 44, 149.7, 74.8, 37.4, 696, 32, 32},    {"a10", 22, 125, 62.5, 31.2, 600, 32, 32},
    {"rtx4090", 23, 165, 82.6, 82.6, 1008, 32, 32}, {"rtx3090", 23, 71, 35.6, 35.6, 936, 32, 32},
    {"v100", 31, 0, 15.7, 15.7, 900, 150, 16},      {"v100-16", 15, 0, 15.7, 15.7, 900, 150, 16},
    {"t4", 14, 0, 8.1, 8.1, 320, 16, 16},
};

// Their names and "cpu", which is no row, as the words of an option: "b200|h200|...|cpu".
inline constexpr auto kGpuNames = [] {
  std::array<char, 256> out{};
  char* at = out.data();
  for (const GpuModel& gpu : kGpus) {
    const std::string_view name = gpu.name;
    at = std::copy(name.begin(), name.end(), at);
    *at++ = '|';
  }
  constexpr std::string_view kLast = "cpu";
  std::copy(kLast.begin(), kLast.end(), at);
  return out;
}();

// nullptr: there is none of that name.
constexpr const GpuModel* find_gpu(std::string_view name) {
  const auto* found = std::find_if(std::begin(kGpus), std::end(kGpus),
                                   [&](const GpuModel& gpu) { return gpu.name == name; });
  return found == std::end(kGpus) ? nullptr : found;
}

}  // namespace lf
