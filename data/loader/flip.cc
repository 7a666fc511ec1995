#include "data/loader/flip.h"

#include <algorithm>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace lf {
namespace {

void flip_row(uint8_t* row, size_t width, size_t pixel_bytes) {
  uint8_t* left = row;
  uint8_t* right = row + width * pixel_bytes;
  for (size_t swaps = width / 2; swaps > 0; --swaps) {
    right -= pixel_bytes;
    std::swap_ranges(left, left + pixel_bytes, right);
    left += pixel_bytes;
  }
}

#if defined(__x86_64__)
constexpr size_t kVector = 16;
constexpr size_t kLongestRow = 16384;  // bytes; a longer row is mirrored pixel by pixel

// The shuffle that reverses the whole pixels in 16 bytes and keeps the bytes after them.
__m128i reversal(size_t pixel_bytes) {
  alignas(16) uint8_t from[kVector];
  const size_t pixels = kVector / pixel_bytes;
  for (size_t i = 0; i < kVector; ++i) from[i] = static_cast<uint8_t>(i);
  for (size_t p = 0; p < pixels; ++p) {
    for (size_t b = 0; b < pixel_bytes; ++b) {
      from[p * pixel_bytes + b] = static_cast<uint8_t>((pixels - 1 - p) * pixel_bytes + b);
    }
  }
  return _mm_load_si128(reinterpret_cast<const __m128i*>(from));
}

// Copies a row to a buffer, then writes it back from its end, as many whole pixels at a time as 16
// bytes hold. Each store writes less than a pixel too much, which the next store overwrites.
__attribute__((target("ssse3"))) void flip_rows_vector(uint8_t* pixels, size_t rows, size_t width,
                                                       size_t pixel_bytes) {
  uint8_t aside[kVector + kLongestRow];
  const size_t row_bytes = width * pixel_bytes;
  const size_t whole = kVector / pixel_bytes * pixel_bytes;  // bytes reversed by one shuffle
  const __m128i reversed = reversal(pixel_bytes);
  for (size_t r = 0; r < rows; ++r, pixels += row_bytes) {
    std::memcpy(aside, pixels, row_bytes);
    size_t out = 0;
    for (; out + kVector <= row_bytes; out += whole) {
      const uint8_t* in = aside + row_bytes - out - whole;
      const __m128i word = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(pixels + out), _mm_shuffle_epi8(word, reversed));
    }
    for (; out < row_bytes; out += pixel_bytes) {
      std::memcpy(pixels + out, aside + row_bytes - out - pixel_bytes, pixel_bytes);
    }
  }
}
#endif

}  // namespace

void flip_rows_portable(void* pixels, size_t rows, size_t width, size_t pixel_bytes) {
  auto* row = static_cast<uint8_t*>(pixels);
  for (size_t r = 0; r < rows; ++r, row += width * pixel_bytes) flip_row(row, width, pixel_bytes);
}

void flip_rows(void* pixels, size_t rows, size_t width, size_t pixel_bytes) {
#if defined(__x86_64__)
  if (pixel_bytes > 0 && pixel_bytes <= kVector && width * pixel_bytes <= kLongestRow &&
      __builtin_cpu_supports("ssse3")) {
    flip_rows_vector(static_cast<uint8_t*>(pixels), rows, width, pixel_bytes);
    return;
  }
#endif
  flip_rows_portable(pixels, rows, width, pixel_bytes);
}

}  // namespace lf
