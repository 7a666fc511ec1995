// Where a rank computes: on the CPU, or on the GPU of its local rank through what the CUDA plugin
// offers. Decides, and explains in one sentence if what was asked for cannot be had; opening the
// plugin is launch's, which passes the result on.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "checkpoint/async_writer.h"
#include "comm/world.h"
#include "data/loader/batch.h"
#include "run.pb.h"

namespace lf {

class Device;
class DeviceBackend;

// The GPUs of this machine, as launch/plugin found them.
struct Accelerator {
  int gpus = 0;                      // that this process sees
  DeviceBackend* backend = nullptr;  // both are there, or neither
  Device* device = nullptr;
  std::string problem;  // why there are GPUs but no plugin
};

// Collective. cuda:LOCAL_RANK, or the CPU; the same kind on every rank. Makes the GPU current and,
// for train.deterministic, chooses algorithms whose bits do not change. Code::kUsage if a GPU was
// asked for and there is none for this rank.
at::Device choose_device(World& world, const TrainConfig& config, const Accelerator& accelerator);

// Page-locked where `device` is a GPU: memory for the loader's batches and for staging checkpoints.
BufferAllocator batch_memory(const at::Device& device, const Accelerator& accelerator);
Staging checkpoint_staging(const at::Device& device, const Accelerator& accelerator);

}  // namespace lf
