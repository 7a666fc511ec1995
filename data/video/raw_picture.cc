#include "data/video/raw_picture.h"

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "base/isa.h"

namespace lf {
namespace {

constexpr int kFraction = 14;  // bits of a coefficient's fraction
constexpr int kEighths = 8;    // weights of chroma in one direction
constexpr int kInterpolated = kEighths * kEighths;

// Rows have room for whole vectors, so that no loop ends in single values.
constexpr size_t whole_vectors(size_t width) { return (width + 63) / 64 * 64; }

// Row `y` of a plane, rounded to 8 bits.
LF_INLINE void read_row(const Plane& plane, int y, size_t width, int16_t* out) {
  const uint8_t* in = plane.data + y * plane.row;
  if (plane.bits == 8 && plane.step == 1) {
    for (size_t x = 0; x < width; ++x) out[x] = in[x];
    return;
  }
  if (plane.bits == 8) {
    for (size_t x = 0; x < width; ++x, in += plane.step) out[x] = *in;
    return;
  }
  const int surplus = plane.bits - 8, half = 1 << (surplus - 1), most = (1 << plane.bits) - 1;
  for (size_t x = 0; x < width; ++x, in += plane.step) {
    const int value = ((in[0] | in[1] << 8) >> plane.shift) & most;
    out[x] = static_cast<int16_t>(std::min((value + half) >> surplus, 255));
  }
}

// Where a position of luma lies between two chroma samples: of position i * factor + phase, at
// (8 - weight) / 8 of sample i + offset and weight / 8 of the one after it.
struct Phase {
  int offset, weight;
};

std::vector<Phase> phases_of(int halvings, bool at_first) {
  const int factor = 1 << halvings, unit = kEighths / factor;  // factor is 1, 2 or 4
  std::vector<Phase> phases;
  for (int phase = 0; phase < factor; ++phase) {
    const int at = at_first ? phase * unit : (2 * phase + 1 - factor) * unit / 2;  // in eighths
    const int offset = at < 0 ? -1 : 0;
    phases.push_back({offset, at - offset * kEighths});
  }
  return phases;
}

// One chroma plane at the luma's positions, times kInterpolated: at most 255 * 64, of 16 bits.
class Chroma {
 public:
  Chroma(const RawPicture& picture, const Plane& plane)
      : plane_(plane),
        rows_(phases_of(picture.halvings_y, picture.chroma_at_top)),
        columns_(phases_of(picture.halvings_x, picture.chroma_at_left)),
        halvings_y_(picture.halvings_y),
        last_row_(((picture.height - 1) >> picture.halvings_y)),
        width_(static_cast<size_t>((picture.width - 1) >> picture.halvings_x) + 1),
        whole_(whole_vectors(width_)),
        above_(whole_),
        below_(whole_),
        mixed_(whole_ + 2) {}

  // `out` has room for positions() values.
  LF_INLINE void row(int y, int16_t* out) {
    const Phase down = rows_[static_cast<size_t>(y & ((1 << halvings_y_) - 1))];
    const int sample = (y >> halvings_y_) + down.offset;
    read(std::max(sample, 0), above_, &above_row_);
    read(std::min(sample + 1, last_row_), below_, &below_row_);
    int16_t* mixed = mixed_.data() + 1;
    mix(above_.data(), below_.data(), down.weight, mixed);
    mixed[-1] = mixed[0];
    mixed[width_] = mixed[width_ - 1];
    switch (columns_.size()) {  // constants, with which the loop vectorises
      case 1:
        return interpolate<1>(mixed, out);
      case 2:
        return interpolate<2>(mixed, out);
      default:
        return interpolate<4>(mixed, out);
    }
  }
  size_t positions() const { return whole_ * columns_.size(); }

 private:
  LF_INLINE void mix(const int16_t* a, const int16_t* b, int weight, int16_t* out) const {
    for (size_t x = 0; x < whole_; ++x) {
      out[x] = static_cast<int16_t>((kEighths - weight) * a[x] + weight * b[x]);
    }
  }

  template <size_t kFactor>
  LF_INLINE void interpolate(const int16_t* mixed, int16_t* out) const {
    std::array<Phase, kFactor> phases;
    std::copy_n(columns_.begin(), kFactor, phases.begin());
    for (size_t x = 0; x < whole_; ++x) {
      for (size_t phase = 0; phase < kFactor; ++phase) {
        const int16_t* at = mixed + static_cast<ptrdiff_t>(x) + phases[phase].offset;
        const int weight = phases[phase].weight;
        out[x * kFactor + phase] =
            static_cast<int16_t>((kEighths - weight) * at[0] + weight * at[1]);
      }
    }
  }

  LF_INLINE void read(int row, std::vector<int16_t>& into, int* held) {
    if (*held == row) return;
    read_row(plane_, row, width_, into.data());
    *held = row;
  }

  const Plane& plane_;
  std::vector<Phase> rows_, columns_;
  int halvings_y_, last_row_;
  size_t width_, whole_;
  std::vector<int16_t> above_, below_, mixed_;
  int above_row_ = -1, below_row_ = -1;
};

struct Coefficients {
  int32_t y, r_v, g_u, g_v, b_u, luma_zero;

