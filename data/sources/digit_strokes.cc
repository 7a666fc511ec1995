#include "data/sources/digit_strokes.h"

#include <algorithm>

#include "base/error.h"

namespace lf {
namespace {

struct Stroke {
  bool smooth;
  std::vector<Point> points;  // in a unit box, y down
};
using Glyph = std::vector<Stroke>;

const std::vector<Glyph>& glyphs() {
  static const std::vector<Glyph> all = {
      {{true,
        {{.5, .04},
         {.22, .17},
         {.13, .5},
         {.22, .83},
         {.5, .96},
         {.78, .83},
         {.87, .5},
         {.78, .17},
         {.5, .04}}}},
      {{false, {{.28, .25}, {.55, .04}, {.55, .96}}}},
      {{true,
        {{.17, .27},
         {.3, .09},
         {.55, .04},
         {.78, .15},
         {.8, .36},
         {.6, .58},
         {.35, .77},
         {.15, .95}}},
       {false, {{.15, .95}, {.86, .95}}}},
      {{true, {{.2, .13}, {.48, .04}, {.77, .14}, {.75, .37}, {.42, .48}}},
       {true, {{.42, .48}, {.79, .57}, {.84, .8}, {.55, .96}, {.16, .86}}}},
      {{false, {{.62, .04}, {.1, .66}, {.9, .66}}}, {false, {{.67, .36}, {.67, .97}}}},
      {{false, {{.82, .05}, {.28, .05}, {.22, .45}}},
       {true, {{.22, .45}, {.5, .38}, {.8, .52}, {.82, .76}, {.55, .95}, {.17, .88}}}},
      {{true,
        {{.72, .05},
         {.42, .2},
         {.22, .48},
         {.19, .75},
         {.38, .94},
         {.65, .94},
         {.82, .76},
         {.74, .56},
         {.5, .5},
         {.25, .64}}}},
      {{false, {{.13, .06}, {.87, .06}, {.42, .96}}}},
      {{true,
        {{.5, .04},
         {.25, .12},
         {.25, .35},
         {.5, .48},
         {.79, .63},
         {.78, .86},
         {.5, .96},
         {.22, .86},
         {.21, .63},
         {.5, .48},
         {.75, .35},
         {.75, .12},
         {.5, .04}}}},
      {{true,
        {{.79, .3},
         {.67, .5},
         {.4, .53},
         {.2, .38},
         {.23, .15},
         {.5, .04},
         {.74, .12},
         {.8, .35},
         {.77, .7},
         {.6, .96}}}},
  };
  return all;
}

constexpr double kContent = 20;  // MNIST's digits fill 20 of the 28 pixels

// The strokes of a digit, each a polyline in pixels.
std::vector<std::vector<Point>> strokes_of(int digit, UniformDraws& u) {
  const double width = kContent * u.between(0.62, 0.9), height = kContent * u.between(0.88, 1.0);
  const double slant = u.between(-0.12, 0.28);
  const Point rotation = direction(u.between(-0.025, 0.025));
  std::vector<std::vector<Point>> lines;
  for (const Stroke& stroke : glyphs()[static_cast<size_t>(digit)]) {
    std::vector<Point> points;
    for (const Point& p : stroke.points) {
      const double x = p.x - 0.5 + u.between(-0.035, 0.035);
      const double y = p.y - 0.5 + u.between(-0.035, 0.035);
      points.push_back({x, y});
    }
    const Point& first = stroke.points.front();
    const Point& last = stroke.points.back();
    if (first.x == last.x && first.y == last.y) points.back() = points.front();  // stays closed
    for (Point& p : points) {
      const Point q = rotated({p.x * width - slant * p.y * height, p.y * height}, rotation);
      p = {q.x + kDigitSide / 2.0, q.y + kDigitSide / 2.0};
    }
    lines.push_back(stroke.smooth ? smooth_curve(points, 6) : points);
  }
  return lines;
}

}  // namespace

Image draw_digit(int digit, UniformDraws& u) {
  LF_CHECK(digit >= 0 && digit <= 9);
  const std::vector<std::vector<Point>> lines = strokes_of(digit, u);
  const double half_weight = u.between(0.95, 1.6);
  Image image{kDigitSide, kDigitSide, 1, {}};
  for (int y = 0; y < kDigitSide; ++y) {
    for (int x = 0; x < kDigitSide; ++x) {
      double nearest = 1e30;
      for (const std::vector<Point>& line : lines) {
        for (size_t i = 0; i + 1 < line.size(); ++i) {
          nearest =
              std::min(nearest, distance_to_segment({x + 0.5, y + 0.5}, line[i], line[i + 1]));
        }
      }
      const double ink = std::clamp(half_weight + 0.5 - nearest, 0.0, 1.0);
      image.pixels.push_back(static_cast<uint8_t>(ink * 255 + 0.5));
    }
  }
  return image;
}

}  // namespace lf
