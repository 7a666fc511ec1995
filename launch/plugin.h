// Finds the GPUs of this machine through the driver alone, and opens the CUDA plugin if there is
// one. LibTorch remembers whether it has CUDA, so commands that compute call open_plugin() before
// anything else asks it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lf {

class Device;
class DeviceBackend;
struct Accelerator;

struct Gpu {
  int index = 0;  // among those in CUDA_VISIBLE_DEVICES
  std::string name;
  uint64_t bytes = 0;
  int major = 0, minor = 0;  // compute capability
};

struct GpuSurvey {
  std::vector<Gpu> gpus;
  std::string driver;   // "13.2", the newest CUDA the driver knows; "" without a driver
  std::string problem;  // why an installed driver shows no GPU; "" if all is well
};

// Through libcuda.so.1, if there is one. Creates no context; needs neither torch nor the plugin.
const GpuSurvey& survey_gpus();

struct Plugin {
  DeviceBackend* backend = nullptr;  // null if and only if `device` is
  Device* device = nullptr;
  std::string path;     // of the open plugin
  std::string problem;  // why there are GPUs but no plugin; "" if all is well
};

// Opens the plugin once if there is a GPU; later calls return the same.
const Plugin& open_plugin();

// The survey and the plugin in the form of run/accelerator.h. Opens the plugin.
Accelerator accelerator_of_machine();

}  // namespace lf
