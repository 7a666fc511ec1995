// The average of the weights that a run would have kept with another power function, made after the
// run from those that its checkpoints tracked (train.ema.tracked_widths): their profiles over
// training are combined to the profile asked for, by least squares. After Karras et al.,
// arXiv:2312.02696, section 3.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/file.h"

namespace lf {

// A power-function average as it stood after `images` clips.
struct TrackedAverage {
  double width = 0;
  int64_t images = 0;
};

struct PostHoc {
  std::vector<double> shares;  // of each tracked average; their sum is 1
  double misfit = 0;           // of the profiles, relative to the one asked for, in the L2 norm
};

// How to make the average of `wanted` out of `tracked`, which has averages of its moment or
// earlier.
PostHoc combine_averages(const std::vector<TrackedAverage>& tracked, const TrackedAverage& wanted);

// The checkpoint kind that holds the average of the i-th tracked width.
std::string tracked_kind(size_t i);

// One safetensors file at OUT: the average of relative width `width` at the run's newest whole
// checkpoint. Code::kUsage if the run tracked none.
void export_average(FileSystem& files, const std::string& run_folder, double width,
                    const std::string& out);

}  // namespace lf
