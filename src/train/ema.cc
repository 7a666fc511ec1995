#include "train/ema.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_lerp.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_sub.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace lf {

double ema_exponent(double relative_width) {
  // The largest real root of g^3 + 7 g^2 + (16 - w^-2) g + 12 - w^-2, by bisection: the polynomial
  // is negative at 0 for w < 0.28 and grows without bound.
  const double t = 1 / (relative_width * relative_width);
  double low = 0, high = 1;
  const auto value = [t](double g) { return ((g + 7) * g + (16 - t)) * g + 12 - t; };
  while (value(high) < 0) high *= 2;
  for (int i = 0; i < 200; ++i) {
    const double middle = (low + high) / 2;
    (value(middle) < 0 ? low : high) = middle;
  }
  return (low + high) / 2;
}

double ema_decay(const EmaConfig& config, int64_t before, int64_t after) {
  const auto step = static_cast<double>(after - before);
  const auto seen = static_cast<double>(after);
  if (config.power_width() > 0) {
    return std::pow(1 - step / seen, ema_exponent(config.power_width()) + 1);
  }
  double half_life = config.half_life_images();
  if (config.ramp() > 0) half_life = std::min(half_life, config.ramp() * seen);
  return half_life > 0 ? std::exp2(-step / half_life) : 0;
}

Ema::Ema(const EmaConfig& config, const std::vector<NamedTensor>& weights)
    : config_(config), weights_(weights) {
  if (config.half_life_images() <= 0 && config.power_width() <= 0) return;
  for (const NamedTensor& weight : weights) {
    average_.push_back({weight.name, weight.tensor.detach().clone()});
    averages_.push_back(average_.back().tensor);
    sources_.push_back(weight.tensor);
  }
  if (averages_.front().is_cpu()) return;
  share_there_ = at::zeros({}, averages_.front().options().dtype(at::kFloat));
}

void Ema::set_step(int64_t images_before, int64_t images_after) {
  if (!enabled()) return;
  share_ = 1 - ema_decay(config_, images_before, images_after);
  if (share_there_.defined()) share_there_.fill_(share_);
}

void Ema::update(const at::Tensor& moved) {
  if (!enabled()) return;
  const at::NoGradGuard no_grad;
  if (!share_there_.defined()) {
    if (moved.item<float>() != 0) at::_foreach_lerp_(averages_, sources_, share_);
    return;
  }
  const std::vector<at::Tensor> gaps = at::_foreach_sub(sources_, averages_);
  at::_foreach_mul_(gaps, share_there_ * moved);
  at::_foreach_add_(averages_, gaps);
}

Ema::Swap::Swap(Ema& ema) : ema_(ema) {
  for (size_t i = 0; i < ema_.average_.size(); ++i) {
    at::Tensor& weight = ema_.weights_[i].tensor;
    kept_.push_back(weight.data());
    weight.set_data(ema_.average_[i].tensor);
  }
}

Ema::Swap::~Swap() {
  for (size_t i = 0; i < kept_.size(); ++i) ema_.weights_[i].tensor.set_data(kept_[i]);
}

}  // namespace lf
