#include "diffusion/variational.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/random.h"

namespace lf {
namespace {

DiffusionConfig table(int steps) {
  DiffusionConfig config;
  config.set_schedule(DiffusionConfig::COSINE);
  config.set_steps(steps);
  return config;
}

TEST(VariationalBound, OfTheFirstStepIsFiniteAndOneOverAllGreyLevels) {
  const NoiseSchedule schedule(table(100), 32);
  const VariationalSteps steps = variational_steps(schedule, {0}, {1, 1}, at::kCPU);
  const at::Tensor levels = at::arange(256, at::kFloat).div(127.5).sub(1).reshape({1, 256});
  for (const double image : {-1.0, -0.4, 0.9}) {
    const at::Tensor bits = step_bits(steps, levels, {at::full({1, 256}, image), {}});
    EXPECT_TRUE(bits.isfinite().all().item<bool>());
    EXPECT_NEAR(at::pow(2.0, -bits).sum().item<double>(), 1, 1e-4);
  }
}

TEST(VariationalBound, OfATrueEstimateWithTheLeastVarianceIsZero) {
  const NoiseSchedule schedule(table(100), 32);
  const VariationalSteps steps = variational_steps(schedule, {5, 60, 99}, {3, 1}, at::kCPU);
  const at::Tensor x = at::full({3, 4}, 0.3F);
  EXPECT_LT(step_bits(steps, x, {x, {}}).abs().max().item<double>(), 1e-6);
  EXPECT_LT(step_bits(steps, x, {x, at::zeros({3, 4})}).abs().max().item<double>(), 1e-6);
  // Any other variance or estimate costs something, by the formula of two normal distributions.
  const ReverseStep step = reverse_step(schedule.step(60), schedule.step(59));
  const double log_variance = 0.3 * std::log(step.most) + 0.7 * std::log(step.least);
  const double apart = step.from_x * 0.1;
  const double nats = 0.5 * (log_variance - std::log(step.least) - 1 +
                             (step.least + apart * apart) / std::exp(log_variance));
  const at::Tensor bits = step_bits(steps, x, {x + 0.1, at::full({3, 4}, 0.3F)});
  EXPECT_NEAR(bits[1][0].item<double>(), nats / std::log(2.0), 1e-5 * nats + 1e-7);
}

TEST(VariationalBound, OfAWholeChainFallsWithABetterEstimate) {
  const NoiseSchedule schedule(table(50), 32);
  at::Tensor x = at::zeros({8, 32});
  uniform({1, Purpose::kGenerated, 0, 0, 0}, 0, 256, x.mutable_data_ptr<float>());
  x = ((x * 255).round() / 127.5 - 1);
  uint32_t draw = 0;
  SamplerParts parts;
  parts.noise = [&] {
    at::Tensor noise = at::zeros({8, 32});
    normal({1, Purpose::kDiffusionNoise, draw++, 0, 0}, 0, 256, noise.mutable_data_ptr<float>());
    return noise;
  };
  double quality = 0;
  parts.estimate = [&](const at::Tensor& /*z*/, const NoiseLevel& /*level*/) {
    return Estimate{quality * x, {}};
  };
  const double blind = bits_per_element(schedule, x, parts);
  quality = 0.9;
  const double better = bits_per_element(schedule, x, parts);
  quality = 1;
  const double perfect = bits_per_element(schedule, x, parts);
  EXPECT_TRUE(std::isfinite(blind));
  EXPECT_LT(better, blind);
  EXPECT_LT(perfect, better);
  EXPECT_GE(perfect, 0);
}

}  // namespace
}  // namespace lf
