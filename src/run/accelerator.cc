#include "run/accelerator.h"

#include <ATen/Context.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <cstdlib>

#include "base/error.h"
#include "base/log.h"
#include "kernels/gpu/device.h"

namespace lf {
namespace {

// Why this rank cannot compute on a GPU; "" if it can.
std::string obstacle(const World& world, const Accelerator& accelerator) {
  if (accelerator.gpus == 0) return "this machine shows no GPU";
  if (accelerator.device == nullptr) return accelerator.problem;
  if (accelerator.gpus < world.local_size()) {
    return str("this machine shows ", accelerator.gpus, " GPU(s) to ", world.local_size(),
               " ranks, and two ranks cannot share one; start at most one rank a GPU");
  }
  return {};
}

// cuBLAS and NCCL read the environment when they start, which is after this.
void choose_repeatable_algorithms() {
  ::setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
  ::setenv("NCCL_ALGO", "Ring", /*overwrite=*/0);
  at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
  at::globalContext().setDeterministicFillUninitializedMemory(false);
  at::globalContext().setDeterministicCuDNN(true);
  at::globalContext().setBenchmarkCuDNN(false);
}

}  // namespace

at::Device choose_device(World& world, const TrainConfig& config, const Accelerator& accelerator) {
  if (config.device() == TrainConfig::CPU) return at::kCPU;
  const std::string why_not = obstacle(world, accelerator);
  const bool all_have_one = world.min(static_cast<int64_t>(why_not.empty())) != 0;
  if (config.device() == TrainConfig::CUDA && !all_have_one) {
    fail(Code::kUsage, "train.device is CUDA, but ",
         why_not.empty() ? "another rank has no GPU; its message says why" : why_not,
         "; use train.device=CPU to compute on the CPU");
  }
  if (!all_have_one) {
    if (accelerator.gpus > 0 && world.is_root()) {
      LF_WARN("computing on the CPU: ",
              why_not.empty() ? "not every rank has a GPU" : why_not.c_str());
    }
    return at::kCPU;
  }
  use_device(accelerator.device);
  if (config.gpu_kernels() && device_kernels() == nullptr) {
    fail(Code::kUsage,
         "train.gpu_kernels is true, but the CUDA plugin was built without nvcc and has ",
         "no kernels; build it with nvcc 13, or leave the option out");
  }
  if (config.deterministic()) choose_repeatable_algorithms();
  const at::Device device(at::kCUDA, static_cast<c10::DeviceIndex>(world.local_rank()));
  at::globalContext().lazyInitDevice(at::kCUDA);
  c10::impl::VirtualGuardImpl(at::kCUDA).setDevice(device);
  if (world.is_root()) LF_INFO("computing on ", accelerator.device->description());
  return device;
}

BufferAllocator batch_memory(const at::Device& device, const Accelerator& accelerator) {
  if (device.is_cpu()) return host_buffer;
  return [owner = accelerator.device](size_t bytes) { return owner->pinned(bytes); };
}

Staging checkpoint_staging(const at::Device& device, const Accelerator& accelerator) {
  Staging staging;
  if (device.is_cpu()) return staging;
  staging.allocate = [owner = accelerator.device](size_t bytes) { return owner->pinned(bytes); };
  // On the current stream, so after the step that made the values; page-locked memory lets the
  // copies of all tensors queue up.
  staging.copy = [](const at::Tensor& into, const at::Tensor& from) {
    into.copy_(from, /*non_blocking=*/true);
  };
  staging.wait = [device] {
    const c10::impl::VirtualGuardImpl guard(device.type());
    guard.synchronizeStream(guard.getStream(device));
  };
  return staging;
}

}  // namespace lf