  explicit Coefficients(const RawPicture& picture) {
    const int64_t red = picture.luma.red, blue = picture.luma.blue, green = 10000 - red - blue;
    const int64_t luma = picture.full_range ? 255 : 219, chroma = picture.full_range ? 255 : 224;
    luma_zero = picture.full_range ? 0 : 16;
    const auto rounded = [](int64_t numerator, int64_t denominator) {
      return static_cast<int32_t>(((numerator << (kFraction + 1)) + denominator) /
                                  (2 * denominator));
    };
    y = rounded(255, luma);
    r_v = rounded(2 * (10000 - red) * 255, 10000 * chroma);
    b_u = rounded(2 * (10000 - blue) * 255, 10000 * chroma);
    g_u = rounded(2 * blue * (10000 - blue) * 255, 10000 * green * chroma);
    g_v = rounded(2 * red * (10000 - red) * 255, 10000 * green * chroma);
  }
};

LF_INLINE uint8_t rounded_byte(int32_t sum, int fraction) {
  return static_cast<uint8_t>(std::clamp((sum + (1 << (fraction - 1))) >> fraction, 0, 255));
}

LF_INLINE void convert_row(const Coefficients& k, const int16_t* luma, const int16_t* u,
                           const int16_t* v, size_t width, uint8_t* out) {
  constexpr int kBits = kFraction + 6;  // kInterpolated is 2^6
  constexpr int32_t kZero = 128 * kInterpolated;
  for (size_t x = 0; x < width; ++x) {
    const int32_t grey = k.y * kInterpolated * (luma[x] - k.luma_zero);
    const int32_t u8 = u[x] - kZero, v8 = v[x] - kZero;
    out[3 * x] = rounded_byte(grey + k.r_v * v8, kBits);
    out[3 * x + 1] = rounded_byte(grey - k.g_u * u8 - k.g_v * v8, kBits);
    out[3 * x + 2] = rounded_byte(grey + k.b_u * u8, kBits);
  }
}

struct ConvertYuv {
  LF_INLINE static void run(const RawPicture* picture, uint8_t* out) {
    const Coefficients k(*picture);
    const auto width = static_cast<size_t>(picture->width), whole = whole_vectors(width);
    Chroma u_plane(*picture, picture->planes[1]), v_plane(*picture, picture->planes[2]);
    std::vector<int16_t> luma(whole), u(u_plane.positions()), v(v_plane.positions());
    std::vector<uint8_t> line(3 * whole);
    for (int row = 0; row < picture->height; ++row, out += 3 * width) {
      read_row(picture->planes[0], row, width, luma.data());
      u_plane.row(row, u.data());
      v_plane.row(row, v.data());
      convert_row(k, luma.data(), u.data(), v.data(), whole, line.data());
      std::copy_n(line.data(), 3 * width, out);
    }
  }
};

void copy_components(const RawPicture& picture, Image& image) {
  const auto width = static_cast<size_t>(picture.width);
  const auto channels = static_cast<size_t>(image.channels);
  const Coefficients k(picture);
  const bool limited = picture.kind == RawPicture::Kind::kGrey && !picture.full_range;
  std::vector<int16_t> line(width);
  for (int row = 0; row < picture.height; ++row) {
    uint8_t* out = &image.pixels[static_cast<size_t>(row) * width * channels];
    for (size_t c = 0; c < channels; ++c) {
      read_row(picture.planes[c], row, width, line.data());
      for (size_t x = 0; x < width; ++x) {
        out[x * channels + c] = limited ? rounded_byte(k.y * (line[x] - k.luma_zero), kFraction)
                                        : static_cast<uint8_t>(line[x]);
      }
    }
  }
}

void compose_over_white(const RawPicture& picture, Image& image) {
  const auto width = static_cast<size_t>(picture.width);
  const auto channels = static_cast<size_t>(image.channels);
  std::vector<int16_t> alpha(width);
  uint8_t* out = image.pixels.data();
  for (int row = 0; row < picture.height; ++row) {
    read_row(picture.planes[3], row, width, alpha.data());
    for (size_t x = 0; x < width; ++x) {
      const auto a = static_cast<unsigned>(alpha[x]);
      for (size_t c = 0; c < channels; ++c, ++out) {
        *out = static_cast<uint8_t>((*out * a + 255 * (255 - a) + 127) / 255);  // as PNG's
      }
    }
  }
}

}  // namespace

Image to_image(const RawPicture& picture) {
  LF_CHECK(picture.height > 0 && picture.width > 0 && picture.halvings_x >= 0 &&
           picture.halvings_x <= 2 && picture.halvings_y >= 0 && picture.halvings_y <= 2);
  Image image{picture.height, picture.width, picture.kind == RawPicture::Kind::kGrey ? 1 : 3, {}};
  image.pixels.resize(image.shape().bytes());
  if (picture.kind == RawPicture::Kind::kYuv) {
    run_kernel<ConvertYuv>(&picture, image.pixels.data());
  } else {
    copy_components(picture, image);
  }
  if (picture.alpha) compose_over_white(picture, image);
  return image;
}

}  // namespace lf
