// Collectives on CPU tensors over Open MPI, in the form c10d::Reducer wants. One progress thread
// runs them in the order of the calls on a communicator of its own. Before each, the ranks meet at
// a gate: a 16-byte reduction of the call's fingerprint, waited for asleep, so that a late rank
// costs no core and ranks that make different calls all get an error that names who called what. A
// call that does not finish in time fails its Work and its Future; after any failure the backend
// refuses everything, and the process should exit. Works in a world of one without MPI too. Not for
// messages between ranks (World) nor for GPUs (NCCL).
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <vector>

#include "base/clock.h"

namespace lf {

class World;

// When a collective was queued, began and ended; for tests and benchmarks.
struct CollectiveSpan {
  using Time = Clock::time_point;
  uint64_t sequence = 0;
  uint64_t bytes = 0;
  Time queued, begun, gathered, ended;  // gathered: all ranks have begun it
};

class MpiBackend : public c10d::Backend {
 public:
  using Milliseconds = std::chrono::milliseconds;
  template <typename T>
  using Ptr = c10::intrusive_ptr<T>;

  // `timeout` bounds each collective, counted in ticks of a tenth of a second from its beginning on
  // the progress thread: a process that was stopped and continued has not waited. Collective call.
  MpiBackend(const World& world, Milliseconds timeout);
  ~MpiBackend() override;  // finishes what is queued, stops the threads

  const std::string getBackendName() const override { return "mpi"; }
  Ptr<Options> getBackendOptions() override;
  void setTimeout(Milliseconds timeout) override;
  uint64_t getSequenceNumberForGroup() override;
  c10d::ErrorType getError() override;

  // float, double, fp16 and bf16 (both summed in float, rounded once), int8, 16, 32, 64, uint8 and
  // bool (sum and max are "or", product and min are "and"). AVG only of floating point.
  Ptr<c10d::Work> allreduce(std::vector<at::Tensor>& tensors,
                            const c10d::AllreduceOptions& options = {}) override;
  Ptr<c10d::Work> broadcast(std::vector<at::Tensor>& tensors,
                            const c10d::BroadcastOptions& options = {}) override;
  Ptr<c10d::Work> allgather(std::vector<std::vector<at::Tensor>>& outputs,
                            std::vector<at::Tensor>& inputs,
                            const c10d::AllgatherOptions& options = {}) override;
  Ptr<c10d::Work> _allgather_base(at::Tensor& output, at::Tensor& input,
                                  const c10d::AllgatherOptions& options = {}) override;
  Ptr<c10d::Work> barrier(const c10d::BarrierOptions& options = {}) override;

  void shutdown() override;  // collective: as the destructor, and gives the communicator back
  void abort() override;     // local: fails all that is queued or running

  // Called on the progress thread after each collective.
  void set_trace(std::function<void(const CollectiveSpan&)> trace);

 private:
  struct Job;
  struct Core;  // shared with the threads: one stuck inside MPI outlives this object
  Ptr<c10d::Work> enqueue(std::shared_ptr<Job> job, Milliseconds timeout);
  void close(bool collective);

  std::shared_ptr<Core> core_;
  std::unique_ptr<std::thread> progress_, watch_;
};

// MPI_Allreduce of floats as a program without MpiBackend would call it: `bench comm`'s baseline.
// Collective; nothing may be queued on a backend meanwhile.
void direct_all_reduce(float* values, size_t count);

}  // namespace lf
