// Pictures for people: rows of images with captions, enlarged by whole factors. Of exact pixels
// there are arrays and single PNG files.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/image/image.h"

namespace lf {

struct GridCell {
  Image image;
  std::string above;      // its caption
  bool observed = false;  // framed in green: the model was given it
};
struct GridRow {
  std::string left;  // its caption
  std::vector<GridCell> cells;
};

// All images have one size. Each pixel becomes the smallest square with which an image's shorter
// side has 64 pixels; where a row is short there is background.
Image draw_grid(std::span<const GridRow> rows);

// Rows of a clip's frames, at most 16 each and equally many if they can be; above them, if
// `numbered` or if they are several rows, the frames' numbers. Where some are `observed` (rising
// numbers), those are marked so, and the others as made.
std::vector<GridRow> rows_of_clip(const std::string& left, std::vector<Image> frames, bool numbered,
                                  std::span<const int64_t> observed = {});

// Columns for so many images: about as many as rows, leaving the last row as full as can be.
int grid_columns(int images);

}  // namespace lf
