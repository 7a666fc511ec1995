// The frames of one call of a diffusion network, on the host: index in the video, role, noise
// level, scaling and share of the loss of each; and the tensors made of them.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <vector>

#include "diffusion/frame_plan.h"
#include "diffusion/noise_schedule.h"
#include "diffusion/prediction.h"

namespace lf {

struct BatchFrame {
  int64_t index = 0;  // in the video
  FrameRole role{};
  NoiseLevel level;
  Preconditioning scaling;
  double share = 0;  // of the loss
};

// `clips` clips with as many frames each, one clip after the other.
class FrameBatch {
 public:
  FrameBatch(int64_t clips, at::Device device) : clips_(clips), device_(device) {}
  void add(const BatchFrame& frame) { frames_.push_back(frame); }
  const std::vector<BatchFrame>& frames() const { return frames_; }

  // of(frame) for every frame, float32 [clips, frames].
  template <typename Of>
  at::Tensor values(const Of& of) const {
    return tensor_of<float>(at::kFloat, of);
  }
  // The same, to broadcast over pixels: [clips, frames, 1, 1, 1].
  template <typename Of>
  at::Tensor factors(const Of& of) const {
    return values(of).unsqueeze(-1).unsqueeze(-1).unsqueeze(-1);
  }
  at::Tensor indices() const {
    return tensor_of<int64_t>(at::kLong, [](const BatchFrame& frame) { return frame.index; });
  }
  at::Tensor roles() const {
    return tensor_of<uint8_t>(at::kByte, [](const BatchFrame& frame) { return frame.role; });
  }
  // Is any of them absent or an independent image?
  bool any_outside_video() const {
    return std::any_of(frames_.begin(), frames_.end(), [](const BatchFrame& frame) {
      return frame.role == FrameRole::kAbsent || frame.role == FrameRole::kImage;
    });
  }

 private:
  template <typename Element, typename Of>
  at::Tensor tensor_of(at::ScalarType type, const Of& of) const {
    std::vector<Element> values;
    values.reserve(frames_.size());
    for (const BatchFrame& frame : frames_) values.push_back(static_cast<Element>(of(frame)));
    return at::tensor(values, type).reshape({clips_, -1}).to(device_);
  }

  int64_t clips_;
  at::Device device_;
  std::vector<BatchFrame> frames_;
};

}  // namespace lf
