// Shared by the tests of token models: small keyed clips, tiny models, a training loop, and two
// ranks as two threads.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <barrier>
#include <cmath>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "config/config.h"
#include "model/tokens/tokenizer.h"
#include "train/optimizer.h"

namespace lf {

inline Clips clips_of(const at::Tensor& x_BTHWC, int64_t first_position = 0) {
  return {x_BTHWC, at::full({x_BTHWC.size(0)}, -1, at::kLong), 3, first_position};
}

// Noise in [-1, 1].
inline at::Tensor noise(at::IntArrayRef shape, uint64_t seed = 1) {
  const Clips key{at::zeros({shape[0], 0}), {}, seed, 0};
  return keyed_uniform(key, Purpose::kGenerated, 9, shape.slice(1)) * 2 - 1;
}

// Images of one bright square on a coloured background, sharper with each frame.
inline at::Tensor squares(int64_t count, int64_t frames, int64_t side) {
  const at::Tensor draws = noise({count, 5}, 7);
  std::vector<at::Tensor> clips;
  for (int64_t i = 0; i < count; ++i) {
    at::Tensor image = draws[i].slice(0, 0, 3).view({1, 1, 3}).repeat({side, side, 1}) * 0.5;
    const auto at_row = static_cast<int64_t>((draws[i][3].item<double>() + 1) / 2 * (side / 2.0));
    const auto at_column =
        static_cast<int64_t>((draws[i][4].item<double>() + 1) / 2 * (side / 2.0));
    image.slice(0, at_row, at_row + side / 2).slice(1, at_column, at_column + side / 2).fill_(0.9);
    std::vector<at::Tensor> made;
    for (int64_t t = 0; t < frames; ++t) {
      const double part = static_cast<double>(t + 1) / static_cast<double>(frames);
      made.push_back(image * part + image.mean(at::IntArrayRef{0, 1}, true) * (1 - part));
    }
    clips.push_back(at::stack(made));
  }
  return at::stack(clips);
}

inline double psnr(const at::Tensor& a, const at::Tensor& b) {  // of [-1, 1]
  return -10 * std::log10(((a - b) / 2).square().mean().item<double>());
}

inline Config config_of(const std::vector<std::string>& sets) { return load_config("", sets); }

// One step of every phase as the trainer does it.
class Steps {
 public:
  Steps(Model& model, const Config& config) : model_(model), config_(config) {
    for (const Phase& phase : model.phases())
      optimizers_.emplace_back(phase, config.train().optimizer());
  }
  void turn(size_t phase) {
    for (size_t other = 0; other < optimizers_.size(); ++other)
      optimizers_[other].enable(other == phase);
  }
  double operator()(const Clips& clips, double lr_scale = 1) {
    const double lr = lr_scale * config_.train().optimizer().lr();
    double first = 0;
    for (size_t phase = 0; phase < optimizers_.size(); ++phase) {
      turn(phase);
      const at::Tensor total = model_.loss(clips, phase, true).total;
      total.backward();
      optimizers_[phase].set_learning_rate(lr);
      optimizers_[phase].step(optimizers_[phase].gradient_norm());
      for (const NamedTensor& weight : optimizers_[phase].phase().weights)
        weight.tensor.mutable_grad().reset();
      if (phase == 0) first = total.item<double>();
    }
    model_.after_update(clips.size(), at::ones({}));
    return first;
  }

 private:
  Model& model_;
  const Config config_;
  std::vector<Optimizer> optimizers_;
};

// Runs `body(rank, sum)` as ranks 0 and 1 at the same time.
inline void as_two_ranks(const std::function<void(int, const SumOverRanks&)>& body) {
  std::barrier meet(2);
  at::Tensor parts[2];
  const auto sum_of = [&](int rank) {
    return [&, rank](at::Tensor& tensor) {
      parts[rank] = tensor.clone();
      meet.arrive_and_wait();
      const at::Tensor sum = parts[0] + parts[1];
      meet.arrive_and_wait();
      tensor.copy_(sum);
    };
  };
  std::thread other([&] { body(1, sum_of(1)); });
  body(0, sum_of(0));
  other.join();
}

inline at::Tensor named(const std::vector<NamedTensor>& tensors, const std::string& name) {
  for (const NamedTensor& entry : tensors) {
    if (entry.name == name) return entry.tensor;
  }
  ADD_FAILURE() << "no tensor " << name;
  return {};
}

// Elements of the weights whose names start with the prefix.
inline int64_t count_of(const Model& model, const std::string& prefix) {
  int64_t count = 0;
  for (const NamedTensor& weight : model.parameters().weights()) {
    if (weight.name.rfind(prefix, 0) == 0) count += weight.tensor.numel();
  }
  return count;
}

}  // namespace lf
