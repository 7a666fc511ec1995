// The interface to NCCL, the process group of tensors on a device. The CUDA plugin (src/cuda)
// implements it, so that nothing here includes or links CUDA.
#pragma once

#include <c10/util/intrusive_ptr.h>

#include <chrono>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

namespace lf {

class DeviceBackend {
 public:
  virtual ~DeviceBackend() = default;

  // The NCCL backend of this rank on CUDA device `device`, connected eagerly. `store` is a TCPStore
  // with a prefix of its own that every rank of the world reaches; collectives that take longer
  // than `timeout` abort the process. Collective: every rank calls it. Throws Code::kPeer if NCCL
  // cannot connect. The caller registers the backend for c10::DeviceType::CUDA and shuts it down.
  virtual c10::intrusive_ptr<c10d::Backend> make_nccl_backend(
      const c10::intrusive_ptr<c10d::Store>& store, int rank, int size, int device,
      std::chrono::milliseconds timeout) = 0;
};

// The plugin exports `extern "C" lf::DeviceBackend* lf_device_backend()`: one object that lives as
// long as the plugin stays open, never null.
using DeviceBackendEntry = DeviceBackend* (*)();
inline constexpr char kDeviceBackendSymbol[] = "lf_device_backend";

}  // namespace lf
