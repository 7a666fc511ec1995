#include "diffusion/sampler.h"

#include <ATen/ops/equal.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include "base/stop.h"
#include "tests/diffusion/gaussian_fixture.h"
#include "tests/error_of.h"

namespace lf {
namespace {

DiffusionConfig with(DiffusionConfig::Schedule schedule, SamplerConfig::Kind kind, int steps,
                     SamplerConfig::Spacing spacing = SamplerConfig::TIME) {
  DiffusionConfig config;
  config.set_schedule(schedule);
  config.mutable_sampler()->set_kind(kind);
  config.mutable_sampler()->set_steps(steps);
  config.mutable_sampler()->set_spacing(spacing);
  config.mutable_sampler()->set_lower_last(false);
  return config;
}

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

TEST(AncestralSampler, ReachesTheStatedDeviationsForEveryGamma) {
  const std::pair<double, std::pair<double, double>> rows[] = {
      {0, {0.486, 0.497}}, {0.3, {0.491, 0.498}}, {1, {0.504, 0.503}}};
  for (const auto& [gamma, expected] : rows) {
    DiffusionConfig config = with(DiffusionConfig::LINEAR, SamplerConfig::ANCESTRAL, 250);
    config.mutable_sampler()->set_gamma(gamma);
    const ToySamples short_chain = toy_samples(config);
    EXPECT_NEAR(short_chain.mean, 0.3, 1e-4);
    EXPECT_NEAR(short_chain.deviation, expected.first, 0.001);
    config.mutable_sampler()->set_steps(1000);
    EXPECT_NEAR(toy_samples(config).deviation, expected.second, 0.003);
  }
}

// The equations as the Moving-MNIST paper prints them do not sample.
TEST(AncestralSampler, WithThePrintedMeanMissesTheData) {
  DiffusionConfig config = with(DiffusionConfig::LINEAR, SamplerConfig::ANCESTRAL, 250);
  const double right = toy_samples(config).deviation;
  config.mutable_sampler()->set_as_printed(true);
  const ToySamples printed = toy_samples(config);
  EXPECT_LT(std::abs(right - 0.5), 0.02);
  EXPECT_GT(std::hypot(printed.deviation - 0.5, printed.mean - 0.3), 0.1);
}

TEST(AncestralSampler, LearnedVarianceLiesBetweenTheLeastAndTheMost) {
  DiffusionConfig config = with(DiffusionConfig::COSINE, SamplerConfig::ANCESTRAL, 100);
  const double least = toy_samples(config).deviation;
  EXPECT_DOUBLE_EQ(toy_samples(config, 0).deviation, least);
  const double between = toy_samples(config, 0.5).deviation;
  config.mutable_sampler()->set_gamma(1);
  const double most = toy_samples(config).deviation;
  EXPECT_NEAR(toy_samples(config, 1).deviation, most, 1e-12);
  EXPECT_LT(least, between);
  EXPECT_LT(between, most);
}

TEST(AncestralSampler, CorrectorStepsBringTheDeviationNearer) {
  DiffusionConfig config = with(DiffusionConfig::LINEAR, SamplerConfig::ANCESTRAL, 50);
  const double plain = std::abs(toy_samples(config).deviation - 0.5);
  config.mutable_sampler()->set_corrector_steps(4);
  EXPECT_LT(std::abs(toy_samples(config).deviation - 0.5), 0.8 * plain);
}

TEST(DdimSampler, WithEtaOneHasTheAncestralStepsLeastNoise) {
  DiffusionConfig config = with(DiffusionConfig::LINEAR, SamplerConfig::DDIM, 100);
  config.mutable_sampler()->set_eta(1);
  const double stochastic = toy_samples(config).deviation;
  config.mutable_sampler()->set_kind(SamplerConfig::ANCESTRAL);
  EXPECT_NEAR(stochastic, toy_samples(config).deviation, 1e-9);
}

// Spacing matters more than order.
TEST(DpmSampler, ErrorsAgainstThousandStepsOfDdimAreTheStatedOnes) {
  constexpr auto TIME = SamplerConfig::TIME, LOG_SNR = SamplerConfig::LOG_SNR;
  const at::Tensor reference = toy_path(with(DiffusionConfig::LINEAR, SamplerConfig::DDIM, 1000));
  const auto error = [&](SamplerConfig::Kind kind, int steps, SamplerConfig::Spacing spacing,
                         bool lower_last = false) {
    DiffusionConfig config = with(DiffusionConfig::LINEAR, kind, steps, spacing);
    config.mutable_sampler()->set_lower_last(lower_last);
    return largest_difference(toy_path(config), reference);
  };
  EXPECT_NEAR(error(SamplerConfig::DDIM, 10, TIME), 0.232, 0.001);
  EXPECT_NEAR(error(SamplerConfig::DPM, 10, TIME), 0.330, 0.001);
  EXPECT_NEAR(error(SamplerConfig::DPM, 10, TIME, true), 0.180, 0.001);
  EXPECT_NEAR(error(SamplerConfig::DPM, 10, LOG_SNR), 0.030, 0.001);
  EXPECT_NEAR(error(SamplerConfig::DPM, 10, LOG_SNR, true), 0.016, 0.001);
  EXPECT_NEAR(error(SamplerConfig::DDIM, 50, TIME), 0.045, 0.001);
  EXPECT_NEAR(error(SamplerConfig::DPM, 50, LOG_SNR), 0.0044, 0.0001);
}

// Euler's errors halve with twice the steps, Heun's fall to a quarter.
TEST(HeunSampler, ErrorsAndOrdersAreTheStatedOnes) {
  const std::pair<int, std::pair<double, double>> rows[] = {
      {18, {0.0469, 0.1305}}, {36, {0.01036, 0.0661}}, {72, {0.00243, 0.0333}}};
  for (const auto& [steps, expected] : rows) {
    const DiffusionConfig heun = with(DiffusionConfig::EDM, SamplerConfig::HEUN, steps),
                          euler = with(DiffusionConfig::EDM, SamplerConfig::EULER, steps);
    EXPECT_NEAR(largest_difference(toy_path(heun), toy_flow(heun)), expected.first, 1e-4);
    EXPECT_NEAR(largest_difference(toy_path(euler), toy_flow(euler)), expected.second, 1e-4);
  }
}

TEST(HeunSampler, ChurnKeepsTheDistribution) {
  DiffusionConfig config = with(DiffusionConfig::EDM, SamplerConfig::HEUN, 64);
  config.mutable_sampler()->set_churn(20);
  config.mutable_sampler()->set_churn_min(0.05);
  config.mutable_sampler()->set_churn_max(50);
  const ToySamples made = toy_samples(config);
  EXPECT_NEAR(made.mean, 0.3, 0.01);
  EXPECT_NEAR(made.deviation, 0.5, 0.01);
  // It does something: the draw that is not the start has an influence.
  config.mutable_sampler()->set_churn(0);
  EXPECT_NE(made.deviation, toy_samples(config).deviation);
}

TEST(EulerSampler, OnFlowsIsAStraightStep) {
  const DiffusionConfig config = with(DiffusionConfig::FLOW, SamplerConfig::EULER, 4);
  at::Tensor z = at::tensor({1.7, -0.4, 0.9}, at::kDouble);
  const NoiseSchedule schedule(config, 64);
  for (const double t : {1.0, 0.75, 0.5, 0.25}) {
    const at::Tensor image = toy_image(z, schedule.at(t));
    z = z - 0.25 * (z - image) / t;  // e - x = (z - x) / t
  }
  EXPECT_LT(largest_difference(toy_path(config), z), 1e-12);
}

TEST(Samplers, AllReachTheDataWithAllSchedules) {
  for (const ScheduleKind& schedule : schedule_kinds()) {
    for (const SamplerKind& sampler : sampler_kinds()) {
      DiffusionConfig config = with(DiffusionConfig::LINEAR, SamplerConfig::ANCESTRAL, 200);
      DiffusionConfig::Schedule chosen{};
      SamplerConfig::Kind kind{};
      ASSERT_TRUE(DiffusionConfig::Schedule_Parse(schedule.name, &chosen));
      ASSERT_TRUE(SamplerConfig::Kind_Parse(sampler.name, &kind));
      config.set_schedule(chosen);
      config.mutable_sampler()->set_kind(kind);
      config.mutable_sampler()->set_gamma(0.3);
      if (kind == SamplerConfig::DPM) config.mutable_sampler()->set_spacing(SamplerConfig::LOG_SNR);
      const ToySamples made = toy_samples(config);
      EXPECT_NEAR(made.mean, 0.3, 0.02) << schedule.name << " " << sampler.name;
      EXPECT_NEAR(made.deviation, 0.5, 0.025) << schedule.name << " " << sampler.name;
    }
  }
}

TEST(Samplers, WorkFromATerminalLevelOfNoiseAlone) {
  for (const SamplerKind& sampler : sampler_kinds()) {
    DiffusionConfig config = with(DiffusionConfig::COSINE, SamplerConfig::ANCESTRAL, 100);
    SamplerConfig::Kind kind{};
    ASSERT_TRUE(SamplerConfig::Kind_Parse(sampler.name, &kind));
    config.set_zero_terminal_snr(true);
    config.set_prediction(DiffusionConfig::V);
    config.mutable_sampler()->set_kind(kind);
    EXPECT_NEAR(toy_samples(config).deviation, 0.5, 0.05) << sampler.name;
  }
}

TEST(Samplers, StopBeforeTheNextEstimate) {
  for (const SamplerKind& sampler : sampler_kinds()) {
    SamplerConfig::Kind kind = SamplerConfig::DDIM;
    ASSERT_TRUE(SamplerConfig::Kind_Parse(sampler.name, &kind));
    int asked = 0;
    const Interruptible third([&] { return ++asked == 3; });
    error_of(Code::kInterrupted, [&] { toy_samples(with(DiffusionConfig::LINEAR, kind, 50)); });
    EXPECT_EQ(asked, 3) << sampler.name;
  }
}

TEST(SamplerTable, HasARowForEveryKindInOrder) {
  ASSERT_EQ(sampler_kinds().size(), static_cast<size_t>(SamplerConfig::Kind_ARRAYSIZE));
  for (int i = 0; i < SamplerConfig::Kind_ARRAYSIZE; ++i) {
    EXPECT_EQ(SamplerConfig::Kind_Name(static_cast<SamplerConfig::Kind>(i)),
              sampler_kinds()[static_cast<size_t>(i)].name);
  }
}

// As numpy's round(arange(T, 0, -T / n)) - 1 (Lin et al. 2305.08891, table 2).
TEST(SamplingLevels, TrailingStepsBeginAtTheNoisiest) {
  const std::pair<std::pair<int, int>, std::vector<int>> rows[] = {
      {{1000, 10}, {999, 899, 799, 699, 599, 499, 399, 299, 199, 99}},
      {{1000, 3}, {999, 666, 332}},
      {{10, 4}, {9, 7, 4, 2}},
      {{4, 4}, {3, 2, 1, 0}},
      {{1000, 1}, {999}}};
  for (const auto& [of, expected] : rows) {
    DiffusionConfig config =
        with(DiffusionConfig::COSINE, SamplerConfig::DDIM, of.second, SamplerConfig::TRAILING);
    config.set_steps(of.first);
    const NoiseSchedule schedule(config, 32);
    std::vector<double> alphas, wanted;
    for (const NoiseLevel& level : sampling_levels(config.sampler(), schedule)) {
      alphas.push_back(level.alpha);
    }
    for (const int k : expected) wanted.push_back(schedule.step(k).alpha);
    EXPECT_EQ(alphas, wanted) << of.first << " " << of.second;
  }
  const DiffusionConfig edm =
      with(DiffusionConfig::EDM, SamplerConfig::DDIM, 3, SamplerConfig::TRAILING);
  EXPECT_TRUE(contains(
      error_of(Code::kUsage, [&] { sampling_levels(edm.sampler(), NoiseSchedule(edm, 32)); }),
      "spacing is TRAILING"));
}

// Respacing keeps a subset of the table's levels, to the bit.
TEST(SamplingLevels, RespacedLevelsAreTheTablesOwn) {
  const DiffusionConfig config = with(DiffusionConfig::COSINE, SamplerConfig::DDIM, 7);
  const NoiseSchedule schedule(config, 32);
  const std::vector<NoiseLevel> levels = sampling_levels(config.sampler(), schedule);
  const int kept[] = {999, 833, 666, 500, 333, 167, 0};  // 166.5 apart, halves away from zero
  ASSERT_EQ(levels.size(), 7U);
  for (size_t i = 0; i < 7; ++i) {
    EXPECT_EQ(levels[i].alpha, schedule.step(kept[i]).alpha) << i;
    EXPECT_EQ(levels[i].time, schedule.step(kept[i]).time) << i;
  }
}

TEST(SamplingLevels, StrideTakesEveryNthLevelFromTheFirst) {
  const DiffusionConfig config =
      with(DiffusionConfig::LINEAR, SamplerConfig::DDIM, 3, SamplerConfig::STRIDE);
  const NoiseSchedule schedule(config, 32);
  const std::vector<NoiseLevel> levels = sampling_levels(config.sampler(), schedule);
  ASSERT_EQ(levels.size(), 3U);
  EXPECT_EQ(levels[0].time, schedule.step(666).time);
  EXPECT_EQ(levels[2].time, schedule.step(0).time);
}

TEST(SamplingLevels, KarrasAndLogSnrAreEvenInTheirOwnTerms) {
  for (const auto spacing : {SamplerConfig::KARRAS, SamplerConfig::LOG_SNR}) {
    const DiffusionConfig config =
        with(DiffusionConfig::COSINE_LOG_SNR, SamplerConfig::DDIM, 11, spacing);
    const NoiseSchedule schedule(config, 32);
    const std::vector<NoiseLevel> levels = sampling_levels(config.sampler(), schedule);
    const auto own = [&](const NoiseLevel& level) {
      return spacing == SamplerConfig::LOG_SNR ? level.log_snr()
                                               : std::pow(level.sigma / level.alpha, 1.0 / 7);
    };
    const double step = own(levels[1]) - own(levels[0]);
    for (size_t i = 2; i < levels.size(); ++i) {
      EXPECT_NEAR((own(levels[i]) - own(levels[i - 1])) / step, 1, 1e-6);
    }
  }
}

TEST(SamplingLevels, WhatAScheduleCannotGiveIsRefused) {
  const auto levels = [](const DiffusionConfig& config) {
    return sampling_levels(config.sampler(), NoiseSchedule(config, 32));
  };
  EXPECT_TRUE(
      contains(error_of(Code::kUsage,
                        [&] { levels(with(DiffusionConfig::LINEAR, SamplerConfig::DDIM, 1001)); }),
               "no more than the 1000"));
  EXPECT_TRUE(contains(error_of(Code::kUsage,
                                [&] {
                                  levels(with(DiffusionConfig::FLOW, SamplerConfig::DDIM, 10,
                                              SamplerConfig::STRIDE));
                                }),
                       "STRIDE"));
}

}  // namespace
}  // namespace lf
