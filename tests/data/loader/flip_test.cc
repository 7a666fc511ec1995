#include "data/loader/flip.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace lf {
namespace {

// Mirrors by the definition: pixel x goes to width - 1 - x.
std::vector<uint8_t> mirrored(const std::vector<uint8_t>& in, size_t rows, size_t width,
                              size_t pixel) {
  std::vector<uint8_t> out(in.size());
  for (size_t r = 0; r < rows; ++r) {
    for (size_t x = 0; x < width; ++x) {
      for (size_t b = 0; b < pixel; ++b) {
        out[(r * width + width - 1 - x) * pixel + b] = in[(r * width + x) * pixel + b];
      }
    }
  }
  return out;
}

TEST(Flip, MirrorsEveryWidthAndPixelSize) {
  for (const size_t pixel : {1, 2, 3, 4, 5, 6, 8, 12, 15, 16, 17, 64}) {
    for (size_t width = 0; width <= 70; ++width) {
      constexpr size_t kRows = 3, kGuard = 32;
      const size_t bytes = kRows * width * pixel;
      std::vector<uint8_t> in(bytes);
      for (size_t i = 0; i < bytes; ++i) in[i] = static_cast<uint8_t>(i * 131 + i / 251);
      // The bytes on both sides must stay as they are.
      std::vector<uint8_t> buffer(bytes + 2 * kGuard, 0xA5), portable = in;
      std::copy(in.begin(), in.end(), buffer.begin() + kGuard);
      flip_rows(buffer.data() + kGuard, kRows, width, pixel);
      flip_rows_portable(portable.data(), kRows, width, pixel);
      std::vector<uint8_t> expected(bytes + 2 * kGuard, 0xA5);
      const std::vector<uint8_t> middle = mirrored(in, kRows, width, pixel);
      std::copy(middle.begin(), middle.end(), expected.begin() + kGuard);
      ASSERT_EQ(buffer, expected) << width << " pixels of " << pixel << " bytes";
      ASSERT_EQ(portable, middle) << width << " pixels of " << pixel << " bytes";
    }
  }
}

TEST(Flip, LongRowsAreMirroredToo) {
  constexpr size_t kWidth = 20000;
  std::vector<uint8_t> in(2 * kWidth * 3);
  for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<uint8_t>(i * 7 + i / 256);
  std::vector<uint8_t> out = in;
  flip_rows(out.data(), 2, kWidth, 3);
  EXPECT_EQ(out, mirrored(in, 2, kWidth, 3));
}

}  // namespace
}  // namespace lf
