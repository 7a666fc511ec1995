#include "train/post_hoc.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "base/random.h"
#include "train/ema.h"

namespace lf {
namespace {

constexpr int64_t kBatch = 64, kSteps = 3000;
using Point = std::vector<double>;

// Weights as a training moves them: fast at first, then slower, with noise all the time.
std::vector<Point> logged_trajectory() {
  constexpr size_t kWeights = 50;
  std::vector<float> noise(kWeights * static_cast<size_t>(kSteps));
  normal({7, Purpose::kGenerated, 0, 0}, 0, noise.size(), noise.data());
  std::vector<Point> points(static_cast<size_t>(kSteps), Point(kWeights));
  for (size_t w = 0; w < kWeights; ++w) {
    double at = std::sin(static_cast<double>(w));
    for (size_t step = 0; step < points.size(); ++step) {
      const double goal = std::cos(static_cast<double>(w));
      const double rate = 1.0 / (50 + static_cast<double>(step) / 4);
      at += rate * (goal - at) + 0.02 * static_cast<double>(noise[step * kWeights + w]);
      points[step][w] = at;
    }
  }
  return points;
}

// The average as training keeps it, after each step.
std::vector<Point> averages(const std::vector<Point>& points, double width) {
  EmaConfig config;
  config.set_power_width(width);
  std::vector<Point> out;
  Point average(points[0].size(), 0);
  for (size_t step = 0; step < points.size(); ++step) {
    const auto before = static_cast<int64_t>(step) * kBatch;
    const double keep = ema_decay(config, before, before + kBatch);
    for (size_t w = 0; w < average.size(); ++w) {
      average[w] = keep * average[w] + (1 - keep) * points[step][w];
    }
    out.push_back(average);
  }
  return out;
}

double distance(const Point& a, const Point& b) {
  double sum = 0;
  for (size_t w = 0; w < a.size(); ++w) sum += (a[w] - b[w]) * (a[w] - b[w]);
  return std::sqrt(sum);
}

TEST(PostHoc, AnyWidthIsMadeOfTwoTrackedOnesWithinOnePercent) {
  const std::vector<Point> points = logged_trajectory();
  std::vector<TrackedAverage> tracked;
  std::vector<Point> kept;
  for (const double width : {0.05, 0.10}) {
    const std::vector<Point> all = averages(points, width);
    for (int64_t step = 150; step <= kSteps; step += 150) {
      tracked.push_back({width, step * kBatch});
      kept.push_back(all[static_cast<size_t>(step) - 1]);
    }
  }
  const Point nothing(points[0].size(), 0);
  for (const double width : {0.03, 0.05, 0.07, 0.10, 0.15, 0.20}) {
    for (const int64_t step : {kSteps / 2, kSteps}) {
      std::vector<TrackedAverage> usable;
      std::vector<Point> values;
      for (size_t i = 0; i < tracked.size(); ++i) {
        if (tracked[i].images > step * kBatch) continue;
        usable.push_back(tracked[i]);
        values.push_back(kept[i]);
      }
      const PostHoc mix = combine_averages(usable, {width, step * kBatch});
      EXPECT_NEAR(std::accumulate(mix.shares.begin(), mix.shares.end(), 0.0), 1, 1e-9);
      Point made = nothing;
      for (size_t i = 0; i < values.size(); ++i) {
        for (size_t w = 0; w < made.size(); ++w) made[w] += mix.shares[i] * values[i][w];
      }
      const Point real = averages(points, width)[static_cast<size_t>(step) - 1];
      EXPECT_LT(distance(made, real) / distance(real, nothing), 0.01)
          << "width " << width << " at step " << step << ", misfit " << mix.misfit;
    }
  }
}

TEST(PostHoc, AnAverageThatWasTrackedIsTakenAsItIs) {
  const std::vector<TrackedAverage> tracked = {
      {0.05, 1000}, {0.1, 1000}, {0.05, 2000}, {0.1, 2000}};
  const PostHoc mix = combine_averages(tracked, {0.1, 2000});
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(mix.shares[i], i == 3 ? 1 : 0, 1e-6) << i;
  EXPECT_LT(mix.misfit, 1e-6);
}

TEST(PostHoc, TheMisfitIsTheDistanceOfTheProfiles) {
  const std::vector<TrackedAverage> tracked = {{0.05, 600}, {0.1, 1000}};
  const TrackedAverage wanted{0.2, 1000};
  const PostHoc mix = combine_averages(tracked, wanted);
  const auto profile = [](const TrackedAverage& average, double x) {
    const double g = ema_exponent(average.width);
    const auto n = static_cast<double>(average.images);
    return x > n ? 0 : (g + 1) * std::pow(x / n, g) / n;
  };
  double off = 0, norm = 0;
  for (double x = 0.005; x < 1000; x += 0.01) {
    const double aim = profile(wanted, x);
    const double got =
        mix.shares[0] * profile(tracked[0], x) + mix.shares[1] * profile(tracked[1], x);
    off += (got - aim) * (got - aim);
    norm += aim * aim;
  }
  EXPECT_GT(mix.misfit, 0.05);
  EXPECT_NEAR(mix.misfit, std::sqrt(off / norm), 1e-4);
}

TEST(PostHoc, EqualOnesAmongTheTrackedDoNoHarm) {
  const std::vector<TrackedAverage> tracked = {{0.1, 1000}, {0.1, 1000}, {0.05, 1000}};
  const PostHoc mix = combine_averages(tracked, {0.1, 1000});
  EXPECT_NEAR(mix.shares[0] + mix.shares[1], 1, 1e-6);
  EXPECT_NEAR(mix.shares[2], 0, 1e-6);
}

}  // namespace
}  // namespace lf
