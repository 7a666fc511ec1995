// Generated kind `shapes`: small RGB scenes with a textured background, often a smaller second
// shape, and one large shape in front whose class is the label. Hues, positions, sizes, rotations,
// fills, outlines and shadows vary: enough for a small classifier or autoencoder to learn. Every
// pixel is a function of (seed, index).
#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "data/image/drawing.h"
#include "data/sources/kinds.h"

namespace lf {
namespace {

constexpr std::array<const char*, 10> kClasses = {"disc", "square",   "triangle", "star", "cross",
                                                  "ring", "crescent", "heart",    "bar",  "arrow"};
enum Class { kDisc, kSquare, kTriangle, kStar, kCross, kRing, kCrescent, kHeart, kBar, kArrow };

constexpr double kRoot2 = 1.4142135623730951;
constexpr Point kTriangleCorners[] = {
    {0, -1}, {0.8660254037844386, 0.5}, {-0.8660254037844386, 0.5}};
constexpr Point kArrowCorners[] = {{1, 0},      {0.2, -0.75}, {0.2, -0.3}, {-0.9, -0.3},
                                   {-0.9, 0.3}, {0.2, 0.3},   {0.2, 0.75}};

std::array<Point, 10> star_corners() {
  std::array<Point, 10> corners;
  for (size_t i = 0; i < corners.size(); ++i) {
    const Point d = direction(static_cast<double>(i) / 10 - 0.25);
    const double radius = i % 2 == 0 ? 1.0 : 0.45;
    corners[i] = {radius * d.x, radius * d.y};
  }
  return corners;
}

// Signed distance to a shape of radius about 1 around the origin.
double distance_to(Class shape, Point p) {
  static const std::array<Point, 10> star = star_corners();
  switch (shape) {
    case kDisc:
      return distance_to_disc(p, {}, 0.88);
    case kSquare:
      return distance_to_box(p, 0.76, 0.76);
    case kTriangle:
      return distance_to_polygon(p, kTriangleCorners);
    case kStar:
      return distance_to_polygon(p, star);
    case kCross:
      return std::min(distance_to_box(p, 0.92, 0.3), distance_to_box(p, 0.3, 0.92));
    case kRing:
      return std::abs(distance_to_disc(p, {}, 0.68)) - 0.24;
    case kCrescent:
      return std::max(distance_to_disc(p, {}, 0.95), -distance_to_disc(p, {0.48, 0}, 0.72));
    case kHeart: {                      // a square on its corner, and discs on its two upper sides
      constexpr double kCorner = 0.66;  // distance of the square's corners
      const double square = (std::abs(p.x) + std::abs(p.y) - kCorner) / kRoot2;
      const Point side{p.x < 0 ? -kCorner / 2 : kCorner / 2, -kCorner / 2};
      return std::min(square, distance_to_disc(p, side, kCorner / kRoot2));
    }
    case kBar:
      return distance_to_box(p, 0.98, 0.27);
    case kArrow:
      return distance_to_polygon(p, kArrowCorners);
  }
  LF_CHECK(false, "no such shape");
}

// Two colours mixed by a pattern.
struct Texture {
  enum Kind { kSolid, kGradient, kStripes, kChecker, kGlow, kClouds } kind = kSolid;
  Colour first, second;
  Point axis, centre;
  double period = 1;
  std::array<double, 36> lattice{};  // clouds: values at the corners of 5 x 5 cells

  // `p` in [0, 1] across the image; `soft` is a pixel's width in these units.
  Colour at(Point p, double soft) const { return mixed(first, second, share(p, soft)); }

