// Drawing by signed distance, for the generated sources. Uses only + - * / sqrt and a sine of its
// own, so an image has the same bits on every machine. Not a graphics library.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/random.h"

namespace lf {

struct Point {
  double x = 0, y = 0;
};

// Cosine and sine of an angle in turns, within 1e-11.
Point direction(double turns);

inline Point rotated(Point p, Point by) {
  return {p.x * by.x - p.y * by.y, p.x * by.y + p.y * by.x};
}
inline Point unrotated(Point p, Point by) {
  return {p.x * by.x + p.y * by.y, p.y * by.x - p.x * by.y};
}

// Signed distances, negative inside.
double distance_to_disc(Point p, Point centre, double radius);
double distance_to_box(Point p, double half_width, double half_height);
double distance_to_polygon(Point p, std::span<const Point> corners);
// Unsigned distance to the segment a-b.
double distance_to_segment(Point p, Point a, Point b);

// A smooth curve through the points (Catmull-Rom), as short segments' ends.
std::vector<Point> smooth_curve(std::span<const Point> through, int pieces_per_span);

struct Colour {
  double r = 0, g = 0, b = 0;  // 0..1
};
Colour from_hsv(double hue, double saturation, double value);  // hue in turns, wraps
inline double mixed(double a, double b, double share) { return a + (b - a) * share; }
inline Colour mixed(Colour a, Colour b, double share) {
  return {mixed(a.r, b.r, share), mixed(a.g, b.g, share), mixed(a.b, b.b, share)};
}

// The uniform draws of one stream, in order.
class UniformDraws {
 public:
  explicit UniformDraws(const Stream& stream) : stream_(stream) {}
  double next();  // [0, 1)
  double between(double low, double high) { return low + (high - low) * next(); }
  int below(int bound) { return static_cast<int>(next() * bound); }
  bool chance(double p) { return next() < p; }

 private:
  static constexpr size_t kAtOnce = 64;
  Stream stream_;
  uint64_t taken_ = 0;
  float values_[kAtOnce];
};

}  // namespace lf
