// Hand-written-looking digits drawn from strokes, 28x28 grey as MNIST's, so that examples and tests
// need no download. Called by source_digits.
#pragma once

#include "data/image/drawing.h"
#include "data/image/image.h"

namespace lf {

inline constexpr int kDigitSide = 28;

// A digit 0..9; slant, width, weight and every stroke's points vary with the dice.
Image draw_digit(int digit, Dice& dice);

}  // namespace lf
