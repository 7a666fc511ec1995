// Inputs of a step recorded on a GPU (kernels/gpu/device.h), refilled before each replay: the
// clips, their position in the run's order, and what a model chooses on the host by that. The
// recorded step reads all of them at fixed addresses. First comes a rehearsal, a normal step on
// clips() in which keyed draws and choices (model.h) register themselves; then the recording, in
// which they recur in the same order.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "model/model.h"

namespace lf {

class Refills {
 public:
  // For clips on a GPU, of the shape of these.
  explicit Refills(const Clips& clips);
  Refills(const Refills&) = delete;
  Refills& operator=(const Refills&) = delete;

  // The clips to rehearse and record with; slices of them (Clips::slice) refer to this object too.
  const Clips& clips() const { return clips_; }
  // Device address of the first clip's position.
  const int64_t* position() const { return position_.const_data_ptr<int64_t>(); }
  // Offset of a part's first clip from the first clip.
  int64_t offset(const Clips& part) const { return part.first_position - clips_.first_position; }

  // make(part) on the device; made again at each refill.
  std::vector<at::Tensor> add(const Clips& part, const HostChoice& make);
  // Ends the rehearsal. Memory is allocated in the rehearsal only: memory allocated during a
  // recording belongs to the recorded step, which may reuse it before it reads the inputs.
  void end_rehearsal() { rehearsed_ = true; }

  // Queues the copies for a replay on these clips. Does not wait for the device.
  void refill(const Clips& clips);

 private:
  struct Entry {
    int64_t from, to;  // of the clips
    HostChoice make;
    std::string layout;               // of make()'s tensors, which must not change
    at::Tensor bytes;                 // on the device
    std::vector<at::Tensor> tensors;  // views of `bytes`
  };

  Clips clips_;
  at::Tensor position_;  // int64 [1]
  std::vector<Entry> entries_;
  bool rehearsed_ = false;
  size_t next_ = 0;  // entry in the recording
};

// Shapes and types as text: the key of a recording.
std::string layout_of(const std::vector<at::Tensor>& tensors);

// Copies of host tensors on a device, by one asynchronous transfer. Undefined ones stay undefined.
std::vector<at::Tensor> uploaded(const std::vector<at::Tensor>& tensors, at::Device device);

}  // namespace lf
