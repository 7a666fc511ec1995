#include "train/preview.h"

#include <ATen/TensorOperators.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <iterator>
#include <utility>

#include "base/file.h"
#include "base/text.h"
#include "data/image/grid.h"
#include "run/clips.h"

namespace lf {
namespace {

constexpr int64_t kFramesInRow = 8;  // of short clips, which stand side by side

std::vector<Image> as_images(const at::Tensor& x_THWC) {
  const at::Tensor bytes = bytes_of(x_THWC);
  const ClipShape shape{static_cast<int>(bytes.size(0)), static_cast<int>(bytes.size(1)),
                        static_cast<int>(bytes.size(2)), static_cast<int>(bytes.size(3))};
  return frames_of({bytes.const_data_ptr<uint8_t>(), static_cast<size_t>(bytes.numel())}, shape);
}

// The rows of some clips [n, T, H, W, C] side by side.
std::vector<GridRow> rows_of(const std::string& name, const at::Tensor& clips, bool numbered,
                             const std::vector<int64_t>& observed) {
  std::vector<GridRow> rows;
  for (int64_t i = 0; i < clips.size(0); ++i) {
    std::vector<GridRow> more = rows_of_clip(name, as_images(clips[i]), numbered, observed);
    if (rows.empty()) {
      rows = std::move(more);
      continue;
    }
    for (size_t r = 0; r < rows.size(); ++r) {
      std::move(more[r].cells.begin(), more[r].cells.end(), std::back_inserter(rows[r].cells));
    }
  }
  return rows;
}

// By turns rows of real clips and of what the model made.
Image sheet_of(const at::Tensor& real, const at::Tensor& made,
               const std::vector<int64_t>& observed) {
  const int64_t clips = made.size(0), frames = made.size(1);
  const int64_t most = std::max<int64_t>(1, kFramesInRow / frames);
  const int64_t bands = (clips + most - 1) / most, side_by_side = (clips + bands - 1) / bands;
  std::vector<GridRow> rows;
  for (int64_t first = 0; first < clips; first += side_by_side) {
    const auto add = [&](const std::string& name, const at::Tensor& of, bool numbered,
                         const std::vector<int64_t>& given) {
      const at::Tensor some = of.slice(0, first, first + side_by_side);
      for (GridRow& row : rows_of(name, some, numbered, given)) rows.push_back(std::move(row));
    };
    add("real", real, first == 0 && frames > 1, {});
    add("made", made, first == 0 && !observed.empty(), observed);
  }
  return draw_grid(rows);
}

// Frame t of all clips, real above made.
Image moving_sheet(const at::Tensor& real, const at::Tensor& made, int64_t t,
                   const std::vector<int64_t>& observed) {
  std::vector<GridRow> rows;
  for (const auto& [name, clips] : {std::pair{"real", &real}, std::pair{"made", &made}}) {
    GridRow& row = rows.emplace_back();
    row.left = name;
    for (Image& frame : as_images(clips->select(1, t)))
      row.cells.push_back({std::move(frame), "", false});
  }
  rows[0].cells[0].above = str("frame ", t);
  const bool given = std::binary_search(observed.begin(), observed.end(), t);
  for (GridCell& cell : rows[1].cells) cell.observed = given;
  return draw_grid(rows);
}

}  // namespace

Preview make_preview(Model& model, const Store& store, int clips, at::Device device) {
  // The first of the store, whatever the run's order.
  const auto count =
      static_cast<int64_t>(std::min<uint64_t>(static_cast<uint64_t>(clips), store.clips()));
  const Clips given = clips_in_order(store, 0, count, device);
  const at::Tensor made = model.preview(given);
  const std::vector<int64_t> observed = model.frames_to_give();
  const Image grid = sheet_of(given.x_BTHWC, made, observed);
  std::vector<Image> animation;
  for (int64_t t = 0; t < made.size(1); ++t) {
    animation.push_back(moving_sheet(given.x_BTHWC, made, t, observed));
  }
  return {encode_png(grid), encode_animation(animation, 150), grid.height, grid.width};
}

std::string preview_path(const std::string& run_folder, int64_t images) {
  std::array<char, 40> name{};
  std::snprintf(name.data(), name.size(), "/samples/img-%012lld.png",
                static_cast<long long>(images));
  return run_folder + name.data();
}

std::string write_preview(const Preview& preview, const std::string& run_folder, int64_t images) {
  FileSystem& files = real_file_system();
  files.make_folders(run_folder + "/samples");
  const std::string path = preview_path(run_folder, images);
  const std::string stem = path.substr(0, path.rfind('.'));
  for (const auto& [ending, bytes] :
       {std::pair{".png", &preview.grid_png}, std::pair{".apng", &preview.clip_apng}}) {
    if (!files.exists(stem + ending)) publish_file(files, stem + ending, *bytes);
  }
  return path;
}

}  // namespace lf
