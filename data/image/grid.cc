#include "data/image/grid.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "data/image/caption.h"

namespace lf {
namespace {

constexpr int kShortestSide = 64;  // of an image in a grid
constexpr int kGap = 4, kFrame = 2;
constexpr uint8_t kBackground = 48;  // neither black images nor white ones run into it
constexpr std::array<uint8_t, 3> kGreen = {0, 200, 0};

// Where everything of a grid stands.
struct GridPlan {
  int zoom = 1, letters = 1;  // pixels of a pixel, of an image's and of a letter's
  int left = 0;               // of the first column
  std::vector<int> tops;      // of the rows' images
  Image sheet;
};

void fill_box(Image& sheet, int top, int left, int height, int width,
              const std::array<uint8_t, 3>& colour) {
  for (int y = top; y < top + height; ++y) {
    for (int x = left; x < left + width; ++x) {
      const size_t at =
          (static_cast<size_t>(y) * static_cast<size_t>(sheet.width) + static_cast<size_t>(x)) * 3;
      std::copy(colour.begin(), colour.end(), sheet.pixels.begin() + static_cast<ptrdiff_t>(at));
    }
  }
}

GridPlan grid_plan(std::span<const GridRow> rows, const ImageSize& image) {
  GridPlan plan;
  const int shorter = std::min(image.height, image.width);
  plan.zoom = (kShortestSide + shorter - 1) / shorter;
  plan.letters = shorter * plan.zoom / kShortestSide;
  size_t columns = 0;
  int captions = 0;
  for (const GridRow& row : rows) {
    columns = std::max(columns, row.cells.size());
    captions = std::max(captions, caption_size(row.left, plan.letters).width);
  }
  plan.left = kGap + (captions > 0 ? captions + 2 * kGap : 0);
  int top = kGap;
  for (const GridRow& row : rows) {
    int above = 0;
    for (const GridCell& cell : row.cells) {
      above = std::max(above, caption_size(cell.above, plan.letters).height);
    }
    plan.tops.push_back(top + above);
    top += above + image.height * plan.zoom + kGap;
  }
  plan.sheet = {
      top, plan.left + static_cast<int>(columns) * (image.width * plan.zoom + kGap), 3, {}};
  plan.sheet.pixels.assign(plan.sheet.shape().bytes(), kBackground);
  return plan;
}

void draw_image(Image& sheet, const Image& image, int top, int left, int zoom) {
  for (int y = 0; y < image.height; ++y) {
    for (int x = 0; x < image.width; ++x) {
      const uint8_t* from =
          &image.pixels[static_cast<size_t>((y * image.width + x) * image.channels)];
      const bool grey = image.channels == 1;
      fill_box(sheet, top + y * zoom, left + x * zoom, zoom, zoom,
               {from[0], from[grey ? 0 : 1], from[grey ? 0 : 2]});
    }
  }
}

}  // namespace

Image draw_grid(std::span<const GridRow> rows) {
  LF_CHECK(!rows.empty() && !rows.front().cells.empty());
  const Image& first = rows.front().cells.front().image;
  GridPlan plan = grid_plan(rows, {first.height, first.width});
  const int height = first.height * plan.zoom, width = first.width * plan.zoom;
  for (size_t r = 0; r < rows.size(); ++r) {
    const int top = plan.tops[r];
    const ImageSize words = caption_size(rows[r].left, plan.letters);
    draw_caption(plan.sheet, rows[r].left, top + (height - words.height) / 2, kGap, plan.letters);
    int left = plan.left;
    for (const GridCell& cell : rows[r].cells) {
      LF_CHECK(cell.image.height == first.height && cell.image.width == first.width);
      const ImageSize above = caption_size(cell.above, plan.letters);
      draw_caption(plan.sheet, cell.above, top - above.height, left, plan.letters);
      if (cell.observed) {
        fill_box(plan.sheet, top - kFrame, left - kFrame, height + 2 * kFrame, width + 2 * kFrame,
                 kGreen);
      }
      draw_image(plan.sheet, cell.image, top, left, plan.zoom);
      left += width + kGap;
    }
  }
  return std::move(plan.sheet);
}

std::vector<GridRow> rows_of_clip(const std::string& left, std::vector<Image> frames, bool numbered,
                                  std::span<const int64_t> observed) {
  constexpr size_t kMostInARow = 16;  // viewers reject very wide pictures
  const size_t count = (frames.size() + kMostInARow - 1) / kMostInARow;
  const size_t in_row = (frames.size() + count - 1) / count;
  std::vector<GridRow> rows(count);
  for (size_t t = 0; t < frames.size(); ++t) {
    GridCell cell{std::move(frames[t]), "", false};
    cell.observed = std::binary_search(observed.begin(), observed.end(), static_cast<int64_t>(t));
    if (numbered || count > 1) {
      cell.above = std::to_string(t);
      if (!observed.empty()) cell.above += cell.observed ? "\nobserved" : "\nmade";
    }
    rows[t / in_row].cells.push_back(std::move(cell));
  }
  rows.front().left = left;
  return rows;
}

int grid_columns(int images) {
  const double root = std::sqrt(static_cast<double>(images));
  int best = 1, best_empty = images;
  for (int columns = std::max(1, static_cast<int>(std::ceil(root)));
       columns <= static_cast<int>(std::ceil(2 * root)); ++columns) {
    const int empty = (columns - images % columns) % columns;
    if (empty < best_empty) best = columns, best_empty = empty;
  }
  return best;
}

}  // namespace lf
