#include "kernels/cpu/products.h"

#include <ATen/native/CPUBlas.h>

#include <algorithm>
#include <cstring>
#include <exception>

#include "base/error.h"

namespace lf {
namespace {

static_assert(sizeof(Bf16) == sizeof(at::BFloat16));

// Rows x (16 kVectors) of the result stay in registers over the whole depth. With one vector
// an element of the left matrix is used once: the next rows are fetched meanwhile.
template <int kRows, int kVectors>
LF_INLINE void block(const Left& a, const Right& b, const Product& p, int64_t i, int64_t j) {
  Lanes sum[kRows][kVectors];
  float* out = p.out + i * p.out_row + j;
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      sum[r][v] = p.add ? load(out + r * p.out_row + v * kLanes) : Lanes{};
    }
  }
  const float* left = a.data + i * a.row;
  const float* right = b.data + j;
  const float* next = left + kRows * a.row;
  for (int64_t k = 0; k < p.depth; ++k, left += a.column, right += b.row) {
    if (kVectors == 1 && k % (kLanes / kRows) == 0) __builtin_prefetch(next + k * kRows);
    Lanes row[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) row[v] = load(right + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const float one = left[r * a.row];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[r][v] += one * row[v];
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) store(out + r * p.out_row + v * kLanes, sum[r][v]);
  }
}

template <int kRows, int kVectors>
LF_INLINE void strip(const Left& a, const Right& b, const Product& p, int64_t j) {
  int64_t i = 0;
  for (; i + kRows <= p.rows; i += kRows) block<kRows, kVectors>(a, b, p, i, j);
  for (; i + 4 <= p.rows && kRows > 4; i += 4) block<4, kVectors>(a, b, p, i, j);
  for (; i < p.rows; ++i) block<1, kVectors>(a, b, p, i, j);
}

// kRows and kVectors are what the registers of a width hold.
template <int kRows, int kVectors>
struct SingleProduct {
  static LF_INLINE void run(const Left* a, const Right* b, const Product* p) {
    int64_t j = 0;
    for (; j + kVectors * kLanes <= p->columns; j += kVectors * kLanes) {
      strip<kRows, kVectors>(*a, *b, *p, j);
    }
    for (; kVectors > 2 && j + 2 * kLanes <= p->columns; j += 2 * kLanes) {
      strip<kRows, std::min(kVectors, 2)>(*a, *b, *p, j);
    }
    for (; j < p->columns; j += kLanes) strip<kRows, 1>(*a, *b, *p, j);
  }
};

void multiply_single(const Left& left, const Right& right, const Product& product) {
#if defined(__x86_64__)
  switch (isa()) {
    case Isa::kAvx512Bf16:
    case Isa::kAvx512:
      return run_avx512<SingleProduct<8, 3>>(&left, &right, &product);
    case Isa::kAvx2:
      return run_avx2<SingleProduct<6, 1>>(&left, &right, &product);
    case Isa::kBaseline:
      break;
  }
  SingleProduct<2, 1>::run(&left, &right, &product);
#else
  SingleProduct<5, 1>::run(&left, &right, &product);
#endif
}

bool has_bf16() {
  static const bool has = [] {
    at::BFloat16 a[2] = {1.0F, 2.0F}, b[32];
    std::fill(b, b + 32, at::BFloat16(3.0F));
    float out[16] = {};
    try {
      at::native::cpublas::brgemm(1, 16, 2, 2, 16, 16, false, a, b, out, true);
      at::native::cpublas::brgemm_release(true);
    } catch (const std::exception&) {
      return false;
    }
    return std::all_of(out, out + 16, [](float one) { return one == 9.0F; });
  }();
  return has;
}

int64_t even(int64_t depth) { return depth + depth % 2; }

LF_INLINE void store_pairs(Bf16* to, Lanes x, int64_t count) {
  if (count >= 2 * kLanes) {
    *reinterpret_cast<LoosePairs*>(to) = reinterpret_cast<Pairs>(x);
  } else {
    std::memcpy(to, &x, static_cast<size_t>(count) * sizeof(Bf16));
  }
}

