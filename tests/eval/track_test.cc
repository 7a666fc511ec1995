// Metrics of where something is, on balls whose places are known.
#include "eval/track.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <vector>

#include "eval/metrics.h"

namespace lf {
namespace {

// A square of `side` pixels whose upper left corner bounces on frames of 24x24.
at::Tensor bouncing(int64_t clips, int64_t frames, int64_t side, int64_t seed) {
  at::Tensor out = at::zeros({clips, frames, 24, 24, 1}, at::kByte);
  const int64_t range = 24 - side;
  const auto bounced = [&](int64_t at) {
    const int64_t around = at % (2 * range);
    return around > range ? 2 * range - around : around;
  };
  for (int64_t i = 0; i < clips; ++i) {
    for (int64_t t = 0; t < frames; ++t) {
      const int64_t x = bounced(7 * i + seed + t), y = bounced(5 * i + 3 * seed + 2 * t);
      out[i][t].slice(0, y, y + side).slice(1, x, x + side).fill_(255);
    }
  }
  return out;
}

at::Tensor tracked(const at::Tensor& clips) {
  return make_track_extractor(clips.size(1))->features(clips, {"track"})[0];
}

TEST(Track, IsTheCentreAndTheWeightOfWhatIsBright) {
  at::Tensor clips = at::zeros({1, 3, 24, 24, 1}, at::kByte);
  clips[0][0].slice(0, 4, 7).slice(1, 10, 13).fill_(255);  // 3x3 around (11, 5)
  clips[0][1].fill_(60);                                   // ground
  clips[0][2].slice(0, 23, 24).slice(1, 0, 1).fill_(255);
  const at::Tensor expected =
      at::tensor({11.0F, 5.0F, 9.0F, -1.0F, -1.0F, 0.0F, 0.0F, 23.0F, 1.0F}).unsqueeze(0);
  EXPECT_TRUE(at::allclose(tracked(clips), expected, 0, 1e-4));
}

TEST(Track, BothMetricsOfASetWithItselfAreZero) {
  const at::Tensor set = tracked(bouncing(9, 20, 5, 1));
  EXPECT_EQ(track_distance(set, set), 0);
  EXPECT_EQ(track_outliers(set, set), 0);
}

// A shift along one axis moves everything as far: half of it is the mean over both axes.
TEST(Track, DistanceOfAShiftIsTheShift) {
  const at::Tensor set = tracked(bouncing(9, 20, 5, 1));
  at::Tensor shifted = set.clone().reshape({9, 20, 3});
  shifted.select(2, 0).add_(1.5);
  EXPECT_NEAR(track_distance(set, shifted.flatten(1)), 0.75, 1e-6);
  // Sets of other sizes: each place twice is the same distribution.
  EXPECT_NEAR(track_distance(set, at::cat({set, set})), 0, 1e-9);
}

TEST(Track, OutliersAreLostBrokenOrElsewhere) {
  const at::Tensor real = bouncing(9, 20, 5, 1);
  at::Tensor made = real.clone();
  made[0][0].zero_();                                     // lost
  made[1][4].slice(0, 0, 12).slice(1, 0, 12).fill_(255);  // too large
  EXPECT_NEAR(track_outliers(tracked(real), tracked(made)), 100.0 * 2 / 180, 1e-9);
  const at::Tensor half = real.clone();
  half.slice(3, 0, 12).zero_();
  EXPECT_GT(track_outliers(tracked(real), tracked(half)), 30);
}

TEST(Track, MetricsAreInTheTable) {
  const auto extractor = make_track_extractor(20);
  const auto chosen = choose_metrics({"track_wasserstein", "track_outliers"}, extractor.get(), 20);
  EXPECT_EQ(chosen[0].layer, "track");
}

}  // namespace
}  // namespace lf
