// What plots of quality against cost are read for: the frontier, the knee, and the cost at which a
// curve reaches a target. Pure functions.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

namespace lf {

struct CostPoint {
  double cost = 0, value = 0;
};

// Indices of the points that no other beats, by lower or equal cost and a better or equal value,
// in the order of cost. Points that are not finite are beaten.
std::vector<size_t> frontier(const std::vector<CostPoint>& points, bool higher_is_better);

// The point of a curve with rising cost behind which a step gains much less than before it: the
// farthest above the line from the first point to the last, both axes scaled to 1 and the cost's
// logarithmic. Nothing of fewer than four points, of a curve that gets worse, or of one that is
// nearly straight.
std::optional<size_t> knee(const std::vector<CostPoint>& curve, bool higher_is_better);

// The cost at which the curve first is as good as `target`, between its points by a straight line;
// nothing if it never is. A curve that begins that good: the cost of its first point.
std::optional<double> cost_to_reach(const std::vector<CostPoint>& curve, double target,
                                    bool higher_is_better);

// Its value at a cost between its first and its last; nothing outside.
std::optional<double> value_at(const std::vector<CostPoint>& curve, double cost);

struct MeanSpread {
  double mean = 0, spread = 0;  // the sample's standard deviation; 0 of one value
  size_t n = 0;
};
// Of the finite ones.
MeanSpread mean_spread(const std::vector<double>& values);

}  // namespace lf
