#include "diffusion/noise_schedule.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/error_of.h"

namespace lf {
namespace {

DiffusionConfig with(DiffusionConfig::Schedule schedule, int steps = 1000) {
  DiffusionConfig config;
  config.set_schedule(schedule);
  config.set_steps(steps);
  return config;
}

double alpha_bar(const NoiseLevel& level) { return level.alpha * level.alpha; }

constexpr auto kSchedules = {DiffusionConfig::LINEAR,
                             DiffusionConfig::SCALED_LINEAR,
                             DiffusionConfig::COSINE,
                             DiffusionConfig::COSINE_LOG_SNR,
                             DiffusionConfig::LINEAR_LOG_SNR,
                             DiffusionConfig::EDM,
                             DiffusionConfig::FLOW};

TEST(NoiseSchedule, LinearTableEqualsDdpms) {
  const NoiseSchedule schedule(with(DiffusionConfig::LINEAR), 32);
  EXPECT_NEAR(alpha_bar(schedule.step(99)), 0.89702, 5e-6);
  EXPECT_NEAR(alpha_bar(schedule.step(249)), 0.52409, 5e-6);
  EXPECT_NEAR(alpha_bar(schedule.step(499)), 0.07859, 5e-6);
  EXPECT_NEAR(alpha_bar(schedule.step(749)), 0.003351, 5e-7);
  EXPECT_NEAR(alpha_bar(schedule.step(999)), 4.036e-5, 5e-9);
}

TEST(NoiseSchedule, LinearTableOfFewerStepsCoversTheSameNoise) {
  const NoiseSchedule quarter(with(DiffusionConfig::LINEAR, 250), 32);
  EXPECT_NEAR(alpha_bar(quarter.step(124)), 0.0786, 0.002);
  EXPECT_TRUE(
      contains(error_of(Code::kUsage, [] { NoiseSchedule(with(DiffusionConfig::LINEAR, 10), 32); }),
               "beta reaches 2"));
}

TEST(NoiseSchedule, RootOfScaledLinearBetasRisesInEqualSteps) {
  const NoiseSchedule schedule(with(DiffusionConfig::SCALED_LINEAR), 32);
  const auto root = [&](int k) {
    return std::sqrt(1 - alpha_bar(schedule.step(k)) / alpha_bar(schedule.step(k - 1)));
  };
  const double step = (std::sqrt(0.02) - std::sqrt(1e-4)) / 999;
  for (const int k : {1, 10, 500, 999}) EXPECT_NEAR(root(k), 0.01 + k * step, 1e-9) << k;
}

TEST(NoiseSchedule, CosineTableEqualsImprovedDdpms) {
  const NoiseSchedule schedule(with(DiffusionConfig::COSINE), 32);
  const std::pair<int, double> fixtures[] = {
      {99, 0.97209}, {249, 0.84701}, {499, 0.49384}, {749, 0.14427}, {899, 0.02409}};
  for (const auto& [k, expected] : fixtures) {
    EXPECT_NEAR(alpha_bar(schedule.step(k)), expected, 5e-6) << k;
  }
  // The last beta is held below 1.
  EXPECT_NEAR(alpha_bar(schedule.step(999)) / alpha_bar(schedule.step(998)), 1e-3, 1e-9);
}

TEST(NoiseSchedule, BetaMaxHoldsTheLastBetaOfTheCosineOnly) {
  DiffusionConfig config = with(DiffusionConfig::COSINE);
  const NoiseSchedule plain(config, 32);
  config.set_beta_max(0.9999);  // lucidrains' port
  const NoiseSchedule port(config, 32);
  for (int k = 0; k < 999; ++k) EXPECT_EQ(port.step(k).alpha, plain.step(k).alpha) << k;
  EXPECT_NEAR(alpha_bar(port.step(999)) / alpha_bar(port.step(998)), 1e-4, 1e-9);
}

TEST(NoiseSchedule, ZeroTerminalSnrKeepsTheFirstLevelAndEmptiesTheLast) {
  DiffusionConfig config = with(DiffusionConfig::LINEAR);
  const NoiseSchedule plain(config, 32);
  config.set_zero_terminal_snr(true);
  config.set_prediction(DiffusionConfig::V);
  const NoiseSchedule schedule(config, 32);
  EXPECT_EQ(schedule.step(999).alpha, 0);
  EXPECT_EQ(schedule.step(999).sigma, 1);
  EXPECT_NEAR(alpha_bar(schedule.step(0)), alpha_bar(plain.step(0)), 1e-12);
  EXPECT_NEAR(alpha_bar(schedule.step(499)), 0.07603, 5e-6);
  EXPECT_GT(schedule.step(998).alpha, 0);
  config.set_prediction(DiffusionConfig::NOISE);
  EXPECT_TRUE(contains(error_of(Code::kUsage, [&] { NoiseSchedule(config, 32); }), "prediction=V"));
  EXPECT_TRUE(contains(error_of(Code::kUsage,
                                [] {
                                  DiffusionConfig flow = with(DiffusionConfig::FLOW);
                                  flow.set_zero_terminal_snr(true);
                                  NoiseSchedule(flow, 32);
                                }),
                       "FLOW"));
}

TEST(NoiseSchedule, ContinuousLogSnrRunsFromTwentyToMinusTwenty) {
  for (const auto kind : {DiffusionConfig::COSINE_LOG_SNR, DiffusionConfig::LINEAR_LOG_SNR}) {
    const NoiseSchedule schedule(with(kind), 32);
    EXPECT_NEAR(schedule.at(0).log_snr(), 20, 1e-7);
    EXPECT_NEAR(schedule.at(0.5).log_snr(), 0, 1e-7);
    EXPECT_NEAR(schedule.at(1).log_snr(), -20, 1e-7);
  }
  // In the middle the cosine in log SNR is that of alpha = cos(pi u / 2).
  const NoiseSchedule schedule(with(DiffusionConfig::COSINE_LOG_SNR), 32);
  EXPECT_NEAR(schedule.at(0.25).alpha, std::cos(M_PI / 8), 1e-4);
}

TEST(NoiseSchedule, NoiseGrowsWithTimeAndKeepsItsKindOfVariance) {
  for (const auto kind : kSchedules) {
    const NoiseSchedule schedule(with(kind), 32);
    double before = schedule.at(0.001).log_snr();
    for (int i = 1; i <= 100; ++i) {
      const NoiseLevel level = schedule.at(0.00995 * i);
      EXPECT_LT(level.log_snr(), before) << ScheduleKind(schedule_kinds()[kind]).name;
      before = level.log_snr();
      if (kind == DiffusionConfig::EDM) {
        EXPECT_EQ(level.alpha, 1);
      } else if (kind == DiffusionConfig::FLOW) {
        EXPECT_NEAR(level.alpha + level.sigma, 1, 1e-12);
        EXPECT_NEAR(level.sigma, level.time, 1e-12);
      } else {
        EXPECT_NEAR(std::hypot(level.alpha, level.sigma), 1, 1e-12);
      }
    }
  }
}

TEST(NoiseSchedule, LevelOfALogSnrIsFoundAgain) {
  for (const auto kind : kSchedules) {
    const NoiseSchedule schedule(with(kind), 32);
    for (const double time : {0.0137, 0.25, 0.5003, 0.9}) {
      const NoiseLevel level = schedule.at(time), found = schedule.at_log_snr(level.log_snr());
      EXPECT_NEAR(found.time, time, 1e-9);
      EXPECT_NEAR(found.alpha, level.alpha, 1e-12);
      EXPECT_NEAR(found.sigma, level.sigma, 1e-9 * (1 + level.sigma));
    }
  }
}

TEST(NoiseSchedule, ReferenceSizeMakesNoiseStrongerByTheRatioOfSizes) {
  for (const auto kind : kSchedules) {
    DiffusionConfig config = with(kind);
    const NoiseSchedule plain(config, 128);
    config.set_reference_size(64);
    const NoiseSchedule shifted(config, 128);
    const NoiseLevel a = plain.at(0.4), b = shifted.at(0.4);
    EXPECT_NEAR(b.sigma / b.alpha / (a.sigma / a.alpha), 2, 1e-9);
    if (kind == DiffusionConfig::FLOW) {
      EXPECT_NEAR(b.sigma, 2 * 0.4 / (1 + 0.4), 1e-12);
    }
  }
}

TEST(NoiseSchedule, EdmTrainsLogNormalAndFlowLogitNormal) {
  const NoiseSchedule edm(with(DiffusionConfig::EDM), 32), flow(with(DiffusionConfig::FLOW), 32);
  EXPECT_NEAR(edm.training_level(0, 0).sigma, std::exp(-1.2), 1e-12);
  EXPECT_NEAR(edm.training_level(0, 2).sigma, std::exp(1.2), 1e-9);
  EXPECT_NEAR(flow.training_level(0, 0).sigma, 0.5, 1e-12);
  EXPECT_NEAR(flow.training_level(0, 1).sigma, 1 / (1 + std::exp(-1.0)), 1e-12);
  const NoiseSchedule table(with(DiffusionConfig::LINEAR), 32);
  EXPECT_EQ(table.training_level(0, 5).time, table.step(0).time);
  EXPECT_EQ(table.training_level(0.99999994, 5).time, table.step(999).time);
}

TEST(NoiseSchedule, SignalScalesATableToAThousandAndClampsTheLogSnrAtTwenty) {
  const NoiseSchedule table(with(DiffusionConfig::COSINE, 4000), 32);
  EXPECT_NEAR(table.signal(table.step(0)), 0, 1e-9);
  EXPECT_NEAR(table.signal(table.step(2000)), 500, 1e-9);
  EXPECT_NEAR(table.signal(NoiseLevel{}), -0.25, 1e-9);
  const NoiseSchedule cosine(with(DiffusionConfig::COSINE_LOG_SNR), 32);
  EXPECT_NEAR(cosine.signal(cosine.at_log_snr(0)), 500, 1e-9);
  EXPECT_NE(cosine.signal(cosine.at_log_snr(19)), cosine.signal(cosine.at_log_snr(20)));
  EXPECT_EQ(cosine.signal(cosine.at_log_snr(20)), cosine.signal(cosine.at_log_snr(25)));
  EXPECT_EQ(cosine.signal(NoiseLevel{}), cosine.signal(cosine.at_log_snr(20)));
}

TEST(ReverseStep, CoefficientsAreTheCorrectedOnesOfTheMovingMnistPaper) {
  const NoiseSchedule schedule(with(DiffusionConfig::LINEAR), 32);
  const NoiseLevel t = schedule.step(599), s = schedule.step(499);
  const ReverseStep step = reverse_step(t, s);
  EXPECT_NEAR(step.from_z, 0.54280, 5e-6);
  EXPECT_NEAR(step.from_z * t.alpha / s.alpha, 0.31149, 5e-6);  // as printed
  const double r = std::exp(t.log_snr() - s.log_snr());
  EXPECT_NEAR(step.from_x, (1 - r) * s.alpha, 1e-12);
  EXPECT_NEAR(step.least, (1 - r) * s.sigma * s.sigma, 1e-12);
  EXPECT_NEAR(step.most, (1 - r) * t.sigma * t.sigma, 1e-12);
}

TEST(ReverseStep, OfOneTableStepIsDdpms) {
  const NoiseSchedule schedule(with(DiffusionConfig::LINEAR), 32);
  for (const int k : {1, 400, 999}) {
    const double now = alpha_bar(schedule.step(k)), before = alpha_bar(schedule.step(k - 1));
    const double beta = 1e-4 + k * (0.02 - 1e-4) / 999;
    const ReverseStep step = reverse_step(schedule.step(k), schedule.step(k - 1));
    EXPECT_NEAR(step.most, beta, 1e-9);
    EXPECT_NEAR(step.least, beta * (1 - before) / (1 - now), 1e-9);
    EXPECT_NEAR(step.from_z, std::sqrt(1 - beta) * (1 - before) / (1 - now), 1e-9);
    EXPECT_NEAR(step.from_x, std::sqrt(before) * beta / (1 - now), 1e-9);
  }
  const ReverseStep last = reverse_step(schedule.step(0), NoiseLevel{});
  EXPECT_EQ(last.from_z, 0);
  EXPECT_EQ(last.from_x, 1);
  EXPECT_EQ(last.least, 0);
}

TEST(ScheduleTable, HasARowForEveryScheduleInOrder) {
  const auto kinds = schedule_kinds();
  ASSERT_EQ(kinds.size(), static_cast<size_t>(DiffusionConfig::Schedule_ARRAYSIZE));
  for (int i = 0; i < DiffusionConfig::Schedule_ARRAYSIZE; ++i) {
    EXPECT_EQ(DiffusionConfig::Schedule_Name(static_cast<DiffusionConfig::Schedule>(i)),
              kinds[static_cast<size_t>(i)].name);
  }
}

}  // namespace
}  // namespace lf
