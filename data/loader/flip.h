// Mirrors frames left to right in place, at memory speed. It knows pixels only by their size, so it
// serves uint8 and float16, one channel or many. Called by data/loader/loader on every clip that
// the order says is mirrored.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lf {

// `rows` rows (of all frames, one after another) of `width` pixels of `pixel_bytes` bytes each.
void flip_rows(void* pixels, size_t rows, size_t width, size_t pixel_bytes);

// The same, one pixel at a time whatever the CPU: the reference for tests.
void flip_rows_portable(void* pixels, size_t rows, size_t width, size_t pixel_bytes);

}  // namespace lf
