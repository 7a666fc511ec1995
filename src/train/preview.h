// Pictures of what a model makes, always of the same clips so that they compare over a run: a sheet
// whose rows are clips and the model's versions of them by turns, and an animation of them. Files
// carry the image count and are never overwritten.
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

// RUN/samples/img-NNNNNNNNNNNN.png and .apng
void write_preview(const Preview& preview, const std::string& run_folder, int64_t images);

}  // namespace lf
