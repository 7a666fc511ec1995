// Makes the c10d::ProcessGroup of a world: MpiBackend for host memory, in a world of one too; NCCL
// for a CUDA device where the plugin provides it.
#pragma once

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include "comm/device_backend.h"
#include "comm/mpi_backend.h"
#include "comm/world.h"
#include "run.pb.h"

namespace lf {

using ProcessGroupPtr = c10::intrusive_ptr<c10d::ProcessGroup>;

// Collective. With `device_backend`, tensors on CUDA device `device` go over NCCL, which the ranks
// connect through a TCPStore on rank 0 whose address travels by MPI broadcast. A collective that
// takes a few seconds longer than comm.timeout_seconds fails: the watchdog has named the rank by
// then.
ProcessGroupPtr make_process_group(World& world, const CommConfig& config,
                                   DeviceBackend* device_backend = nullptr, int device = -1);

// The part of the group that works on host memory.
MpiBackend& mpi_backend_of(c10d::ProcessGroup& group);

// Collective: finishes what is queued and shuts down. After a failure do not call it; dropping the
// group is enough.
void end_process_group(ProcessGroupPtr& group);

}  // namespace lf
