// A picture as a video decoder leaves it, and its arithmetic to grey or RGB, specified to the bit:
// integers only, the same on every machine. Knows no decoder.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "data/image/image.h"

namespace lf {

// Samples of one component. More than 8 bits: two bytes, little-endian, the value above `shift`.
struct Plane {
  const uint8_t* data = nullptr;
  ptrdiff_t row = 0, step = 1;  // bytes to the next row and to the next sample
  int bits = 8, shift = 0;
};

// Weights of red and blue in luma, in ten-thousandths.
struct LumaWeights {
  int red, blue;
};
inline constexpr LumaWeights kBt601 = {2990, 1140}, kBt709 = {2126, 722}, kBt2020 = {2627, 593};
inline constexpr LumaWeights kFcc = {3000, 1100}, kSmpte240 = {2120, 870};

struct RawPicture {
  enum class Kind { kGrey, kRgb, kYuv };
  Kind kind = Kind::kRgb;
  int height = 0, width = 0;
  std::array<Plane, 4> planes;  // grey; R, G, B; Y, U, V. The fourth is alpha
  bool alpha = false;           // composed over white
  bool full_range = false;      // of grey and YUV: 0..255, else 16..235 and 16..240
  LumaWeights luma = kBt601;
  int halvings_y = 0, halvings_x = 0;  // of the chroma planes: 1 and 1 are 4:2:0
  // Chroma samples lie on the first luma sample of theirs, else in the middle of all of them.
  bool chroma_at_top = false, chroma_at_left = true;
};

// More than 8 bits are rounded to 8 first. Chroma is interpolated linearly in both directions
// between its two nearest samples, beyond the border the outermost. With V8 = V - 128, U8 = U - 128
// and coefficients rounded to 14 bits after the point
//   R = y (Y - y0) + r V8, G = y (Y - y0) - g U8 - h V8, B = y (Y - y0) + b U8
// is summed exactly, rounded half up and clamped.
Image to_image(const RawPicture& picture);

}  // namespace lf
