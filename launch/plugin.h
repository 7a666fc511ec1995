// Finds the GPUs of this machine through the driver alone, and opens the CUDA plugin where there is
// one. Opening must come before anything asks LibTorch whether it has CUDA, for it remembers the
// answer: commands that compute call open_plugin() first. Called by doctor, train, sample,
// evaluate.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lf {

class Device;
class DeviceBackend;
struct Accelerator;

struct Gpu {
  int index = 0;  // among those CUDA_VISIBLE_DEVICES leaves
  std::string name;
  uint64_t bytes = 0;
  int major = 0, minor = 0;  // compute capability
};

struct GpuSurvey {
  std::vector<Gpu> gpus;
  std::string driver;   // "13.2", the newest CUDA the driver knows; "" without a driver
  std::string problem;  // why a driver that is there shows no GPU; "" if all is well
};

// Asks libcuda.so.1 if there is one; makes no context and needs neither torch nor the plugin.
const GpuSurvey& survey_gpus();

struct Plugin {
  DeviceBackend* backend = nullptr;  // both are there, or neither
  Device* device = nullptr;
  std::string path;     // of the open plugin
  std::string problem;  // why there are GPUs but no plugin; "" if all is well
};

// Opens the plugin once if there is a GPU; later calls return the same.
const Plugin& open_plugin();

// The same for those who choose a device by it (run/accelerator.h). Opens the plugin.
Accelerator accelerator_of_machine();

}  // namespace lf
