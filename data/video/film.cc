#include "data/video/film.h"

namespace lf {

bool is_film(const std::string& path) {
  return path.ends_with(".mp4") || path.ends_with(".gif") || path.ends_with(".webp");
}

std::string encode_moving(const std::string& path, std::span<const Image> frames,
                          int milliseconds_per_frame) {
  return is_film(path) ? encode_film(path, frames, milliseconds_per_frame)
                       : encode_animation(frames, milliseconds_per_frame);
}

}  // namespace lf
