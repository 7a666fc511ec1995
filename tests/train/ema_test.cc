#include "train/ema.h"

#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cmath>

namespace lf {
namespace {

TEST(Ema, ExponentsOfKnownWidths) {
  EXPECT_NEAR(ema_exponent(0.05), 16.972, 1e-3);
  EXPECT_NEAR(ema_exponent(0.10), 6.937, 1e-3);
  EXPECT_NEAR(ema_exponent(0.15), 3.558, 1e-3);
}

TEST(Ema, HalfLifeIsCountedInImagesWhateverTheBatch) {
  EmaConfig config;
  config.set_half_life_images(1000);
  config.set_ramp(0);
  double one = 1, ten = 1;
  for (int i = 0; i < 10; ++i) ten *= ema_decay(config, 5000 + i * 100, 5000 + (i + 1) * 100);
  one *= ema_decay(config, 5000, 6000);
  EXPECT_NEAR(one, 0.5, 1e-12);
  EXPECT_NEAR(ten, one, 1e-12);
}

TEST(Ema, RampShortensTheHalfLifeEarly) {
  EmaConfig config;
  config.set_half_life_images(1e6);
  config.set_ramp(0.05);
  EXPECT_NEAR(ema_decay(config, 0, 100), std::exp2(-100 / 5.0), 1e-12);
}

TEST(Ema, PowerFunctionFollowsItsRecursion) {
  EmaConfig config;
  config.set_power_width(0.1);
  EXPECT_NEAR(ema_decay(config, 900, 1000), std::pow(0.9, ema_exponent(0.1) + 1), 1e-12);
}

TEST(Ema, AveragesTheTrajectoryAndSwapsByReference) {
  EmaConfig config;
  config.set_half_life_images(100);
  config.set_ramp(0);
  const std::vector<NamedTensor> weights = {{"w", at::full({3}, 1.0F)}};
  Ema ema(config, weights);
  weights[0].tensor.fill_(2);
  ema.set_step(0, 100);  // half of the old average stays
  ema.update(at::ones({}));
  ema.update(at::zeros({}));  // of a step that was skipped
  EXPECT_FLOAT_EQ(ema.tensors()[0].tensor[0].item<float>(), 1.5F);
  {
    const Ema::Swap swap(ema);
    EXPECT_FLOAT_EQ(weights[0].tensor[0].item<float>(), 1.5F);
  }
  EXPECT_FLOAT_EQ(weights[0].tensor[0].item<float>(), 2.0F);
}

}  // namespace
}  // namespace lf
