// Pictures of what a model makes, always of the same clips so that they compare over a run: a grid
// whose rows are real clips and what the model made by turns, and an animation of it. Files carry
// the image count and are never overwritten.
#pragma once

#include <string>

#include "data/store/store.h"
#include "model/model.h"

namespace lf {

struct Preview {
  std::string grid_png, clip_apng;
  int height = 0, width = 0;  // of the grid
};

Preview make_preview(Model& model, const Store& store, int clips, at::Device device);

// RUN/samples/img-NNNNNNNNNNNN.png
std::string preview_path(const std::string& run_folder, int64_t images);

// Writes that, whose path it returns, and .apng
std::string write_preview(const Preview& preview, const std::string& run_folder, int64_t images);

}  // namespace lf