 private:
  // A square wave with edges one pixel wide, in [-1, 1].
  double wave(double along, double soft) const {
    const double phase = along / period - std::floor(along / period);
    const double to_edge = (0.25 - std::abs(phase - 0.5)) * period;
    return std::clamp(2 * to_edge / soft, -1.0, 1.0);
  }
  double cloud(Point p) const {
    const double x = std::clamp(p.x, 0.0, 0.999) * 5, y = std::clamp(p.y, 0.0, 0.999) * 5;
    const auto i = static_cast<size_t>(x), j = static_cast<size_t>(y);
    const double u = x - static_cast<double>(i), v = y - static_cast<double>(j);
    const double su = u * u * (3 - 2 * u), sv = v * v * (3 - 2 * v);
    const double* row = &lattice[j * 6 + i];
    return mixed(mixed(row[0], row[1], su), mixed(row[6], row[7], su), sv);
  }
  double share(Point p, double soft) const {
    const Point q = unrotated({p.x - centre.x, p.y - centre.y}, axis);
    switch (kind) {
      case kSolid:
        return 0;
      case kGradient:
        return std::clamp(0.5 + q.x, 0.0, 1.0);
      case kStripes:
        return 0.5 + 0.5 * wave(q.x, soft);
      case kChecker:
        return 0.5 + 0.5 * wave(q.x, soft) * wave(q.y, soft);
      case kGlow:
        return std::clamp(1.6 * std::sqrt(q.x * q.x + q.y * q.y), 0.0, 1.0);
      case kClouds:
        return cloud(p);
    }
    return 0;
  }
};

struct Shape {
  Class kind = kDisc;
  Point centre;  // in [0, 1] across the image
  double radius = 0, turns = 0;
  Point axis;
  Texture fill;
  bool has_outline = false;
  Colour outline;

  double distance(Point p) const {  // in image widths
    const double x = (p.x - centre.x) / radius, y = (p.y - centre.y) / radius;
    if (x * x + y * y > 4) return radius;  // far outside; near enough for coverage and shadow
    return distance_to(kind, unrotated({x, y}, axis)) * radius;
  }
};

struct Scene {
  Texture background;
  bool has_second = false;
  Shape second, main;
  Point shadow;  // offset
  double shadow_strength = 0;
};

Texture random_background(UniformDraws& u, double hue) {
  Texture texture;
  texture.kind = static_cast<Texture::Kind>(1 + u.below(5));
  const double value = u.between(0.35, 0.95), saturation = u.between(0.1, 0.55);
  texture.first = from_hsv(hue, saturation, value);
  const double other = value > 0.65 ? value - u.between(0.12, 0.3) : value + u.between(0.12, 0.3);
  texture.second = from_hsv(hue + u.between(-0.1, 0.1), u.between(0.1, 0.6), other);
  texture.axis = direction(u.next());
  texture.centre = {u.between(0.3, 0.7), u.between(0.3, 0.7)};
  texture.period = u.between(0.2, 0.5);
  for (double& corner : texture.lattice) corner = u.next();
  return texture;
}

// The hue keeps a distance from `background_hue`, so that the shape stands out.
Shape random_shape(UniformDraws& u, Class kind, double radius, double background_hue) {
  Shape shape;
  shape.kind = kind;
  shape.radius = radius;
  const double margin = radius * 0.92;
  shape.centre = {u.between(margin, 1 - margin), u.between(margin, 1 - margin)};
  shape.turns = u.next();
  shape.axis = direction(shape.turns);
  const double hue = background_hue + u.between(0.22, 0.78), value = u.between(0.65, 1.0);
  shape.fill.first = from_hsv(hue, u.between(0.65, 1.0), value);
  const double style = u.next();
  shape.fill.kind = style < 0.4    ? Texture::kSolid
                    : style < 0.75 ? Texture::kGradient
                                   : Texture::kStripes;
  const double second_value = shape.fill.kind == Texture::kStripes ? value * 0.62 : value * 0.5;
  shape.fill.second = from_hsv(hue + u.between(-0.12, 0.12), u.between(0.6, 1.0), second_value);
  shape.fill.axis = direction(u.next());
  shape.fill.centre = shape.centre;
  shape.fill.period = radius * u.between(0.5, 0.8);
  shape.has_outline = u.chance(0.4);
  shape.outline = u.chance(0.5) ? Colour{0.08, 0.08, 0.1} : Colour{0.97, 0.97, 0.95};
  return shape;
}

Scene random_scene(UniformDraws& u) {
  Scene scene;
  const double hue = u.next();
  const auto kind = static_cast<Class>(u.below(static_cast<int>(kClasses.size())));
  scene.background = random_background(u, hue);
  scene.main = random_shape(u, kind, u.between(0.26, 0.42), hue);
  scene.has_second = u.chance(0.6);
  const auto second = static_cast<Class>(u.below(static_cast<int>(kClasses.size())));
  scene.second = random_shape(u, second, u.between(0.11, 0.17), hue);
  if (u.chance(0.6)) scene.shadow_strength = u.between(0.3, 0.6);
  scene.shadow = {u.between(0.02, 0.07), u.between(0.02, 0.07)};
  return scene;
}

double coverage(double distance, double pixel) {
  return std::clamp(0.5 - distance / pixel, 0.0, 1.0);
}

Colour over(Colour below, const Shape& shape, Point p, double pixel) {
  const double distance = shape.distance(p);
  const double covered = coverage(distance, pixel);
  if (covered == 0) return below;
  Colour paint = shape.fill.at(p, pixel);
  if (shape.has_outline) {
    const double width = std::max(0.12 * shape.radius, 0.8 * pixel);
    paint = mixed(shape.outline, paint, coverage(distance + width, pixel));
  }
  return mixed(below, paint, covered);
}

Colour paint(const Scene& scene, Point p, double pixel) {
  Colour colour = scene.background.at(p, pixel);
  if (scene.has_second) colour = over(colour, scene.second, p, pixel);
  if (scene.shadow_strength > 0) {
    const Point from{p.x - scene.shadow.x, p.y - scene.shadow.y};
    const double dark = scene.shadow_strength * coverage(scene.main.distance(from), 4 * pixel);
    colour = mixed(colour, {}, dark);
  }
  return over(colour, scene.main, p, pixel);
}

uint8_t to_byte(double value) {
  return static_cast<uint8_t>(std::clamp(value, 0.0, 1.0) * 255 + 0.5);
}

class Shapes : public Source {
 public:
  explicit Shapes(const SourceConfig& config) : generated_(config.generated()), fit_(config) {
    if (fit_.has_crop()) {
      fail(Code::kUsage, "source.crop does not apply to drawn images; set source.size");
    }
    fit_.set_default_shape({1, 32, 32, 3});
    if (std::min(fit_.shape().height, fit_.shape().width) < 8) {
      fail(Code::kUsage, "source.size is ", fit_.shape().height, ", shapes need at least 8 pixels");
    }
  }

