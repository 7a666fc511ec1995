// Generated kind `moving-digits`: the Moving MNIST construction with drawn digits, or with digits
// from an IDX file. A clip is a function of (seed, index); its side columns hold the digits and
// their positions.
#include <algorithm>
#include <cmath>
#include <optional>

#include "base/error.h"
#include "data/formats/idx.h"
#include "data/sources/digit_strokes.h"
#include "data/sources/kinds.h"

namespace lf {
namespace {

constexpr int kStochasticSide = 32;  // that variant enlarges its digits
constexpr int kFullFrame = 36;       // the smallest frame for digits of their own size
constexpr double kSpeed = 0.1;       // share of the free range a standard digit moves per frame

// Standard motion along one axis, within [0, range]: reflected elastically at the walls.
struct Bouncing {
  double at = 0, speed = 0;
  void step(double range) {
    at += speed;
    if (at < 0) {
      at = -at;
      speed = -speed;
    } else if (at > range) {
      at = 2 * range - at;
      speed = -speed;
    }
  }
};

// Stochastic motion in whole pixels: a wall gives the digit a new random speed, pointing inwards.
struct Wandering {
  int x = 0, y = 0, dx = 0, dy = 0;
  void step(int range, UniformDraws& u) {
    x += dx;
    y += dy;
    const bool left = x<0, right = x> range, above = y<0, below = y> range;
    x = std::clamp(x, 0, range);
    y = std::clamp(y, 0, range);
    if (!left && !right && !above && !below) return;
    const auto inwards = [&](bool low, bool high) {
      if (low) return 1 + u.below(4);
      return high ? -1 - u.below(4) : u.below(9) - 4;
    };
    dx = inwards(left, right);
    dy = inwards(above, below);
  }
};

class MovingDigits : public Source {
 public:
  explicit MovingDigits(const SourceConfig& config) : generated_(config.generated()), fit_(config) {
    if (fit_.has_crop() || config.window().frames() != 0) {
      fail(Code::kUsage,
           "source.crop and source.window do not apply to moving-digits; set "
           "source.size and source.generated.frames");
    }
    fit_.set_default_shape({1, 64, 64, 1});
    shape_ = fit_.shape();
    shape_.frames = generated_.frames();
    if (shape_.height != shape_.width || shape_.height < 9) {
      fail(Code::kUsage, "moving-digits: frames of ", shape_.width, "x", shape_.height,
           " pixels, expected a square of at least 9; set source.size");
    }
    stochastic_ = generated_.motion() == GeneratedSource::STOCHASTIC;
    side_ = stochastic_ ? kStochasticSide : kDigitSide;
    if (shape_.height < kFullFrame) side_ = side_ * shape_.height / kFullFrame;
    if (!generated_.idx().empty()) open_idx_digits(generated_.idx());
  }

  ClipShape shape() const override { return shape_; }
  uint64_t size() const override { return static_cast<uint64_t>(generated_.count()); }
  std::string name_of(uint64_t index) const override { return str("moving-digits#", index); }

  std::vector<SideColumn> side_columns() const override {
    // positions: [frame, digit, (x, y)] of each digit's upper left corner; digits: -1 if unknown.
    return {{SideColumn::Kind::kFloat, "positions", shape_.frames * generated_.digits() * 2},
            {SideColumn::Kind::kInt64, "digits", generated_.digits()}};
  }

  Sample load(uint64_t index) const override {
    LF_CHECK(index < size());
    const size_t frame_pixels =
        static_cast<size_t>(shape_.height) * static_cast<size_t>(shape_.width);
    const size_t frames = static_cast<size_t>(shape_.frames);
    const size_t digits = static_cast<size_t>(generated_.digits());
    std::vector<uint8_t> canvas(frames * frame_pixels);
    SideValue positions, labels;
    positions.floats.resize(frames * digits * 2);
    for (size_t d = 0; d < digits; ++d) {
      UniformDraws u({.seed = generated_.seed(),
                      .purpose = Purpose::kGenerated,
                      .a = index,
                      .b = static_cast<uint32_t>(d)});
      int64_t label = -1;
      const Image digit = choose_digit(u, &label);
      labels.ints.push_back(label);
      const std::vector<Point> path = choose_path(u);
      for (size_t t = 0; t < frames; ++t) {
        paste(digit, path[t], canvas.data() + t * frame_pixels);
        positions.floats[(t * digits + d) * 2] = static_cast<float>(path[t].x);
        positions.floats[(t * digits + d) * 2 + 1] = static_cast<float>(path[t].y);
      }
    }
    Sample sample{.pixels = std::move(canvas),
                  .label = digits == 1 ? labels.ints[0] : -1,
                  .name = name_of(index),
                  .side = {}};
    sample.side = {std::move(positions), std::move(labels)};
    if (shape_.channels == 3) {
      Image all{shape_.height * shape_.frames, shape_.width, 1, std::move(sample.pixels)};
      sample.pixels = with_channels(std::move(all), 3).pixels;
    }
    return sample;
  }

