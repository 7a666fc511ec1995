// Products of small matrices that lie in a core's cache, on the calling thread: in single precision
// by code of our own, in bfloat16 (summed in single precision) by oneDNN where this CPU has it. Not
// for large matrices: the kernels cut those into tiles. Called by the kernels.
#pragma once

#include <cstdint>

#include "kernels/cpu/lanes.h"

namespace lf {

// What the operands of products are rounded to.
enum class Operands { kSingle, kBfloat16 };

// `wanted`, or single precision where this CPU cannot multiply in bfloat16.
Operands operands_here(Operands wanted);

// The left matrix: element (i, k) is data[i * row + k * column]. One of the two strides is 1.
// `half` is the same as bfloat16, made by half_left(), for products in it.
struct Left {
  const float* data = nullptr;
  int64_t row = 0, column = 1;
  const Half* half = nullptr;
};

// The right matrix: element (k, j) is data[k * row + j], and rows may be read up to the next
// multiple of 16. `half` is made by half_right().
struct Right {
  const float* data = nullptr;
  int64_t row = 0;
  const Half* half = nullptr;
};

// Numbers of Half that the copies below take.
int64_t half_left_size(int64_t rows, int64_t depth);
int64_t half_right_size(int64_t depth, int64_t columns);
const Half* half_left(const Left& left, int64_t rows, int64_t depth, Half* out);
const Half* half_right(const Right& right, int64_t depth, int64_t columns, Half* out);
// Of `left` turned round, [depth, width] with zeros up to the next multiple of 16 columns. Its rows
// lie as they are, `depth` a multiple of 16.
const Half* half_turned_right(const Left& left, int64_t width, int64_t depth, Half* out);

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
