#include "report/analysis.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace lf {
namespace {

bool is_finite(const CostPoint& p) { return std::isfinite(p.cost) && std::isfinite(p.value); }

}  // namespace

std::vector<size_t> frontier(const std::vector<CostPoint>& points, bool higher_is_better) {
  std::vector<size_t> order(points.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::erase_if(order, [&](size_t i) { return !is_finite(points[i]); });
  const auto better = [&](double a, double b) { return higher_is_better ? a > b : a < b; };
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    if (points[a].cost != points[b].cost) return points[a].cost < points[b].cost;
    return better(points[a].value, points[b].value);
  });
  std::vector<size_t> out;
  for (const size_t i : order) {
    if (out.empty() || better(points[i].value, points[out.back()].value)) out.push_back(i);
  }
  return out;
}

std::optional<size_t> knee(const std::vector<CostPoint>& curve, bool higher_is_better) {
  constexpr double kStraight = 0.1;  // of the scaled axis: no knee worth a name
  if (curve.size() < 4 || !std::all_of(curve.begin(), curve.end(), is_finite)) return std::nullopt;
  const double low = curve.front().cost, high = curve.back().cost;
  const double gain = curve.back().value - curve.front().value;
  if (low <= 0 || high <= low || (higher_is_better ? gain <= 0 : gain >= 0)) return std::nullopt;
  std::optional<size_t> best;
  double farthest = kStraight;
  for (size_t i = 1; i + 1 < curve.size(); ++i) {
    const double across = std::log(curve[i].cost / low) / std::log(high / low);
    const double up = (curve[i].value - curve.front().value) / gain;
    if (up - across > farthest) {
      farthest = up - across;
      best = i;
    }
  }
  return best;
}

std::optional<double> cost_to_reach(const std::vector<CostPoint>& curve, double target,
                                    bool higher_is_better) {
  const auto reached = [&](double value) {
    return higher_is_better ? value >= target : value <= target;
  };
  const CostPoint* before = nullptr;
  for (const CostPoint& point : curve) {
    if (!is_finite(point)) continue;
    if (reached(point.value)) {
      if (before == nullptr) return point.cost;
      const double share = (target - before->value) / (point.value - before->value);
      return before->cost + share * (point.cost - before->cost);
    }
    before = &point;
  }
  return std::nullopt;
}

std::optional<double> value_at(const std::vector<CostPoint>& curve, double cost) {
  const CostPoint* before = nullptr;
  for (const CostPoint& point : curve) {
    if (!is_finite(point)) continue;
    if (point.cost >= cost * (1 - 1e-12)) {
      if (before == nullptr) {
        if (point.cost > cost * (1 + 1e-12)) return std::nullopt;
        return point.value;
      }
      const double share = std::min(1.0, (cost - before->cost) / (point.cost - before->cost));
      return before->value + share * (point.value - before->value);
    }
    before = &point;
  }
  return std::nullopt;
}

MeanSpread mean_spread(const std::vector<double>& values) {
  MeanSpread out;
  double sum = 0, squares = 0;
  for (const double value : values) {
    if (!std::isfinite(value)) continue;
    sum += value;
    ++out.n;
  }
  if (out.n == 0) return out;
  out.mean = sum / static_cast<double>(out.n);
  for (const double value : values) {
    if (std::isfinite(value)) squares += (value - out.mean) * (value - out.mean);
  }
  if (out.n > 1) out.spread = std::sqrt(squares / static_cast<double>(out.n - 1));
  return out;
}

}  // namespace lf
