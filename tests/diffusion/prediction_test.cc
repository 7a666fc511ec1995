#include "diffusion/prediction.h"

#include <gtest/gtest.h>

#include <cmath>

namespace lf {
namespace {

constexpr auto kPredictions = {DiffusionConfig::NOISE, DiffusionConfig::IMAGE, DiffusionConfig::V,
                               DiffusionConfig::PRECONDITIONED, DiffusionConfig::VELOCITY};

NoiseLevel variance_preserving(double snr) {
  return {0.5, std::sqrt(snr / (1 + snr)), std::sqrt(1 / (1 + snr))};
}

const NoiseLevel kLevels[] = {variance_preserving(0.01),
                              variance_preserving(1),
                              variance_preserving(100),
                              {0.5, 1, 0.05},
                              {0.5, 1, 20},
                              {0.3, 0.7, 0.3}};

TEST(LossWeight, OfAbsoluteErrorsIsTheRootOfThatOfSquares) {
  for (const NoiseLevel& level : kLevels) {
    for (const auto weight :
         {DiffusionConfig::MIN_SNR, DiffusionConfig::EDM_WEIGHT, DiffusionConfig::SNR}) {
      DiffusionConfig config;
      config.set_weight(weight);
      const double of_squares = loss_weight(config, level);
      config.set_error(DiffusionConfig::L1);
      EXPECT_NEAR(std::pow(loss_weight(config, level), 2), of_squares, 1e-9 * of_squares);
    }
  }
}

TEST(Prediction, EveryTargetGivesTheImageBackAtEveryLevel) {
  const double x = 0.37, e = -1.21;
  for (const NoiseLevel& level : kLevels) {
    const double z = level.alpha * x + level.sigma * e;
    for (const auto kind : kPredictions) {
      const Preconditioning p = preconditioning(kind, level, 0.5);
      EXPECT_NEAR(p.skip * z + p.out * (p.image * x + p.noise * e), x, 1e-12)
          << DiffusionConfig::Prediction_Name(kind);
    }
  }
}

// One network's wrong output, read as noise, image or v, is the same image and noise.
TEST(Prediction, NoiseImageAndVConvertIntoEachOtherExactly) {
  const NoiseLevel level = variance_preserving(0.7);
  const double z = 0.9, output = 0.4;  // of the noise
  const auto image_of = [&](DiffusionConfig::Prediction kind, double output) {
    const Preconditioning p = preconditioning(kind, level, 0.5);
    return p.skip * z + p.out * output;
  };
  const double image = image_of(DiffusionConfig::NOISE, output);
  EXPECT_NEAR(image, (z - level.sigma * output) / level.alpha, 1e-12);
  EXPECT_NEAR(image_of(DiffusionConfig::IMAGE, image), image, 1e-12);
  const double v = level.alpha * output - level.sigma * image;
  EXPECT_NEAR(image_of(DiffusionConfig::V, v), image, 1e-12);
  EXPECT_NEAR(level.sigma * z + level.alpha * v, output, 1e-12);
  EXPECT_NEAR(image_of(DiffusionConfig::VELOCITY, output - image), image, 1e-12);
}

TEST(Prediction, PreconditioningIsEdmsAndGivesUnitVariance) {
  const double data = 0.5;
  for (const double sigma : {0.002, 0.5, 80.0}) {
    const Preconditioning p =
        preconditioning(DiffusionConfig::PRECONDITIONED, {0.5, 1, sigma}, data);
    const double sum = sigma * sigma + data * data;
    EXPECT_NEAR(p.skip, data * data / sum, 1e-12);
    EXPECT_NEAR(p.out, sigma * data / std::sqrt(sum), 1e-12);
    EXPECT_NEAR(p.in, 1 / std::sqrt(sum), 1e-9);
    EXPECT_NEAR(p.image * p.image * data * data + p.noise * p.noise, 1, 1e-9);
  }
}

TEST(Prediction, IsFiniteWhereNothingIsLeftOfTheImage) {
  for (const auto kind : {DiffusionConfig::IMAGE, DiffusionConfig::V,
                          DiffusionConfig::PRECONDITIONED, DiffusionConfig::VELOCITY}) {
    DiffusionConfig config;
    config.set_prediction(kind);
    const Preconditioning p = preconditioning(kind, {1, 0, 1}, 0.5);
    EXPECT_TRUE(std::isfinite(p.skip) && std::isfinite(p.out) && std::isfinite(p.noise));
    for (const auto weight : {DiffusionConfig::MIN_SNR, DiffusionConfig::EDM_WEIGHT}) {
      config.set_weight(weight);
      EXPECT_TRUE(std::isfinite(loss_weight(config, {1, 0, 1})));
    }
  }
}

TEST(LossWeight, MinSnrTableIsTheFixtures) {
  DiffusionConfig config;
  config.set_weight(DiffusionConfig::MIN_SNR);
  const std::pair<double, std::pair<double, double>> rows[] = {
      {0.01, {1, 0.0099}}, {1, {1, 0.5}}, {5, {1, 0.8333}}, {100, {0.05, 0.0495}}};
  for (const auto& [snr, expected] : rows) {
    config.set_prediction(DiffusionConfig::NOISE);
    EXPECT_NEAR(loss_weight(config, variance_preserving(snr)), expected.first, 5e-5);
    config.set_prediction(DiffusionConfig::V);
    EXPECT_NEAR(loss_weight(config, variance_preserving(snr)), expected.second, 5e-5);
    config.set_prediction(DiffusionConfig::IMAGE);
    EXPECT_NEAR(loss_weight(config, variance_preserving(snr)), std::min(snr, 5.0), 1e-9);
  }
}

TEST(LossWeight, OfTheImagesErrorIsTheSameWhateverIsPredicted) {
  DiffusionConfig config;
  for (const NoiseLevel& level : kLevels) {
    const double noise = level.sigma / level.alpha;
    for (const auto kind : kPredictions) {
      config.set_prediction(kind);
      const double out = preconditioning(kind, level, 0.5).out;
      config.set_weight(DiffusionConfig::EDM_WEIGHT);
      EXPECT_NEAR(loss_weight(config, level) / (out * out) /
                      ((noise * noise + 0.25) / (noise * noise * 0.25)),
                  1, 1e-9);
      config.set_weight(DiffusionConfig::SNR);
      EXPECT_NEAR(loss_weight(config, level) / (out * out) * noise * noise, 1, 1e-9);
      config.set_weight(DiffusionConfig::UNIFORM);
      EXPECT_EQ(loss_weight(config, level), 1);
    }
  }
}

TEST(LossWeight, EdmsMakesItsOwnPredictionUniformAndTheSnrsTheNoise) {
  DiffusionConfig config;
  config.set_prediction(DiffusionConfig::PRECONDITIONED);
  config.set_weight(DiffusionConfig::EDM_WEIGHT);
  EXPECT_NEAR(loss_weight(config, {0.5, 1, 3}), 1, 1e-12);
  config.set_prediction(DiffusionConfig::NOISE);
  config.set_weight(DiffusionConfig::SNR);
  EXPECT_NEAR(loss_weight(config, variance_preserving(3)), 1, 1e-12);
}

}  // namespace
}  // namespace lf
