#include "data/image/drawing.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace lf {
namespace {

constexpr double kTurn = 6.283185307179586476925;

// Taylor's series to x^17 for |x| <= pi / 2.
double sine(double x) {
  const double y = x * x;
  double sum = 1.0;
  for (int k = 8; k >= 1; --k) sum = 1.0 - y * sum / static_cast<double>(2 * k * (2 * k + 1));
  return x * sum;
}

double sine_of_turns(double turns) {
  double t = turns - std::floor(turns);             // [0, 1)
  t = t > 0.75 ? t - 1.0 : t > 0.25 ? 0.5 - t : t;  // [-1/4, 1/4]
  return sine(t * kTurn);
}

}  // namespace

Point direction(double turns) { return {sine_of_turns(turns + 0.25), sine_of_turns(turns)}; }

double distance_to_disc(Point p, Point centre, double radius) {
  const double x = p.x - centre.x, y = p.y - centre.y;
  return std::sqrt(x * x + y * y) - radius;
}

double distance_to_box(Point p, double half_width, double half_height) {
  const double x = std::abs(p.x) - half_width, y = std::abs(p.y) - half_height;
  const double out_x = std::max(x, 0.0), out_y = std::max(y, 0.0);
  return std::sqrt(out_x * out_x + out_y * out_y) + std::min(std::max(x, y), 0.0);
}

double distance_to_segment(Point p, Point a, Point b) {
  const double x = b.x - a.x, y = b.y - a.y, px = p.x - a.x, py = p.y - a.y;
  const double length = x * x + y * y;
  const double at = length > 0 ? std::clamp((px * x + py * y) / length, 0.0, 1.0) : 0.0;
  const double dx = px - at * x, dy = py - at * y;
  return std::sqrt(dx * dx + dy * dy);
}

double distance_to_polygon(Point p, std::span<const Point> corners) {
  double nearest = 1e30;
  bool inside = false;
  for (size_t i = 0, j = corners.size() - 1; i < corners.size(); j = i++) {
    const Point a = corners[j], b = corners[i];
    nearest = std::min(nearest, distance_to_segment(p, a, b));
    // A ray to the right crosses this edge.
    if ((a.y > p.y) != (b.y > p.y) && p.x < a.x + (b.x - a.x) * (p.y - a.y) / (b.y - a.y)) {
      inside = !inside;
    }
  }
  return inside ? -nearest : nearest;
}

std::vector<Point> smooth_curve(std::span<const Point> through, int pieces_per_span) {
  LF_CHECK(through.size() >= 2 && pieces_per_span >= 1);
  const size_t last = through.size() - 1;
  const bool closed = through[0].x == through[last].x && through[0].y == through[last].y;
  std::vector<Point> curve = {through[0]};
  for (size_t i = 0; i < last; ++i) {
    const Point before = i > 0 ? through[i - 1] : closed ? through[last - 1] : through[0];
    const Point a = through[i], b = through[i + 1];
    const Point after = i + 2 <= last ? through[i + 2] : closed ? through[1] : through[last];
    const auto at = [](double p0, double p1, double p2, double p3, double t) {
      return p1 +
             0.5 * t *
                 (p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0)));
    };
    for (int k = 1; k <= pieces_per_span; ++k) {
      const double t = static_cast<double>(k) / pieces_per_span;
      curve.push_back({at(before.x, a.x, b.x, after.x, t), at(before.y, a.y, b.y, after.y, t)});
    }
  }
  return curve;
}

Colour from_hsv(double hue, double saturation, double value) {
  const double h = 6 * (hue - std::floor(hue));
  const auto channel = [&](double offset) {
    double k = offset + h;
    if (k >= 6) k -= 6;
    const double ramp = std::clamp(std::min(k, 4 - k), 0.0, 1.0);
    return value - value * saturation * ramp;
  };
  return {channel(5), channel(3), channel(1)};
}

double UniformDraws::next() {
  if (taken_ % kAtOnce == 0) uniform(stream_, taken_, kAtOnce, values_);
  return values_[taken_++ % kAtOnce];
}

}  // namespace lf
