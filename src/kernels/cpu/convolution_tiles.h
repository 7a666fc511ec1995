// The fused convolution on CPU: plain pointers, a strip of tiles at a time, forward and backward. A
// tile is 4x4 results, which come from 6x6 pixels of the image. Image tiles and filters are
// transformed to 36 elements each, and one matrix product for each of the 36 connects them. Over
// time, tiles of all frames of a clip are processed together, with a product for each of the three
// frames that a result comes from.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/lanes.h"

namespace lf {

constexpr int64_t kTile = 4, kSide = 6, kTransformed = 36;  // kSide: of a tile's image

struct ConvolutionTask {
  int64_t clips, frames, height, width, in, out;  // in, out: channels
  int64_t taps;                                   // over time: 3, or 1 for frames by themselves
  bool bf16_rows;                                 // x, y and their gradients are bf16
  const float* bias;
  const void *x, *dy;
  // The transformed filters, kTransformed times [taps][in][row(out)], and transposed,
  // [taps][out][row(in)].
  const float *filters, *filters_transposed;
  void *y, *dx;      // dx: nullptr if nobody wants it
  float* dx_single;  // dx itself, or memory of its shape
  float* sums;       // [chunks()][sums_size()]: gradients of `filters` and of the bias

  static int64_t row(int64_t channels) { return (channels + kLanes - 1) / kLanes * kLanes; }
  int64_t across() const { return (width + kTile - 1) / kTile; }
  // Tiles: of a frame, and of all clips' first frames. A strip of some has those of the other
  // frames with it.
  int64_t of_image() const { return (height + kTile - 1) / kTile * across(); }
  int64_t tiles() const { return clips * of_image(); }
  // As many as keep their transforms in a core's L2 cache.
  int64_t strip() const {
    const int64_t rows = std::clamp<int64_t>(4096 / (row(in) + row(out)), 32, 128);
    return std::max<int64_t>(rows / frames, 1);
  }
  int64_t strips() const { return (tiles() + strip() - 1) / strip(); }
  int64_t chunks() const {  // of clips, backward
    const int64_t most = std::min<int64_t>(clips, 16);
    return std::clamp<int64_t>(tiles() * frames / 64, std::min<int64_t>(clips, 2), most);
  }
  // Stride between the kTransformed matrices: no power of two, which would map to the same cache
  // sets.
  int64_t filter_size() const { return taps * in * row(out) + kLanes; }
  int64_t transposed_size() const { return taps * out * row(in) + kLanes; }
  int64_t bias_sums() const { return kTransformed * filter_size(); }
  int64_t sums_size() const { return bias_sums() + row(out); }
  // Of the plain form, forward.
  int64_t flops() const { return 2 * 9 * taps * clips * frames * height * width * in * out; }
};

void convolution_strip(const ConvolutionTask& task, int64_t strip);
void convolution_chunk_back(const ConvolutionTask& task, int64_t chunk);

}  // namespace lf
