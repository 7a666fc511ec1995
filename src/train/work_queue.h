// A queue of work of one's own on a GPU (a stream), beside the one that is current: a training step
// is recorded from one, and the next clips are copied on another while the step runs. On the CPU
// there is nothing to queue.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Stream.h>

#include <optional>

namespace lf {

class WorkQueue {
 public:
  explicit WorkQueue(at::Device device);

  // While it lives, this thread queues its work here. What was current then waits for that work,
  // and with kAfterCurrent this work first waits for what the current queue held.
  enum class Begin { kAfterCurrent, kAtOnce };
  class Turn {
   public:
    explicit Turn(const WorkQueue& queue, Begin begin = Begin::kAfterCurrent);
    ~Turn();
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    std::optional<c10::Stream> own_, before_;
  };

  // The tensor's memory is not used for another one before what is queued here now has run.
  void keep(const at::Tensor& tensor) const;

 private:
  std::optional<c10::Stream> stream_;
};

}  // namespace lf
