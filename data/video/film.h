// Films for people: a few frames as .mp4 (H.264, 4:2:0), .gif (at most 256 colours) or .webp
// (lossless); the last two repeat for ever.
#pragma once

#include <span>
#include <string>

#include "data/image/image.h"

namespace lf {

bool is_film(const std::string& path);

// Throws Code::kUsage if PATH names a film and this program cannot write it.
void check_film(const std::string& path);

// The bytes of such a film of frames of one shape.
std::string encode_film(const std::string& path, std::span<const Image> frames,
                        int milliseconds_per_frame);

// The same, or an animated PNG where the name is not a film's.
std::string encode_moving(const std::string& path, std::span<const Image> frames,
                          int milliseconds_per_frame);

}  // namespace lf
