// The shape of a clip: T frames of H x W pixels with C channels; an image is a clip of one frame.
// Not a tensor's sizes, which may carry a batch.
#pragma once

#include <array>
#include <cstddef>

namespace lf {

struct ClipShape {
  int frames = 1, height = 0, width = 0, channels = 0;

  std::array<int, 4> sides() const { return {frames, height, width, channels}; }
  ClipShape image() const { return {1, height, width, channels}; }  // of one frame
  // Of a clip with one byte an element.
  size_t bytes() const {
    return static_cast<size_t>(frames) * static_cast<size_t>(height) * static_cast<size_t>(width) *
           static_cast<size_t>(channels);
  }
  bool operator==(const ClipShape&) const = default;
};

}  // namespace lf
