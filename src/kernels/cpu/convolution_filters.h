// The filters of the fused convolution: from a weight to the 36 sums that
// convolution_tiles.h multiplies with, and the slopes of those back to the weight's. Called by
// convolution.cc.
#pragma once

#include <cstdint>

#include "kernels/cpu/convolution_tiles.h"

namespace lf {

// The weight is [out][3][3][taps][in], channels last, and is worked on a block at a time: sixteen
// of the `out`.
inline int64_t filter_blocks(const ConvolutionTask& task) {
  return ConvolutionTask::row(task.out) / kLanes;
}

// To what task.filters and task.filters_turned point at, with zeros in the padding.
void filter_sums(const ConvolutionTask& task, const float* weight, int64_t block, float* sums);
void turned_filter_sums(const ConvolutionTask& task, const float* weight, int64_t block,
                        float* sums);

// From task.sums, all chunks of them.
void filter_sums_back(const ConvolutionTask& task, int64_t block, float* weight_slopes);

}  // namespace lf
