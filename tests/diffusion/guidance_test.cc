#include "diffusion/guidance.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

namespace lf {
namespace {

TEST(Guidance, AtOneIsTheConditionalAndAtZeroTheUnconditionalEstimate) {
  const at::Tensor with = at::tensor({0.5, -0.25}), without = at::tensor({0.25, 0.75});
  EXPECT_TRUE(at::equal(guided(with, without, 1), with));
  EXPECT_TRUE(at::equal(guided(with, without, 0), without));
  EXPECT_TRUE(at::equal(guided(with, without, 3), at::tensor({1.0, -2.25})));
}

TEST(Threshold, StaticClampsAndDynamicDividesByEachClipsOwnQuantile) {
  SamplerConfig config;
  const at::Tensor image = at::tensor({0.5, -4.0, 1.0, 2.0, 0.1, 0.2, -0.9, 0.3}).reshape({2, 4});
  config.set_threshold(SamplerConfig::NONE);
  EXPECT_TRUE(at::equal(within_range(image, config), image));
  config.set_threshold(SamplerConfig::STATIC);
  EXPECT_TRUE(at::equal(within_range(image, config), image.clamp(-1, 1)));
  config.set_threshold(SamplerConfig::DYNAMIC);
  config.set_quantile(2.0 / 3);  // of 0.5, 1, 2, 4: the third
  const at::Tensor expected =
      at::tensor({0.25, -1.0, 0.5, 1.0, 0.1, 0.2, -0.9, 0.3}).reshape({2, 4});
  EXPECT_TRUE(at::allclose(within_range(image, config), expected));
}

TEST(ReconstructionGuidance, GradientEqualsFiniteDifferences) {
  const at::Tensor given = at::tensor({0.2, -0.7}, at::kDouble);
  const at::Tensor mix = at::tensor({0.3, -1.1, 0.8, 0.5}, at::kDouble).reshape({2, 2});
  const auto made = [&](const at::Tensor& z) { return mix.matmul(z).sin(); };
  const auto error = [&](const at::Tensor& z) {
    return (given - made(z)).square().sum().item<double>();
  };
  at::Tensor z = at::tensor({0.4, 0.9}, at::kDouble).set_requires_grad(true);
  const at::Tensor image = at::tensor({0.1, 0.2}, at::kDouble);
  const double alpha = 0.6, weight = 2;
  const at::Tensor moved = towards_given(image, made(z), given, z, alpha, weight);
  EXPECT_FALSE(moved.requires_grad());
  for (int64_t i = 0; i < 2; ++i) {
    at::Tensor more = z.detach().clone(), less = z.detach().clone();
    more[i] += 1e-6;
    less[i] -= 1e-6;
    const double gradient = (error(more) - error(less)) / 2e-6;
    EXPECT_NEAR(moved[i].item<double>(), image[i].item<double>() - weight * alpha / 2 * gradient,
                1e-8);
  }
}

}  // namespace
}  // namespace lf
