#include "data/image/caption.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "base/text.h"

namespace lf {
namespace {

constexpr int kGlyphWidth = 5, kGlyphHeight = 9, kLetterGap = 1;
constexpr uint8_t kInk = 225;

struct Glyph {
  char letter;
  std::array<uint8_t, kGlyphHeight> rows;  // the highest of five bits is the leftmost pixel
};

// The base line is row 6.
constexpr Glyph kGlyphs[] = {
    {'0', {14, 17, 19, 21, 25, 17, 14, 0, 0}}, {'1', {4, 12, 4, 4, 4, 4, 14, 0, 0}},
    {'2', {14, 17, 1, 6, 8, 16, 31, 0, 0}},    {'3', {14, 17, 1, 6, 1, 17, 14, 0, 0}},
    {'4', {2, 6, 10, 18, 31, 2, 2, 0, 0}},     {'5', {31, 16, 30, 1, 1, 17, 14, 0, 0}},
    {'6', {6, 8, 16, 30, 17, 17, 14, 0, 0}},   {'7', {31, 1, 2, 4, 8, 8, 8, 0, 0}},
    {'8', {14, 17, 17, 14, 17, 17, 14, 0, 0}}, {'9', {14, 17, 17, 15, 1, 2, 12, 0, 0}},
    {'a', {0, 0, 14, 1, 15, 17, 15, 0, 0}},    {'b', {16, 16, 30, 17, 17, 17, 30, 0, 0}},
    {'c', {0, 0, 14, 17, 16, 17, 14, 0, 0}},   {'d', {1, 1, 15, 17, 17, 17, 15, 0, 0}},
    {'e', {0, 0, 14, 17, 31, 16, 14, 0, 0}},   {'f', {6, 9, 8, 28, 8, 8, 8, 0, 0}},
    {'g', {0, 0, 15, 17, 17, 17, 15, 1, 14}},  {'h', {16, 16, 30, 17, 17, 17, 17, 0, 0}},
    {'i', {4, 0, 12, 4, 4, 4, 14, 0, 0}},      {'j', {2, 0, 6, 2, 2, 2, 2, 18, 12}},
    {'k', {16, 16, 18, 20, 24, 20, 18, 0, 0}}, {'l', {12, 4, 4, 4, 4, 4, 14, 0, 0}},
    {'m', {0, 0, 26, 21, 21, 21, 21, 0, 0}},   {'n', {0, 0, 30, 17, 17, 17, 17, 0, 0}},
    {'o', {0, 0, 14, 17, 17, 17, 14, 0, 0}},   {'p', {0, 0, 30, 17, 17, 17, 30, 16, 16}},
    {'q', {0, 0, 15, 17, 17, 17, 15, 1, 1}},   {'r', {0, 0, 22, 25, 16, 16, 16, 0, 0}},
    {'s', {0, 0, 15, 16, 14, 1, 30, 0, 0}},    {'t', {8, 8, 28, 8, 8, 9, 6, 0, 0}},
    {'u', {0, 0, 17, 17, 17, 19, 13, 0, 0}},   {'v', {0, 0, 17, 17, 17, 10, 4, 0, 0}},
    {'w', {0, 0, 17, 17, 21, 21, 10, 0, 0}},   {'x', {0, 0, 17, 10, 4, 10, 17, 0, 0}},
    {'y', {0, 0, 17, 17, 17, 17, 15, 1, 14}},  {'z', {0, 0, 31, 2, 4, 8, 31, 0, 0}},
    {'-', {0, 0, 0, 14, 0, 0, 0, 0, 0}},       {'.', {0, 0, 0, 0, 0, 0, 4, 0, 0}},
    {',', {0, 0, 0, 0, 0, 0, 4, 4, 8}},        {':', {0, 0, 0, 4, 0, 0, 4, 0, 0}},
    {'/', {1, 2, 2, 4, 8, 8, 16, 0, 0}},       {'%', {25, 25, 2, 4, 8, 19, 19, 0, 0}},
};

const Glyph* glyph_of(char letter) {
  const auto small = static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
  const auto* found = std::find_if(std::begin(kGlyphs), std::end(kGlyphs),
                                   [&](const Glyph& glyph) { return glyph.letter == small; });
  return found == std::end(kGlyphs) ? nullptr : found;
}

// A square of `side` pixels, cut off at the image's edges.
void draw_square(Image& image, int top, int left, int side) {
  for (int y = std::max(0, top); y < std::min(image.height, top + side); ++y) {
    for (int x = std::max(0, left); x < std::min(image.width, left + side); ++x) {
      const size_t at =
          static_cast<size_t>(y) * static_cast<size_t>(image.width) + static_cast<size_t>(x);
      std::fill_n(image.pixels.begin() + static_cast<ptrdiff_t>(at) * image.channels,
                  image.channels, kInk);
    }
  }
}

}  // namespace

ImageSize caption_size(const std::string& text, int scale) {
  if (text.empty()) return {};
  ImageSize size;
  for (const std::string& line : split(text, '\n')) {
    size.height += (kGlyphHeight + kLetterGap) * scale;
    const int width = static_cast<int>(line.size()) * (kGlyphWidth + kLetterGap) - kLetterGap;
    size.width = std::max(size.width, width * scale);
  }
  return size;
}

void draw_caption(Image& image, const std::string& text, int top, int left, int scale) {
  for (const std::string& line : split(text, '\n')) {
    int at = left;
    for (const char letter : line) {
      const Glyph* glyph = glyph_of(letter);
      for (int y = 0; glyph != nullptr && y < kGlyphHeight; ++y) {
        for (int x = 0; x < kGlyphWidth; ++x) {
          if ((glyph->rows[static_cast<size_t>(y)] >> (kGlyphWidth - 1 - x) & 1) == 0) continue;
          draw_square(image, top + y * scale, at + x * scale, scale);
        }
      }
      at += (kGlyphWidth + kLetterGap) * scale;
    }
    top += (kGlyphHeight + kLetterGap) * scale;
  }
}

}  // namespace lf
