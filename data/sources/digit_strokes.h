// Digits that look handwritten, drawn from strokes, 28x28 grey like MNIST's, so that examples and
// tests need no download.
#pragma once

#include "data/image/drawing.h"
#include "data/image/image.h"

namespace lf {

inline constexpr int kDigitSide = 28;

// Draws a digit 0..9 with random slant, width, weight and stroke points.
Image draw_digit(int digit, UniformDraws& u);

}  // namespace lf
