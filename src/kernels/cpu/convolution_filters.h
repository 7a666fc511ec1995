// The filters of the fused convolution: the transform of a weight to the 36 matrices that
// convolution_tiles.h multiplies with, and of their gradients back to the weight's.
#pragma once

#include <cstdint>

#include "kernels/cpu/convolution_tiles.h"

namespace lf {

// The weight is [out][3][3][taps][in], channels last, and is worked on a block at a time: sixteen
// of the `out`.
inline int64_t filter_blocks(const ConvolutionTask& task) {
  return ConvolutionTask::row(task.out) / kLanes;
}

// To what task.filters and task.filters_transposed point at, with zeros in the padding.
void transform_filters(const ConvolutionTask& task, const float* weight, int64_t block,
                       float* sums);
void transform_transposed_filters(const ConvolutionTask& task, const float* weight, int64_t block,
                                  float* sums);

// From task.sums, all chunks of them.
void transform_filters_back(const ConvolutionTask& task, int64_t block, float* weight_gradients);

}  // namespace lf
