// Pictures with captions, pixel by pixel.
#include "data/image/grid.h"

#include <gtest/gtest.h>

#include <utility>

#include "data/image/caption.h"

namespace lf {
namespace {

// The pixels of a box of an RGB image.
Image part_of(const Image& image, int top, int left, int height, int width) {
  Image part{height, width, 3, {}};
  for (int y = top; y < top + height; ++y) {
    const auto row = image.pixels.begin() + (y * image.width + left) * 3;
    part.pixels.insert(part.pixels.end(), row, row + width * 3);
  }
  return part;
}

TEST(Grid, ImagesAreEnlargedByWholeFactorsUnderTheirNumbers) {
  std::vector<Image> frames;
  for (int t = 0; t < 3; ++t) {
    frames.push_back({20, 30, 1, std::vector<uint8_t>(600, static_cast<uint8_t>(10 * t))});
  }
  const Image grid = draw_grid(rows_of_clip("made", frames, true));
  const int gap = 4, words = caption_size("0", 1).height;
  const int first = gap + caption_size("made", 1).width + 2 * gap;
  EXPECT_EQ(grid.height, gap + words + 20 * 4 + gap);
  EXPECT_EQ(grid.width, first + 3 * (30 * 4 + gap));
  for (int t = 0; t < 3; ++t) {
    const int left = first + t * (120 + gap);
    const Image frame = part_of(grid, gap + words, left, 80, 120);
    EXPECT_EQ(frame.pixels,
              std::vector<uint8_t>(frame.pixels.size(), static_cast<uint8_t>(10 * t)));
    Image number{words, 5, 3, std::vector<uint8_t>(static_cast<size_t>(words) * 15, 48)};
    draw_caption(number, std::to_string(t), 0, 0, 1);
    EXPECT_EQ(part_of(grid, gap, left, words, 5), number);
  }
}

TEST(Grid, WhatIsShortIsBackgroundAndObservedImagesAreFramed) {
  const Image white{64, 64, 3, std::vector<uint8_t>(64 * 64 * 3, 255)};
  std::vector<GridRow> rows(2);
  rows[0].cells = {{white, "", true}, {white, "", false}};
  rows[1].cells = {{white, "", false}};
  const Image grid = draw_grid(rows);
  EXPECT_EQ(grid.height, 4 + 2 * 68);
  EXPECT_EQ(part_of(grid, 72, 72, 64, 64).pixels, std::vector<uint8_t>(64 * 64 * 3, 48));
  EXPECT_EQ(part_of(grid, 2, 10, 1, 1).pixels, (std::vector<uint8_t>{0, 200, 0}));
  EXPECT_EQ(part_of(grid, 2, 80, 1, 1).pixels, (std::vector<uint8_t>{48, 48, 48}));
}

TEST(Grid, ALongClipWrapsAndSaysWhichFramesItWasGiven) {
  const std::vector<Image> frames(40, Image{8, 8, 1, std::vector<uint8_t>(64)});
  const std::vector<GridRow> rows = rows_of_clip("clip 0", frames, false, std::vector<int64_t>{0});
  ASSERT_EQ(rows.size(), 3U);
  EXPECT_EQ(rows[0].cells.size(), 14U);
  EXPECT_EQ(rows[2].cells.size(), 12U);
  EXPECT_EQ(rows[0].left, "clip 0");
  EXPECT_EQ(rows[1].left, "");
  EXPECT_EQ(rows[0].cells[0].above, "0\nobserved");
  EXPECT_EQ(rows[1].cells[0].above, "14\nmade");
}

TEST(Grid, FewCellsStayEmpty) {
  const std::vector<std::pair<int, int>> expected = {{1, 1},  {2, 2},  {5, 5},  {7, 4},
                                                     {10, 5}, {13, 7}, {16, 4}, {64, 8}};
  for (const auto& [images, columns] : expected) EXPECT_EQ(grid_columns(images), columns) << images;
}

}  // namespace
}  // namespace lf
