// The decoders behind decode_image(), and what they share. Internal to data/image.
#pragma once

#include <span>
#include <string>

#include "data/image/image.h"

namespace lf {

Image decode_jpeg(std::span<const uint8_t> bytes, const ImageLimits& limits,
                  const std::string& name);
Image decode_png(std::span<const uint8_t> bytes, const ImageLimits& limits,
                 const std::string& name);
Image decode_webp(std::span<const uint8_t> bytes, const ImageLimits& limits,
                  const std::string& name);
// As stored, before any turning; {0, 0} if the header is not in these bytes.
ImageSize webp_size(std::span<const uint8_t> bytes);

// Puts [.., C + 1] with straight alpha over white, in place: [.., C].
void over_white(std::vector<uint8_t>& pixels, size_t colours);

// Throws Code::kData if a size is over the limits, before anything of that size is allocated.
// `most_pixels` is the most that a file of this length can hold.
void check_dimensions(uint64_t height, uint64_t width, uint64_t most_pixels,
                      const ImageLimits& limits, const std::string& name);

// round(a * b / 255) for bytes.
inline uint8_t multiply_bytes(unsigned a, unsigned b) {
  return static_cast<uint8_t>((a * b + 127) / 255);
}

}  // namespace lf
