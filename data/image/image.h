// Images in memory: decoding JPEG, PNG and WebP from untrusted bytes, encoding PNG and animated
// PNG. Every limit is checked before memory is allocated. Not a general image library: uint8 only,
// grey or RGB.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/clip_shape.h"

namespace lf {

struct Image {
  int height = 0, width = 0, channels = 0;  // channels: 1 grey, 3 RGB
  std::vector<uint8_t> pixels;              // [H, W, C]
  ClipShape shape() const { return {1, height, width, channels}; }
  bool operator==(const Image&) const = default;
};

struct ImageLimits {
  uint64_t pixels = 64'000'000;
  int side = 32768;
};

// The image in a JPEG, PNG or WebP file, grey if the file is grey and RGB otherwise:
//   JPEG  slow-integer DCT and fancy upsampling; CMYK and YCCK by (1-C)(1-K), Adobe's inverted
//         values too;
//   PNG   palettes and low depths expanded, 16 bits rounded to 8, alpha over white, gamma and
//         colour profiles ignored, of an animation the default image;
//   WebP  always RGB, alpha over white; no animations;
//   all   rotated upright by the EXIF orientation.
// Throws Code::kData with the reason for other formats, damaged and truncated files; `name` begins
// the message.
Image decode_image(std::span<const uint8_t> bytes, const ImageLimits& limits,
                   const std::string& name);

// Was this program built with libwebp? Without it, WebP is refused.
bool decodes_webp();

struct ImageSize {
  int height = 0, width = 0;
  auto operator<=>(const ImageSize&) const = default;
};
// The size of the upright image in such a file that begins with `bytes`, by its header;
// nothing if it is no such file or they end before the header does.
std::optional<ImageSize> size_in_header(std::span<const uint8_t> bytes);

// The EXIF orientation (1..8) in a TIFF block; 1 if it has none or is broken.
int exif_orientation(std::span<const uint8_t> tiff);
// Undoes that orientation by rotation and mirroring.
Image turn_upright(const Image& image, int orientation);

// Grey to RGB by copying, RGB to grey by ITU-R 601 weights in 16-bit fixed point.
Image with_channels(Image image, int channels);

std::string encode_png(const Image& image);
// An animated PNG that loops for ever; all frames must have one shape.
std::string encode_animation(std::span<const Image> frames, int milliseconds_per_frame);

// A black image of this shape.
Image black_image(const ClipShape& shape);
// The frames of a clip [T, H, W, C].
std::vector<Image> frames_of(std::span<const uint8_t> pixels, const ClipShape& shape);

}  // namespace lf
