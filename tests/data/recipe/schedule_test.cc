// Schedules, topologies and the arithmetic they are made with, against published values
// and closed forms.
#include "data/recipe/schedule.h"

#include <gtest/gtest.h>

#include <cmath>

#include "data/recipe/exact_math.h"
#include "data/recipe/topology.h"
#include "tests/data/recipe/recipe_fixture.h"

namespace lf {
namespace {

TEST(ExactMath, AgreesWithTheLibrary) {
  for (double x = -60; x < 60; x += 0.37) {
    EXPECT_NEAR(exact_exp(x) / std::exp(x), 1, 1e-14) << x;
  }
  for (double x = 1e-6; x < 1e6; x *= 1.37) {
    EXPECT_NEAR(exact_log(x), std::log(x), 4e-16 * std::max(1.0, std::abs(std::log(x)))) << x;
    EXPECT_NEAR(exact_pow(x, 0.3) / std::pow(x, 0.3), 1, 1e-14) << x;
  }
  EXPECT_EQ(exact_log(1), 0);
  EXPECT_EQ(exact_exp(0), 1);
  for (int64_t p = -100; p <= 100; ++p) {
    EXPECT_NEAR(exact_cos_pi(p, 17), std::cos(M_PI * static_cast<double>(p) / 17), 3e-15) << p;
  }
  EXPECT_EQ(exact_cos_pi(1, 2), 0);
  EXPECT_EQ(exact_cos_pi(7, 7), -1);
}

TEST(Schedule, RampsGiveTheExpectedSigmas) {
  const double seven[] = {0.717, 0.956, 1.195, 1.434, 1.673, 1.912, 2.151};
  const std::vector<double> sigmas = ramp_sigmas(7, 4, 3);
  for (size_t i = 0; i < 7; ++i) EXPECT_NEAR(sigmas[i], seven[i], 6e-4);
  const std::vector<double> long_ones = ramp_sigmas(17, 4, 3);
  EXPECT_NEAR(long_ones.front(), 0.464, 6e-4);
  EXPECT_NEAR(long_ones.back(), 1.391, 6e-4);
  double squares = 0;
  for (size_t i = 0; i < 17; ++i) {
    squares += long_ones[i] * long_ones[i];
    if (i > 0) {
      EXPECT_NEAR(long_ones[i] - long_ones[i - 1], 0.058, 6e-4);
    }
  }
  EXPECT_NEAR(squares, 16, 1e-12);
  EXPECT_EQ(ramp_sigmas(1, 4, 3), std::vector<double>{4});
}

TEST(Schedule, DdpmTableGivesThePublishedAlphaBars) {
  EXPECT_NEAR(ddpm_alpha_bar(100), 0.89702, 5e-6);
  EXPECT_NEAR(ddpm_alpha_bar(250), 0.52409, 5e-6);
  EXPECT_NEAR(ddpm_alpha_bar(500), 0.07859, 5e-6);
  EXPECT_NEAR(ddpm_alpha_bar(750), 0.003351, 5e-7);
  EXPECT_NEAR(ddpm_alpha_bar(1000), 4.036e-5, 5e-9);
}

TEST(Schedule, DefaultNoiseLevelsAreAsExpected) {
  const double four[] = {.7459, .3208, .0786};
  const double eight[] = {.9449, .8051, .6212, .4308, .2713, .1530, .0786};
  const NoiseLevels of_four = noise_levels(NoiseConfig(), 3);
  const NoiseLevels of_eight = noise_levels(NoiseConfig(), 7);
  for (size_t s = 0; s < 3; ++s) {
    EXPECT_NEAR(of_four.alpha[s + 1] * of_four.alpha[s + 1], four[s], 6e-5);
  }
  for (size_t s = 0; s < 7; ++s) {
    const double bar = of_eight.alpha[s + 1] * of_eight.alpha[s + 1];
    EXPECT_NEAR(bar, eight[s], 6e-5);
    EXPECT_NEAR(bar + of_eight.sigma[s + 1] * of_eight.sigma[s + 1], 1, 1e-12);
  }
}

TEST(Schedule, OtherNoiseSchedulesFollowTheirFormulas) {
  NoiseConfig config;
  config.set_schedule(RecipeConfig::LINEAR_BETA);
  double product = 1;
  NoiseLevels levels = noise_levels(config, 7);
  for (int s = 1; s <= 7; ++s) {
    product *= 1 - (0.05 + 0.45 * (s - 1) / 6);
    EXPECT_NEAR(levels.alpha[static_cast<size_t>(s)], std::sqrt(product), 1e-12);
  }
  config.set_schedule(RecipeConfig::COSINE);
  levels = noise_levels(config, 7);
  const auto f = [](double t) { return std::pow(std::cos((t + .008) / 1.008 * M_PI / 2), 2); };
  for (int s = 1; s <= 7; ++s) {
    EXPECT_NEAR(levels.alpha[static_cast<size_t>(s)], std::sqrt(f(.5 * s / 7) / f(0)), 1e-12);
  }
  config.set_schedule(RecipeConfig::GEOMETRIC);
  config.set_kind(NoiseConfig::VE);
  levels = noise_levels(config, 7);
  for (int s = 1; s <= 7; ++s) {
    EXPECT_EQ(levels.alpha[static_cast<size_t>(s)], 1);
    EXPECT_NEAR(levels.sigma[static_cast<size_t>(s)], .25 * std::pow(3.4 / .25, (s - 1) / 6.0),
                1e-9);
  }
  config.set_schedule(RecipeConfig::LINEAR);
  config.set_kind(NoiseConfig::VP);
  levels = noise_levels(config, 7);
  for (size_t s = 1; s <= 7; ++s) {
    EXPECT_NEAR(levels.sigma[s] / levels.alpha[s], 3.4 * static_cast<double>(s) / 7, 1e-9);
  }
}

TEST(Schedule, LevelsRiseToOne) {
  for (const auto schedule :
       {RecipeConfig::LINEAR, RecipeConfig::COSINE, RecipeConfig::GEOMETRIC}) {
    for (const int steps : {1, 2, 7, 31}) {
      const std::vector<double> levels = level_table(schedule, steps, "x");
      EXPECT_NEAR(levels.back(), 1, 1e-12);
      for (size_t i = 0; i + 1 < levels.size(); ++i) EXPECT_LT(levels[i], levels[i + 1]);
      EXPECT_GT(levels.front(), 0);
    }
  }
  EXPECT_THROW(level_table(RecipeConfig::LINEAR_DDPM, 3, "x"), Error);
}

TEST(Topology, ParentsAreNearestFirst) {
  EXPECT_EQ(parents_of(RecipeConfig::CHAIN, 2, 3), (std::vector<int>{2}));
  EXPECT_EQ(parents_of(RecipeConfig::WINDOW, 2, 1), (std::vector<int>{0}));
  EXPECT_EQ(parents_of(RecipeConfig::WINDOW, 2, 3), (std::vector<int>{2, 1}));
  EXPECT_EQ(parents_of(RecipeConfig::FULL, 2, 3), (std::vector<int>{2, 1, 0}));
  EXPECT_EQ(parents_of(RecipeConfig::STAR, 2, 3), (std::vector<int>{0}));
}

TEST(Topology, FreshNoiseOfFourFramesIsAsExpected) {
  const struct {
    RecipeConfig::Topology topology;
    double fresh[3];
  } rows[] = {{RecipeConfig::CHAIN, {.2541, .5699, .7550}},
              {RecipeConfig::WINDOW, {.2541, .6519, .8664}},
              {RecipeConfig::FULL, {.2541, .6519, .8970}},
              {RecipeConfig::STAR, {.2541, .6792, .9214}}};
  for (const auto& row : rows) {
    const NoiseTable table = noise_table(noise_levels(NoiseConfig(), 3), row.topology, 2);
    for (size_t s = 0; s < 3; ++s) {
      EXPECT_NEAR(table.steps[s + 1].fresh * table.steps[s + 1].fresh, row.fresh[s], 6e-5)
          << RecipeConfig::Topology_Name(row.topology) << " " << s;
    }
  }
}

// The chain's step is DDPM's: sqrt(1 - beta) y + sqrt(beta) e.
TEST(Topology, TheChainIsDdpm) {
  const NoiseLevels levels = noise_levels(NoiseConfig(), 7);
  const NoiseTable table = noise_table(levels, RecipeConfig::CHAIN, 2);
  for (size_t s = 1; s <= 7; ++s) {
    const double c = table.steps[s].coefficients[0];
    EXPECT_NEAR(c * c + table.steps[s].fresh * table.steps[s].fresh, 1, 1e-12);
  }
}

}  // namespace
}  // namespace lf
