// The fused convolution on CPU: plain pointers, some tiles at a time, forward and backward. A tile
// is 4 x 4 places of the result, which come from 6 x 6 places of the image: both, and the filters,
// become 36 sums, and what connects them is a product of matrices for each of the 36. Over time as
// well, tiles of all frames of a clip are in work together, and it is a product for each of the
// three frames that a result comes from. Called by convolution.cc.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/lanes.h"

namespace lf {

constexpr int64_t kTile = 4, kSide = 6, kSums = 36;  // kSide: of a tile's image and of its sums

struct ConvolutionTask {
  int64_t clips, frames, height, width, in, out;  // in, out: channels
  int64_t taps;                                   // over time: 3, or 1 for frames by themselves
  bool half;                                      // x, y and their gradients are bfloat16
  const float* bias;
  const void *x, *dy;
  // The filters' sums, kSums times [taps][in][row(out)], and turned, [taps][out][row(in)].
  const float *filters, *filters_turned;
  void *y, *dx;      // dx: nullptr if nobody wants it
  float* dx_single;  // dx itself, or memory of its shape
  float* sums;       // [chunks()][sums_size()]: slopes of `filters` and of the bias

  static int64_t row(int64_t channels) { return (channels + kLanes - 1) / kLanes * kLanes; }
  int64_t across() const { return (width + kTile - 1) / kTile; }
  // Tiles: of a frame, and of all clips' first frames. A strip of some has those of the other
  // frames with it.
  int64_t of_image() const { return (height + kTile - 1) / kTile * across(); }
  int64_t tiles() const { return clips * of_image(); }
  // So many that their sums stay in a core's second cache.
  int64_t strip() const {
    const int64_t rows = std::clamp<int64_t>(4096 / (row(in) + row(out)), 32, 128);
    return std::max<int64_t>(rows / frames, 1);
  }
  int64_t strips() const { return (tiles() + strip() - 1) / strip(); }
  int64_t chunks() const {  // of clips, backward
    const int64_t most = std::min<int64_t>(clips, 16);
    return std::clamp<int64_t>(tiles() * frames / 64, std::min<int64_t>(clips, 2), most);
  }
  // From one of the kSums to the next: no power of two, which would crowd the cache.
  int64_t filter_size() const { return taps * in * row(out) + kLanes; }
  int64_t turned_size() const { return taps * out * row(in) + kLanes; }
  int64_t bias_sums() const { return kSums * filter_size(); }
  int64_t sums_size() const { return bias_sums() + row(out); }
  // Of the plain form, forward.
  int64_t flops() const { return 2 * 9 * taps * clips * frames * height * width * in * out; }
};

void convolution_strip(const ConvolutionTask& task, int64_t strip);
void convolution_chunk_back(const ConvolutionTask& task, int64_t chunk);

}  // namespace lf