  ClipShape shape() const override { return fit_.shape(); }
  uint64_t size() const override { return static_cast<uint64_t>(generated_.count()); }
  std::string name_of(uint64_t index) const override { return str("shapes#", index); }
  std::vector<std::string> label_names() const override {
    return {kClasses.begin(), kClasses.end()};
  }
  std::vector<SideColumn> side_columns() const override {
    // Centre x and y and radius in pixels, rotation in turns, of the labelled shape.
    return {{SideColumn::Kind::kFloat, "object", 4}};
  }

  Sample load(uint64_t index) const override {
    LF_CHECK(index < size());
    UniformDraws u({.seed = generated_.seed(), .purpose = Purpose::kGenerated, .a = index});
    const Scene scene = random_scene(u);
    // The scene is a centred square as wide as the shorter side; the background fills the rest.
    const int height = fit_.shape().height, width = fit_.shape().width;
    const int side = std::min(height, width);
    const double pixel = 1.0 / side;
    const double left = (width - side) / 2.0, top = (height - side) / 2.0;
    Image image{height, width, 3, {}};
    for (int y = 0; y < image.height; ++y) {
      for (int x = 0; x < image.width; ++x) {
        const Colour c = paint(scene, {(x + 0.5 - left) * pixel, (y + 0.5 - top) * pixel}, pixel);
        for (const double value : {c.r, c.g, c.b}) image.pixels.push_back(to_byte(value));
      }
    }
    const Shape& main = scene.main;
    const std::vector<float> object = {static_cast<float>(main.centre.x * side + left),
                                       static_cast<float>(main.centre.y * side + top),
                                       static_cast<float>(main.radius * side),
                                       static_cast<float>(main.turns)};
    return {.pixels = with_channels(std::move(image), fit_.shape().channels).pixels,
            .label = main.kind,
            .name = name_of(index),
            .side = {SideValue{.ints = {}, .floats = object, .text = {}}}};
  }

 private:
  GeneratedSource generated_;
  Fit fit_;
};

}  // namespace

std::unique_ptr<Source> open_shapes(const SourceConfig& config) {
  return std::make_unique<Shapes>(config);
}

}  // namespace lf
