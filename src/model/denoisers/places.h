// The frames of one call of a diffusion network in numbers on the host: where in its video each
// stands, what it is, how noisy, and how much it counts; and the tensors that are made of them.
// Called by diffusion_model for its losses and estimates.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <vector>

#include "diffusion/frame_plan.h"
#include "diffusion/noise_schedule.h"
#include "diffusion/prediction.h"

namespace lf {

struct Place {
  int64_t index = 0;  // of its frame in the video
  FrameRole role{};
  NoiseLevel level;
  Preconditioning scaling;
  double share = 0;  // of the loss
};

// Of `rows` clips with as many frames each.
class Places {
 public:
  Places(int64_t rows, at::Device device) : rows_(rows), device_(device) {}
  void add(const Place& place) { all_.push_back(place); }
  const std::vector<Place>& all() const { return all_; }

  // A number of every place, [rows, frames].
  template <typename Of>
  at::Tensor numbers(const Of& of) const {
    return tensor_of<float>(at::kFloat, of);
  }
  // The same, to broadcast over frames: [rows, frames, 1, 1, 1].
  template <typename Of>
  at::Tensor factors(const Of& of) const {
    return numbers(of).unsqueeze(-1).unsqueeze(-1).unsqueeze(-1);
  }
  at::Tensor indices() const {
    return tensor_of<int64_t>(at::kLong, [](const Place& place) { return place.index; });
  }
  at::Tensor roles() const {
    return tensor_of<uint8_t>(at::kByte, [](const Place& place) { return place.role; });
  }
  // Some place is of no frame of the video.
  bool any_beside() const {
    return std::any_of(all_.begin(), all_.end(), [](const Place& place) {
      return place.role == FrameRole::kAbsent || place.role == FrameRole::kImage;
    });
  }

 private:
  template <typename Number, typename Of>
  at::Tensor tensor_of(at::ScalarType type, const Of& of) const {
    std::vector<Number> values;
    values.reserve(all_.size());
    for (const Place& place : all_) values.push_back(static_cast<Number>(of(place)));
    return at::tensor(values, type).reshape({rows_, -1}).to(device_);
  }

  int64_t rows_;
  at::Device device_;
  std::vector<Place> all_;
};

}  // namespace lf
