#include "train/preview.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/stack.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include "base/file.h"
#include "data/image.h"
#include "eval/clips.h"

namespace lf {
namespace {

std::vector<Image> as_images(const at::Tensor& x_THWC) {
  const at::Tensor bytes = bytes_of(x_THWC);
  return frames_of({bytes.const_data_ptr<uint8_t>(), static_cast<size_t>(bytes.numel())},
                   static_cast<int>(bytes.size(0)), static_cast<int>(bytes.size(1)),
                   static_cast<int>(bytes.size(2)), static_cast<int>(bytes.size(3)));
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
  std::vector<Image> rows;
  for (int64_t clip = 0; clip < made.size(0); ++clip) {
    for (const at::Tensor& video : {given.x_BTHWC[clip], made[clip]}) {
      for (Image& frame : as_images(video)) rows.push_back(std::move(frame));
    }
  }
  const Image grid = contact_sheet(rows, static_cast<int>(frames), zoom);
  std::vector<Image> animation;  // frame t of all clips side by side, given above made
  for (int64_t t = 0; t < frames; ++t) {
    std::vector<Image> cells = as_images(given.x_BTHWC.select(1, t));
    for (Image& cell : as_images(made.select(1, t))) cells.push_back(std::move(cell));
    animation.push_back(contact_sheet(cells, static_cast<int>(made.size(0)), zoom));
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
