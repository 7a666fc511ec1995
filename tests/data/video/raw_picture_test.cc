// The arithmetic from a decoder's planes to RGB, against formulas in double precision.
#include "data/video/raw_picture.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace lf {
namespace {

struct Planes {
  std::array<std::vector<uint8_t>, 4> bytes;
  RawPicture picture;

  // Every value of a fixed sequence, in planes of a YUV picture.
  Planes(int height, int width, int halvings_y, int halvings_x) {
    picture.kind = RawPicture::Kind::kYuv;
    picture.height = height;
    picture.width = width;
    picture.halvings_y = halvings_y;
    picture.halvings_x = halvings_x;
    uint32_t state = 1;
    for (size_t c = 0; c < 4; ++c) {
      const bool chroma = c == 1 || c == 2;
      const int rows = chroma ? (height + (1 << halvings_y) - 1) >> halvings_y : height;
      const int columns = chroma ? (width + (1 << halvings_x) - 1) >> halvings_x : width;
      for (int i = 0; i < rows * columns; ++i) {
        state = state * 1664525 + 1013904223;
        bytes[c].push_back(static_cast<uint8_t>(state >> 24));
      }
      picture.planes[c] = {bytes[c].data(), columns, 1};
    }
  }

  // A chroma plane at a position of luma.
  double chroma(size_t c, int y, int x) const {
    const auto place = [](int at, int halvings, bool at_first, int count) {
      const int factor = 1 << halvings, samples = (count + factor - 1) >> halvings;
      const double middle = at_first ? 0 : (factor - 1) / 2.0;
      return std::clamp((at - middle) / factor, 0.0, samples - 1.0);
    };
    const double row = place(y, picture.halvings_y, picture.chroma_at_top, picture.height);
    const double column = place(x, picture.halvings_x, picture.chroma_at_left, picture.width);
    const auto at = [&](double r, double k) {
      const size_t place_of = static_cast<size_t>(r) * static_cast<size_t>(picture.planes[c].row) +
                              static_cast<size_t>(k);
      return static_cast<double>(bytes[c][place_of]);
    };
    const double r0 = std::floor(row), c0 = std::floor(column), fr = row - r0, fc = column - c0;
    const double r1 = std::ceil(row), c1 = std::ceil(column);
    return (1 - fr) * ((1 - fc) * at(r0, c0) + fc * at(r0, c1)) +
           fr * ((1 - fc) * at(r1, c0) + fc * at(r1, c1));
  }

  std::array<double, 3> rgb(int y, int x) const {
    const bool full = picture.full_range;
    const double scale = full ? 1 : 255.0 / 219, wide = full ? 1 : 255.0 / 224;
    const size_t i = static_cast<size_t>(y * picture.width + x);
    const double luma = (bytes[0][i] - (full ? 0 : 16)) * scale;
    const double u = (chroma(1, y, x) - 128) * wide, v = (chroma(2, y, x) - 128) * wide;
    const double red = picture.luma.red / 1e4, blue = picture.luma.blue / 1e4;
    const double r = luma + 2 * (1 - red) * v, b = luma + 2 * (1 - blue) * u;
    return {r, (luma - red * r - blue * b) / (1 - red - blue), b};
  }

  void check() const {
    const Image image = to_image(picture);
    for (int y = 0; y < picture.height; ++y) {
      for (int x = 0; x < picture.width; ++x) {
        const std::array<double, 3> expected = rgb(y, x);
        for (size_t c = 0; c < 3; ++c) {
          const size_t at = static_cast<size_t>(y * picture.width + x) * 3 + c;
          // Half a level by rounding, the rest by coefficients of 14 bits.
          ASSERT_NEAR(image.pixels[at], std::clamp(expected[c], 0.0, 255.0), 0.52)
              << y << " " << x << " " << c;
        }
      }
    }
  }
};

TEST(RawPicture, EveryMatrixAndRangeIsItsFormula) {
  for (const LumaWeights& luma : {kBt601, kBt709, kBt2020, kFcc, kSmpte240}) {
    for (const bool full : {false, true}) {
      Planes planes(40, 50, 0, 0);
      planes.picture.luma = luma;
      planes.picture.full_range = full;
      planes.check();
    }
  }
}

TEST(RawPicture, ChromaIsInterpolatedWhereItLies) {
  for (const auto& [rows, columns] : {std::pair{0, 1}, {1, 1}, {0, 2}, {2, 2}}) {
    for (const int where : {0, 1, 2, 3}) {
      Planes planes(13, 17, rows, columns);
      planes.picture.chroma_at_left = where % 2 == 0;
      planes.picture.chroma_at_top = where >= 2;
      planes.check();
    }
  }
}

TEST(RawPicture, BitsBeyondEightAreRoundedAndAlphaLiesOverWhite) {
  // 10 bits in the upper ones of 16, as P010 has them; 1023 is 255, not 256.
  const std::vector<uint16_t> ten = {0, 1 << 6, 2 << 6, 513 << 6, 514 << 6, 1023 << 6};
  RawPicture grey{.kind = RawPicture::Kind::kGrey, .height = 1, .width = 6, .planes = {}};
  grey.full_range = true;
  grey.planes[0] = {reinterpret_cast<const uint8_t*>(ten.data()), 12, 2, 10, 6};
  EXPECT_EQ(to_image(grey).pixels, (std::vector<uint8_t>{0, 0, 1, 128, 129, 255}));
  const std::vector<uint8_t> bgra = {10, 20, 30, 255, 10, 20, 30, 0, 10, 20, 30, 128};
  RawPicture colour{.height = 1, .width = 3, .planes = {}, .alpha = true};
  for (size_t c = 0; c < 3; ++c) colour.planes[c] = {bgra.data() + 2 - c, 12, 4};
  colour.planes[3] = {bgra.data() + 3, 12, 4};
  EXPECT_EQ(to_image(colour).pixels,
            (std::vector<uint8_t>{30, 20, 10, 255, 255, 255, 142, 137, 132}));
}

}  // namespace
}  // namespace lf
