// The per-pixel loops of the corruption operators, each specified to the bit (base/isa.h): sums run
// in the stated order, products are fused only where std::fma is written, rounding is half to even.
// Frames are [H, W, C] floats in grey levels, 0 to 255, not clipped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/clip_shape.h"

namespace lf {

void widen(const uint8_t* grey, float* out, size_t count);
void round_to_grey(const float* frame, uint8_t* out, size_t count);  // clipped to [0, 255]
// grey / 127.5 - 1 in fp16, not clipped
void round_to_fp16(const float* frame, uint16_t* out, size_t count);
void mix_frames(std::span<const float* const> frames, std::span<const float> weights, float offset,
                float* out, size_t count);  // offset + sum in order
void add_scaled(const float* values, float scale, float* out, size_t count);  // out += scale values

// weights[0] at the centre, weights[k] at distance k.
using Kernel1D = std::vector<float>;

// Normalised, radius int(4 sigma + 0.5) whatever the size of the frame.
Kernel1D gaussian_kernel(double sigma);

// Blurs columns, then rows, reflecting at borders (half-sample symmetric) as often as the radius
// needs. `in` and `out` must not overlap. `scratch` grows as needed.
void blur_frame(const float* in, float* out, const ClipShape& shape, const Kernel1D& vertical,
                const Kernel1D& horizontal, std::vector<float>& scratch);

// matrix [n, n] applied to n rows of `width` floats.
void multiply_rows(const float* matrix, int n, const float* in, float* out, size_t width);
// [rows, columns, channels] -> [columns, rows, channels].
void transpose(const float* in, float* out, int rows, int columns, int channels);

// round(g (levels - 1) / 255 + dither) scaled back; `dither`, uniform draws in [0, 1), may be null.
void quantise_frame(const float* in, const float* dither, int levels, float* out, size_t count);

}  // namespace lf
