#include "diffusion/variational.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/special_ndtr.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>

#include <cmath>
#include <numbers>

#include "base/error.h"

namespace lf {
namespace {

constexpr double kHalfGreyLevel = 1.0 / 255;  // of [-1, 1]

// Negative log probability of the grey level of x under a normal distribution.
at::Tensor grey_level_nats(const at::Tensor& x, const at::Tensor& mean,
                           const at::Tensor& log_scale) {
  const at::Tensor precision = at::exp(-log_scale), centred = x - mean;
  const at::Tensor below = at::special_ndtr(precision * (centred - kHalfGreyLevel)),
                   up_to = at::special_ndtr(precision * (centred + kHalfGreyLevel));
  // The darkest and the brightest level reach to infinity.
  const at::Tensor share =
      at::where(x > 0.999, 1 - below, at::where(x < -0.999, up_to, up_to - below));
  return -share.clamp_min(1e-12).log();
}

at::Tensor tensor_of(const std::vector<double>& values, at::IntArrayRef shape,
                     const at::Device& device) {
  return at::tensor(values, at::kDouble).to(at::kFloat).reshape(shape).to(device);
}

}  // namespace

VariationalSteps variational_steps(const NoiseSchedule& schedule, const std::vector<int>& steps,
                                   at::IntArrayRef shape, const at::Device& device) {
  std::vector<double> from_image, least, most, first;
  for (const int k : steps) {
    const ReverseStep step =
        reverse_step(schedule.step(k), k > 0 ? schedule.step(k - 1) : NoiseLevel{});
    from_image.push_back(step.from_x);
    // The first step's posterior variance is 0; it takes the second's, as Improved DDPM does.
    least.push_back(
        std::log(k > 0 ? step.least : reverse_step(schedule.step(1), schedule.step(0)).least));
    most.push_back(std::log(step.most));
    first.push_back(k == 0 ? 1 : 0);
  }
  return {tensor_of(from_image, shape, device), tensor_of(least, shape, device),
          tensor_of(most, shape, device), tensor_of(first, shape, device) > 0.5};
}

at::Tensor step_bits(const VariationalSteps& steps, const at::Tensor& x, const Estimate& estimate) {
  const at::Tensor log_variance =
      estimate.variance.defined()
          ? estimate.variance * steps.most + (1 - estimate.variance) * steps.least
          : steps.least;
  const at::Tensor apart = steps.from_image * (x - estimate.image);
  const at::Tensor divergence =
      0.5 * (-1 + log_variance - steps.least + at::exp(steps.least - log_variance) +
             apart.square() * at::exp(-log_variance));
  const at::Tensor nats =
      at::where(steps.first, grey_level_nats(x, estimate.image, log_variance / 2), divergence);
  return nats / std::numbers::ln2;
}

double bits_per_element(const NoiseSchedule& schedule, const at::Tensor& x,
                        const SamplerParts& parts) {
  LF_CHECK(schedule.steps() > 0, "the bound is over a table");
  double bits = 0;
  for (int k = 0; k < schedule.steps(); ++k) {
    const NoiseLevel level = schedule.step(k);
    const at::Tensor z = level.alpha * x + level.sigma * parts.noise();
    const std::vector<int64_t> shape(static_cast<size_t>(x.dim()), 1);
    bits +=
        step_bits(variational_steps(schedule, {k}, shape, x.device()), x, parts.estimate(z, level))
            .mean()
            .item<double>();
  }
  const NoiseLevel last = schedule.step(schedule.steps() - 1);
  const double variance = last.sigma * last.sigma;
  const double start = 0.5 * (-1 - std::log(variance) + variance +
                              last.alpha * last.alpha * x.square().mean().item<double>());
  return bits + start / std::numbers::ln2;
}

}  // namespace lf
