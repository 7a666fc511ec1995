// The driver's functions are looked up by name, so that the program compiles, links and starts on
// machines without CUDA.
#include "launch/plugin.h"

#include <dlfcn.h>
#include <unistd.h>

#include <array>
#include <climits>

#include "base/text.h"
#include "comm/device_backend.h"
#include "kernels/gpu/device.h"
#include "run/accelerator.h"

namespace lf {
namespace {

constexpr char kPluginFile[] = "liblastframe_cuda.so";

// Constants of the driver API.
constexpr int kSuccess = 0, kNoDevice = 100;
constexpr int kComputeCapabilityMajor = 75, kComputeCapabilityMinor = 76;

template <typename Function>
bool look_up(void* library, const char* name, Function** function) {
  *function = reinterpret_cast<Function*>(::dlsym(library, name));
  return *function != nullptr;
}

GpuSurvey survey() {
  GpuSurvey found;
  // Never closed: drivers do not support that.
  void* driver = ::dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (driver == nullptr) return found;
  int (*init)(unsigned) = nullptr;
  int (*driver_version)(int*) = nullptr;
  int (*device_count)(int*) = nullptr;
  int (*device_name)(char*, int, int) = nullptr;
  int (*total_memory)(size_t*, int) = nullptr;
  int (*attribute)(int*, int, int) = nullptr;
  if (!look_up(driver, "cuInit", &init) ||
      !look_up(driver, "cuDriverGetVersion", &driver_version) ||
      !look_up(driver, "cuDeviceGetCount", &device_count) ||
      !look_up(driver, "cuDeviceGetName", &device_name) ||
      !look_up(driver, "cuDeviceTotalMem_v2", &total_memory) ||
      !look_up(driver, "cuDeviceGetAttribute", &attribute)) {
    found.problem = "libcuda.so.1 lacks functions of the CUDA driver; a stub library?";
    return found;
  }
  int version = 0;
  if (driver_version(&version) == kSuccess) {
    found.driver = str(version / 1000, ".", version % 1000 / 10);
  }
  if (const int status = init(0); status != kSuccess) {
    if (status != kNoDevice) {
      found.problem =
          str("the CUDA driver does not start (error ", status, "); does nvidia-smi work here?");
    }
    return found;
  }
  int count = 0;
  if (device_count(&count) != kSuccess) return found;
  // The driver's handles of devices are their indices.
  for (int index = 0; index < count; ++index) {
    Gpu gpu;
    gpu.index = index;
    std::array<char, 256> name{};
    size_t bytes = 0;
    device_name(name.data(), static_cast<int>(name.size()) - 1, index);
    total_memory(&bytes, index);
    attribute(&gpu.major, kComputeCapabilityMajor, index);
    attribute(&gpu.minor, kComputeCapabilityMinor, index);
    gpu.name = name.data();
    gpu.bytes = bytes;
    found.gpus.push_back(gpu);
  }
  return found;
}

std::string folder_of_program() {
  std::array<char, PATH_MAX> path{};
  const ssize_t size = ::readlink("/proc/self/exe", path.data(), path.size() - 1);
  const std::string text(path.data(), size > 0 ? static_cast<size_t>(size) : 0);
  return text.substr(0, text.rfind('/'));
}

std::string error_of_loader() {
  const char* text = ::dlerror();
  return text == nullptr ? "no reason given" : printable(text, 300);
}

Plugin open_where_needed() {
  Plugin plugin;
  if (survey_gpus().gpus.empty()) return plugin;
  // The build tree, then the installed one.
  for (const char* folder : {"/", "/../lib/lastframe/"}) {
    plugin.path = folder_of_program() + folder + kPluginFile;
    if (::access(plugin.path.c_str(), R_OK) == 0) break;
  }
  // Global: libtorch_cuda's hooks and NCCL must be visible to the libtorch_cpu we run on.
  void* library = ::dlopen(plugin.path.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (library == nullptr) {
    plugin.problem =
        str("this machine has ", survey_gpus().gpus.size(),
            " GPU(s), but the plugin does not open (", error_of_loader(),
            "); computing on the CPU. Run ./launch/setup here to install what it needs");
    return plugin;
  }
  DeviceBackendEntry backend = nullptr;
  DeviceEntry device = nullptr;
  if (!look_up(library, kDeviceBackendSymbol, &backend) ||
      !look_up(library, kDeviceSymbol, &device)) {
    plugin.problem =
        str(plugin.path, " is of another version of this program; build both together");
    return plugin;
  }
  plugin.backend = backend();
  plugin.device = device();
  return plugin;
}

}  // namespace

const GpuSurvey& survey_gpus() {
  static const GpuSurvey found = survey();
  return found;
}

const Plugin& open_plugin() {
  static const Plugin plugin = open_where_needed();
  return plugin;
}

Accelerator accelerator_of_machine() {
  const Plugin& plugin = open_plugin();
  return {static_cast<int>(survey_gpus().gpus.size()), plugin.backend, plugin.device,
          plugin.problem};
}

}  // namespace lf
