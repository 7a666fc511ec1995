// What the CUDA plugin offers beside process groups (comm/device_backend.h): page-locked host
// memory, steps recorded once and replayed, and kernels over raw device pointers. An interface
// only: it includes neither torch nor CUDA, src/cuda implements it, launch/plugin opens it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "kernels/gpu/device_operations.h"

namespace lf {

// Random numbers keyed by clips, [clips, row]: element i of clip n is number i of the stream whose
// key (stream_key() of base/random, upper half 0) is this, at position first + n.
struct KeyedNumbers {
  uint32_t key0 = 0, key1 = 0, layer = 0;
  int64_t first = 0, clips = 0, row = 0;
  const int64_t* position = nullptr;  // on the device, added to `first`; null: nothing
};

// Kernels are queued on `stream` (a cudaStream_t; nullptr is the default stream) and return at
// once. Trouble is thrown as Code::kBug: wrong pointers and shapes are our own mistakes.
struct DeviceKernels {
  // [0, 1) and N(0, 1), the same bits as uniform() and normal() on the CPU.
  void (*keyed_uniform)(const KeyedNumbers& wanted, float* out, void* stream);
  void (*keyed_normal)(const KeyedNumbers& wanted, float* out, void* stream);
  DeviceOperations operations;
};

// A step of fixed shapes and addresses, recorded. Not thread-safe.
class RecordedStep {
 public:
  virtual ~RecordedStep() = default;
  // Queues everything the step queued when it was recorded, on the current stream. What changes
  // from step to step (clips, noise keys, learning rate) must lie in tensors the caller refills.
  virtual void replay() = 0;
};

class Device {
 public:
  virtual ~Device() = default;

  virtual std::string description() const = 0;  // of the current device and the run-time libraries

  // Page-locked host memory that copies to the device overlap with; freed with its last owner.
  // Code::kUsage if the machine has no more of it.
  virtual std::shared_ptr<void> pinned(size_t bytes) = 0;

  // Runs `step` `warm_up` times (autotuning, allocations, DDP's first 11 steps), then records it,
  // all on the current stream, or on one of its own where that is the default stream, which cannot
  // be recorded. What the step allocates stays reserved while the result lives. A step that throws
  // while it is recorded throws out of here.
  virtual std::unique_ptr<RecordedStep> record(const std::function<void()>& step, int warm_up) = 0;

  // nullptr if the plugin was built where there was no nvcc.
  virtual const DeviceKernels* kernels() const = 0;
};

// What the process can compute with beside the CPU: the opened plugin, nullptr for none. A
// capability, not a choice: KernelChoice says whether a model's operations use its kernels.
void use_device(Device* device);
Device* used_device();
// Of used_device(); nullptr where there is none or it has no kernels.
const DeviceKernels* device_kernels();
const DeviceOperations* device_operations();

// The plugin exports `extern "C" lf::Device* lf_device()`: one object that lives as long as the
// plugin stays open, never null.
using DeviceEntry = Device* (*)();
inline constexpr char kDeviceSymbol[] = "lf_device";

}  // namespace lf
