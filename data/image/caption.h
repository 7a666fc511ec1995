// Small words in pictures: a bitmap font of our own, 5 pixels wide and 9 high.
#pragma once

#include <string>

#include "data/image/image.h"

namespace lf {

// Height and width of a text whose lines end with '\n', each pixel of the font `scale` pixels.
ImageSize caption_size(const std::string& text, int scale);

// Writes the text into an image with its upper left corner at (top, left), in light grey; what lies
// outside is cut off. Capitals become small letters, unknown characters gaps.
void draw_caption(Image& image, const std::string& text, int top, int left, int scale);

}  // namespace lf
