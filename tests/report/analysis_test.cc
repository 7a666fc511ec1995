#include "report/analysis.h"

#include <gtest/gtest.h>

#include <cmath>

namespace lf {
namespace {

TEST(Analysis, FrontierHoldsWhatNothingBeats) {
  const std::vector<CostPoint> points = {{3, 9}, {1, 5}, {2, 4}, {2, 7}, {4, 9}, {1, 6}, {2, NAN}};
  EXPECT_EQ(frontier(points, true), (std::vector<size_t>{5, 3, 0}));
  EXPECT_EQ(frontier(points, false), (std::vector<size_t>{1, 2}));
  EXPECT_TRUE(frontier({}, true).empty());
}

TEST(Analysis, KneeIsWhereGainsEnd) {
  const std::vector<CostPoint> bends = {{1, 20}, {2, 25}, {4, 29}, {8, 29.5}, {16, 29.8}, {32, 30}};
  EXPECT_EQ(knee(bends, true), 2U);
  std::vector<CostPoint> falls = bends;
  for (CostPoint& point : falls) point.value = -point.value;
  EXPECT_EQ(knee(falls, false), 2U);
  EXPECT_FALSE(knee(falls, true));                                        // it only gets worse
  EXPECT_FALSE(knee({{1, 1}, {2, 2}, {4, 3}, {8, 4}}, true));             // straight
  EXPECT_FALSE(knee({{1, 1}, {2, 5}, {4, 5}}, true));                     // too few
  EXPECT_FALSE(knee({{1, 1}, {2, 1}, {4, 1.2}, {8, 2}, {16, 8}}, true));  // gains come at the end
}

TEST(Analysis, CostToReachIsBetweenTwoMeasurements) {
  const std::vector<CostPoint> curve = {{10, 5}, {20, 3}, {40, 2}};
  EXPECT_EQ(cost_to_reach(curve, 4, false), 15);
  EXPECT_EQ(cost_to_reach(curve, 2, false), 40);
  EXPECT_EQ(cost_to_reach(curve, 6, false), 10);
  EXPECT_FALSE(cost_to_reach(curve, 1.9, false));
  EXPECT_FALSE(cost_to_reach({}, 1, false));
  EXPECT_EQ(value_at(curve, 30), 2.5);
  EXPECT_EQ(value_at(curve, 10), 5);
  EXPECT_FALSE(value_at(curve, 9));
  EXPECT_FALSE(value_at(curve, 41));
}

TEST(Analysis, SpreadIsTheSamplesDeviation) {
  const MeanSpread found = mean_spread({1, 2, 3, NAN});
  EXPECT_EQ(found.mean, 2);
  EXPECT_EQ(found.spread, 1);
  EXPECT_EQ(found.n, 3U);
  EXPECT_EQ(mean_spread({4}).spread, 0);
}

}  // namespace
}  // namespace lf
