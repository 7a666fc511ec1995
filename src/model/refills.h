// What a step that was recorded on a GPU (kernels/gpu/device.h) is given anew before each replay:
// the clips, their position in the run's order, and whatever a model decides on the host by that.
// The recorded step reads all of it at fixed addresses. Made by train/step, which hands its clips
// to the model for a rehearsal, a step like any other in which keyed numbers and choices (model.h)
// enter themselves, and then for the recording, in which they come again in the same order.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "model/model.h"

namespace lf {

class Refills {
 public:
  // For clips on a GPU of the shape of these.
  explicit Refills(const Clips& clips);
  Refills(const Refills&) = delete;
  Refills& operator=(const Refills&) = delete;

  // What to record with; parts of them (Clips::slice) belong to it too.
  const Clips& clips() const { return clips_; }
  // Where on the device the position of the first clip is.
  const int64_t* position() const { return position_.const_data_ptr<int64_t>(); }
  // Of a part's first clip, counted from that.
  int64_t offset(const Clips& part) const { return part.first_position - clips_.first_position; }

  // The tensors that `make` makes of a part of the clips, on the device, and again at each refill.
  std::vector<at::Tensor> add(const Clips& part, const HostChoice& make);
  // The rehearsal is over. Memory is taken in it alone: what is taken during a recording belongs to
  // the recorded step, which uses it for other things before it comes to what is read there.
  void end_rehearsal() { rehearsed_ = true; }

  // Queues the copies for a replay on these clips. Does not wait for the device.
  void refill(const Clips& clips);

 private:
  struct Entry {
    int64_t from, to;  // of the clips
    HostChoice make;
    std::string layout;               // of what it makes, which must not change
    at::Tensor bytes;                 // on the device
    std::vector<at::Tensor> tensors;  // views of them
  };

  Clips clips_;
  at::Tensor position_;  // int64 [1]
  std::vector<Entry> entries_;
  bool rehearsed_ = false;
  size_t next_ = 0;  // entry of the recording
};

// Shapes and types, by which recordings are told apart.
std::string layout_of(const std::vector<at::Tensor>& tensors);

// Copies of host tensors on a device, by one transfer that is not waited for. Undefined ones stay
// so.
std::vector<at::Tensor> uploaded(const std::vector<at::Tensor>& tensors, at::Device device);

}  // namespace lf
