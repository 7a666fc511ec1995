#include "train/preview.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/stack.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include "base/file.h"
#include "data/image/image.h"
#include "run/clips.h"

namespace lf {
namespace {

constexpr int64_t kFramesInRow = 8;

std::vector<Image> as_images(const at::Tensor& x_THWC) {
  const at::Tensor bytes = bytes_of(x_THWC);
  const ClipShape shape{static_cast<int>(bytes.size(0)), static_cast<int>(bytes.size(1)),
                        static_cast<int>(bytes.size(2)), static_cast<int>(bytes.size(3))};
  return frames_of({bytes.const_data_ptr<uint8_t>(), static_cast<size_t>(bytes.numel())}, shape);
}

Image blank_like(const Image& image) {
  return {image.height, image.width, image.channels,
          std::vector<uint8_t>(image.pixels.size(), 255)};
}

}  // namespace

Preview make_preview(Model& model, const Store& store, int clips, at::Device device) {
  // The first of the store, whatever the run's order.
  const auto count =
      static_cast<int64_t>(std::min<uint64_t>(static_cast<uint64_t>(clips), store.clips()));
  const Clips given = clips_in_order(store, 0, count, device);
  const at::Tensor made = model.preview(given);
  const int64_t frames = made.size(1);
  const int zoom = made.size(2) <= 64 ? 2 : 1;
  // Clips of few frames stand side by side, those of one frame eight a row.
  const int64_t side_by_side = std::max<int64_t>(1, kFramesInRow / frames);
  std::vector<Image> cells;
  for (int64_t first = 0; first < made.size(0); first += side_by_side) {
    for (const at::Tensor& clips : {given.x_BTHWC, made}) {
      for (Image& frame : as_images(clips.slice(0, first, first + side_by_side).flatten(0, 1)))
        cells.push_back(std::move(frame));
      // Where the last row has fewer clips, so that given ones stay above made ones.
      const size_t row = static_cast<size_t>(side_by_side * frames);
      if (made.size(0) > side_by_side) {
        while (cells.size() % row != 0) cells.push_back(blank_like(cells.front()));
      }
    }
  }
  const int columns = static_cast<int>(std::min(side_by_side, made.size(0)) * frames);
  const Image grid = contact_sheet(cells, columns, zoom);
  std::vector<Image> animation;  // frame t of all clips side by side, given above made
  for (int64_t t = 0; t < frames; ++t) {
    std::vector<Image> both = as_images(given.x_BTHWC.select(1, t));
    for (Image& frame : as_images(made.select(1, t))) both.push_back(std::move(frame));
    animation.push_back(contact_sheet(both, static_cast<int>(made.size(0)), zoom));
  }
  return {encode_png(grid), encode_animation(animation, 150), grid.height, grid.width};
}

void write_preview(const Preview& preview, const std::string& run_folder, int64_t images) {
  FileSystem& files = real_file_system();
  files.make_folders(run_folder + "/samples");
  std::array<char, 40> name{};
  std::snprintf(name.data(), name.size(), "/samples/img-%012lld", static_cast<long long>(images));
  const std::string stem = run_folder + name.data();
  for (const auto& [ending, bytes] :
       {std::pair{".png", &preview.grid_png}, std::pair{".apng", &preview.clip_apng}}) {
    if (!files.exists(stem + ending)) publish_file(files, stem + ending, *bytes);
  }
}

}  // namespace lf
