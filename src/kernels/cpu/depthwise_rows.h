// The fused causal depthwise convolution on CPU: plain pointers, a row of an image or a block of
// channels at a time.
#pragma once

#include <cstdint>

namespace lf {

struct DepthwiseTask {
  int64_t clips, steps, height, width, channels;
  bool bf16_rows;     // x, y and their gradients are bf16
  const float* taps;  // [27][channels]
  const float* bias;  // [channels]
  const void *x, *dy;
  void *y, *dx;
  float *tap_gradients, *bias_gradients;  // as taps and bias

  int64_t rows() const { return clips * steps * height; }
  int64_t blocks() const { return (channels + 15) / 16; }
};

void depthwise_row(const DepthwiseTask& task, int64_t row);
// dx of a row; the gradients of the weights of a block of channels, over all rows in order.
void depthwise_row_back(const DepthwiseTask& task, int64_t row);
void depthwise_block_back(const DepthwiseTask& task, int64_t block);

}  // namespace lf