 private:
  void open_idx_digits(const std::string& path) {
    images_.emplace(required_file(path, "source.generated.idx", "images"));
    const std::vector<uint64_t>& sizes = images_->header().sizes;
    if (sizes.size() != 3 || sizes[1] != kDigitSide || sizes[2] != kDigitSide) {
      fail(Code::kUsage, "source.generated.idx: ", images_->name(),
           " does not hold images of 28x28; expected MNIST's or another set of its shape");
    }
    const std::string labels = labels_beside(path);
    if (labels.empty()) return;
    labels_.emplace(labels);
    if (labels_->header().item_bytes != 1 ||
        labels_->header().items() != images_->header().items()) {
      fail(Code::kData, labels_->name(), " and ", images_->name(), " do not belong together");
    }
  }

  Image choose_digit(UniformDraws& u, int64_t* label) const {
    Image image;
    if (images_) {
      // Uniform within 2^-24, enough for millions of items.
      const auto items = static_cast<double>(images_->header().items());
      const auto item = static_cast<uint64_t>(u.next() * items);
      image = {kDigitSide, kDigitSide, 1, std::vector<uint8_t>(images_->header().item_bytes)};
      images_->read(item, image.pixels.data());
      uint8_t byte = 0;
      if (labels_) {
        labels_->read(item, &byte);
        *label = byte;
      }
    } else {
      *label = u.below(10);
      image = draw_digit(static_cast<int>(*label), u);
    }
    if (side_ == kDigitSide) return image;
    return resize(image, {0, 0, kDigitSide, kDigitSide}, side_, side_);
  }

  std::vector<Point> choose_path(UniformDraws& u) const {
    std::vector<Point> path;
    const int range = shape_.height - side_;
    if (stochastic_) {
      // The start is drawn below `range`, exclusive, as in the original.
      Wandering digit{u.below(range), u.below(range), u.below(9) - 4, u.below(9) - 4};
      for (int t = 0; t < shape_.frames; ++t) {
        if (t > 0) digit.step(range, u);
        path.push_back({static_cast<double>(digit.x), static_cast<double>(digit.y)});
      }
      return path;
    }
    Bouncing x{u.between(0, range), 0}, y{u.between(0, range), 0};
    const Point heading = direction(u.next());
    x.speed = kSpeed * range * heading.x;
    y.speed = kSpeed * range * heading.y;
    for (int t = 0; t < shape_.frames; ++t) {
      if (t > 0) {
        x.step(range);
        y.step(range);
      }
      path.push_back({x.at, y.at});
    }
    return path;
  }

  // Standard digits overlap by maximum, stochastic ones add up.
  void paste(const Image& digit, Point at, uint8_t* frame) const {
    const auto left = static_cast<int>(at.x + 0.5), top = static_cast<int>(at.y + 0.5);
    for (int y = 0; y < side_; ++y) {
      for (int x = 0; x < side_; ++x) {
        uint8_t& pixel = frame[(top + y) * shape_.width + left + x];
        const uint8_t ink = digit.pixels[static_cast<size_t>(y * side_ + x)];
        pixel =
            stochastic_ ? static_cast<uint8_t>(std::min(pixel + ink, 255)) : std::max(pixel, ink);
      }
    }
  }

  GeneratedSource generated_;
  Fit fit_;
  ClipShape shape_;
  bool stochastic_ = false;
  int side_ = kDigitSide;
  std::optional<IdxFile> images_, labels_;
};

}  // namespace

std::unique_ptr<Source> open_moving_digits(const SourceConfig& config) {
  return std::make_unique<MovingDigits>(config);
}

}  // namespace lf
