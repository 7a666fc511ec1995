// The plugin's side of kernels/gpu/device.h: page-locked memory, CUDA graphs and the table of
// kernels. launch/plugin opens it at run time.
#include "kernels/gpu/device.h"

#include <ATen/cuda/CUDAEvent.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#include <nccl.h>

#include "base/error.h"
#include "cuda/keyed_kernels.h"
#include "cuda/operations.h"

namespace lf {
namespace {

void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) fail(Code::kBug, what, ": CUDA reports ", cudaGetErrorString(status));
}

class RecordedGraph : public RecordedStep {
 public:
  RecordedGraph(const std::function<void()>& step, int warm_up) {
    const c10::cuda::CUDAStream current = c10::cuda::getCurrentCUDAStream();
    const bool is_default = current == c10::cuda::getDefaultCUDAStream();
    // Our own stream waits for what the current one has queued.
    const c10::cuda::CUDAStream own = is_default ? c10::cuda::getStreamFromPool() : current;
    wait_for(own, current);
    {
      const c10::cuda::CUDAStreamGuard guard(own);
      for (int i = 0; i < warm_up; ++i) step();
      own.synchronize();
      // The recorded step has memory of its own; it cannot use the blocks cached so far.
      c10::cuda::CUDACachingAllocator::emptyCache();
      // Thread-local: a global capture would forbid the loader's threads to allocate page-locked
      // memory in the meantime.
      graph_.capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
      try {
        step();
      } catch (...) {
        end_broken_capture();
        throw;
      }
      graph_.capture_end();
    }
    wait_for(current, own);
  }

  void replay() override { graph_.replay(); }

 private:
  static void wait_for(const c10::cuda::CUDAStream& waiting, const c10::cuda::CUDAStream& other) {
    if (waiting == other) return;
    at::cuda::CUDAEvent queued;
    queued.record(other);
    queued.block(waiting);
  }

  // The stream must leave capture mode; the error to report is the step's.
  void end_broken_capture() noexcept {
    try {
      graph_.capture_end();
    } catch (const std::exception&) {
    }
    (void)cudaGetLastError();
  }

  at::cuda::CUDAGraph graph_;
};

class CudaDevice : public Device {
 public:
  std::string description() const override {
    int device = 0, runtime = 0, driver = 0, nccl = 0;
    check(cudaGetDevice(&device), "the current device");
    check(cudaRuntimeGetVersion(&runtime), "the run-time version");
    check(cudaDriverGetVersion(&driver), "the driver version");
    cudaDeviceProp properties{};
    check(cudaGetDeviceProperties(&properties, device), "the device's properties");
    ncclGetVersion(&nccl);
    return str("GPU ", device, " ", properties.name, ", ", human_bytes(properties.totalGlobalMem),
               ", CUDA ", runtime / 1000, ".", runtime % 1000 / 10, " (driver ", driver / 1000, ".",
               driver % 1000 / 10, "), NCCL ", nccl / 10000, ".", nccl / 100 % 100, ".",
               nccl % 100);
  }

  std::shared_ptr<void> pinned(size_t bytes) override {
    void* memory = nullptr;
    const cudaError_t status = cudaHostAlloc(&memory, bytes, cudaHostAllocPortable);
    if (status != cudaSuccess) {
      (void)cudaGetLastError();  // clears it, so that the next CUDA call does not report it
      fail(Code::kUsage, "no ", human_bytes(bytes),
           " of page-locked memory: ", cudaGetErrorString(status),
           "; lower the loader's prefetch or the batch");
    }
    // Its owner frees it only after the copies that read it.
    return {memory, [](void* pointer) { (void)cudaFreeHost(pointer); }};
  }

  std::unique_ptr<RecordedStep> record(const std::function<void()>& step, int warm_up) override {
    return std::make_unique<RecordedGraph>(step, warm_up);
  }

  const DeviceKernels* kernels() const override {
#ifdef LF_CUDA_KERNELS
    static const DeviceKernels kTable = {.keyed_uniform = &keyed_uniform,
                                         .keyed_normal = &keyed_normal,
                                         .operations = cuda_operations()};
    return &kTable;
#else
    return nullptr;
#endif
  }

 private:
  static void keyed_uniform(const KeyedNumbers& wanted, float* out, void* stream) {
    check(cuda_keyed_uniform(wanted, out, static_cast<cudaStream_t>(stream)), "keyed_uniform");
  }
  static void keyed_normal(const KeyedNumbers& wanted, float* out, void* stream) {
    check(cuda_keyed_normal(wanted, out, static_cast<cudaStream_t>(stream)), "keyed_normal");
  }
};

}  // namespace
}  // namespace lf

extern "C" __attribute__((visibility("default"))) lf::Device* lf_device() {
  static lf::CudaDevice device;
  return &device;
}