template <typename X>
struct LeftCopy {
  static LF_INLINE void run(const Left* left, int64_t rows, int64_t depth, Bf16* out) {
    const int64_t wide = even(depth);
    if (left->column == 1) {
      for (int64_t i = 0; i < rows; ++i) {
        auto* to = static_cast<X*>(out + i * wide);
        for (int64_t k = 0; k < wide; k += kLanes) {
          store(to + k, load(left->data + i * left->row + k, depth - k), wide - k);
        }
      }
      return;
    }
    for (int64_t i = 0; i < rows; i += kLanes) {  // the copy is the other way round
      const auto line = [&](int64_t k) __attribute__((always_inline)) {
        return k < depth ? load(left->data + i + k * left->column, rows - i) : Lanes{};
      };
      for (int64_t k = 0; k < wide; k += 2 * kLanes) {
        Lanes part[kLanes];
        for (int64_t e = 0; e < kLanes; ++e) {
          part[e] = reinterpret_cast<Lanes>(interleaved<X>(line(k + 2 * e), line(k + 2 * e + 1)));
        }
        transpose(part);
        for (int64_t e = 0; e < std::min(kLanes, rows - i); ++e) {
          store_pairs(out + (i + e) * wide + k, part[e], wide - k);
        }
      }
    }
  }
};

// Rows k and k + 1 interleaved.
template <typename X>
struct RightCopy {
  static LF_INLINE void run(const Right* right, int64_t depth, int64_t columns, Bf16* out) {
    for (int64_t k = 0; k < depth; k += 2) {
      for (int64_t j = 0; j < columns; j += kLanes) {
        const float* from = right->data + k * right->row + j;
        const Lanes low = load(from), high = k + 1 < depth ? load(from + right->row) : Lanes{};
        *reinterpret_cast<LoosePairs*>(out + k * columns + 2 * j) = interleaved<X>(low, high);
      }
    }
  }
};

template <typename X>
struct TransposedRightCopy {
  static LF_INLINE void run(const Left* left, int64_t width, int64_t depth, Bf16* out) {
    const int64_t wide = (width + kLanes - 1) / kLanes * kLanes;
    for (int64_t k = 0; k < depth; k += 2 * kLanes) {
      const bool two = k + kLanes < depth;
      for (int64_t j = 0; j < wide; j += kLanes) {
        Lanes part[kLanes];
        for (int64_t e = 0; e < kLanes; ++e) {
          const float* from = left->data + (j + e) * left->row + k;
          const bool given = j + e < width;
          part[e] = reinterpret_cast<Lanes>(joined<X>(
              given ? load(from) : Lanes{}, given && two ? load(from + kLanes) : Lanes{}));
        }
        transpose(part);
        for (int64_t e = 0; e < (two ? kLanes : kLanes / 2); ++e) {
          store_pairs(out + (k + 2 * e) * wide + 2 * j, part[e], 2 * kLanes);
        }
      }
    }
  }
};

}  // namespace

Operands operands_here(Operands wanted) {
  return wanted == Operands::kBf16 && has_bf16() ? wanted : Operands::kSingle;
}

int64_t bf16_left_size(int64_t rows, int64_t depth) { return rows * even(depth); }
int64_t bf16_right_size(int64_t depth, int64_t columns) { return even(depth) * columns; }

const Bf16* bf16_left(const Left& left, int64_t rows, int64_t depth, Bf16* out) {
  LF_CHECK(left.column == 1 || left.row == 1, "a left matrix whose elements do not touch");
  run_bf16<LeftCopy>(&left, rows, depth, out);
  return out;
}

const Bf16* bf16_right(const Right& right, int64_t depth, int64_t columns, Bf16* out) {
  run_bf16<RightCopy>(&right, depth, columns, out);
  return out;
}

const Bf16* bf16_transposed_right(const Left& left, int64_t width, int64_t depth, Bf16* out) {
  LF_CHECK(left.column == 1 && depth % kLanes == 0, "a tile that is no tile");
  run_bf16<TransposedRightCopy>(&left, width, depth, out);
  return out;
}

void multiply(Operands operands, const Left& left, const Right& right, const Product& product) {
  if (product.rows == 0 || product.columns == 0) return;
  if (operands == Operands::kSingle) return multiply_single(left, right, product);
  LF_CHECK(left.bf16 != nullptr && right.bf16 != nullptr, "a product without its bf16 copies");
  const int64_t depth = even(product.depth);
  at::native::cpublas::brgemm(product.rows, product.columns, depth, depth, product.columns,
                              product.out_row, product.add,
                              reinterpret_cast<const at::BFloat16*>(left.bf16),
                              reinterpret_cast<const at::BFloat16*>(right.bf16), product.out, true);
}

void end_products(Operands operands) {
  if (operands == Operands::kBf16) at::native::cpublas::brgemm_release(true);
}

}  // namespace lf
