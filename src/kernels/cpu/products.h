// Products of small matrices that are in a core's cache, on the calling thread: fp32 by code of our
// own, bf16 (accumulated in fp32) by oneDNN where this CPU has it. Not for large matrices: the
// kernels cut those into tiles.
#pragma once

#include <cstdint>

#include "kernels/cpu/lanes.h"

namespace lf {

// What the operands of products are rounded to.
enum class Operands { kSingle, kBf16 };

// `wanted`, or single precision where this CPU cannot multiply in bf16.
Operands operands_here(Operands wanted);

// The left matrix: element (i, k) is data[i * row + k * column]. One of the two strides is 1.
// `bf16` is the same in bf16, made by bf16_left(), for products in it.
struct Left {
  const float* data = nullptr;
  int64_t row = 0, column = 1;
  const Bf16* bf16 = nullptr;
};

// The right matrix: element (k, j) is data[k * row + j], and rows may be read up to the next
// multiple of 16. `bf16` is made by bf16_right().
struct Right {
  const float* data = nullptr;
  int64_t row = 0;
  const Bf16* bf16 = nullptr;
};

// Bf16 elements that the copies below take.
int64_t bf16_left_size(int64_t rows, int64_t depth);
int64_t bf16_right_size(int64_t depth, int64_t columns);
const Bf16* bf16_left(const Left& left, int64_t rows, int64_t depth, Bf16* out);
const Bf16* bf16_right(const Right& right, int64_t depth, int64_t columns, Bf16* out);
// Of `left` transposed, [depth, width] with zeros up to the next multiple of 16 columns. Its rows
// are stored as they are, `depth` a multiple of 16.
const Bf16* bf16_transposed_right(const Left& left, int64_t width, int64_t depth, Bf16* out);

// out [rows, columns] = left [rows, depth] right [depth, columns], or += with `add`. `columns` is a
// multiple of 16.
struct Product {
  int64_t rows, columns, depth;
  float* out;
  int64_t out_row;
  bool add;
};
void multiply(Operands operands, const Left& left, const Right& right, const Product& product);

// A thread calls this after its last product: AMX tiles are to be given back.
void end_products(Operands operands);

}  // namespace lf
