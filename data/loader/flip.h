// Mirrors frames left to right in place, at memory speed. Works on pixels of any size: uint8 and
// fp16, one channel or many.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lf {

// `rows` rows (of all frames, one after another) of `width` pixels of `pixel_bytes` bytes each.
void flip_rows(void* pixels, size_t rows, size_t width, size_t pixel_bytes);

// The same, one pixel at a time whatever the CPU: the reference for tests.
void flip_rows_portable(void* pixels, size_t rows, size_t width, size_t pixel_bytes);

}  // namespace lf
