#include "kernels/cpu/partial_sums.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>

#include "kernels/cpu/tile.h"

namespace lf {
namespace {

// Adds up values that are `size` floats apart, for a row of the result.
struct AddRow {
  static LF_INLINE void run(const float* sums, int64_t count, int64_t size, int64_t width,
                            float* out) {
    for (int64_t c = 0; c < width; c += kLanes) {
      Lanes sum = load(sums + c, width - c);
      for (int64_t i = 1; i < count; ++i) sum += load(sums + i * size + c, width - c);
      store(out + c, sum, width - c);
    }
  }
};

// Sixteen rows of the sums become sixteen columns of the result.
struct AddTransposed {
  static LF_INLINE void run(const float* sums, int64_t count, int64_t size, int64_t width,
                            int64_t row, int64_t rows, float* out) {
    const int64_t wide = padded(width), here = std::min(kLanes, rows - row);
    for (int64_t c = 0; c < wide; c += kLanes) {
      Lanes part[kLanes];
      for (int64_t e = 0; e < kLanes; ++e) {
        part[e] = Lanes{};
        if (e >= here) continue;
        for (int64_t i = 0; i < count; ++i) part[e] += load(sums + i * size + (row + e) * wide + c);
      }
      transpose(part);
      for (int64_t e = 0; e < std::min(kLanes, width - c); ++e) {
        store(out + (c + e) * rows + row, part[e], here);
      }
    }
  }
};

struct AddLanes {
  static LF_INLINE void run(const float* sums, int64_t count, int64_t size, int64_t numbers,
                            float* out) {
    for (int64_t n = 0; n < numbers; ++n) {
      Lanes sum{};
      for (int64_t i = 0; i < count; ++i) sum += load(sums + i * size + n * kLanes);
      out[n] = sum_of(sum);
    }
  }
};

}  // namespace

PartialSums::PartialSums(int64_t count, int64_t size)
    : count_(count), size_(size), sums_(at::empty({count, size}, at::kFloat)) {}

at::Tensor PartialSums::matrix(int64_t at, int64_t rows, int64_t width) const {
  at::Tensor out = at::empty({rows, width}, at::kFloat);
  const float* sums = data() + at;
  auto* to = out.mutable_data_ptr<float>();
  at::parallel_for(0, rows, 64, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      run_kernel<AddRow>(sums + r * padded(width), count_, size_, width, to + r * width);
    }
  });
  return out;
}

at::Tensor PartialSums::transposed(int64_t at, int64_t rows, int64_t width) const {
  at::Tensor out = at::empty({width, rows}, at::kFloat);
  const float* sums = data() + at;
  auto* to = out.mutable_data_ptr<float>();
  at::parallel_for(0, padded(rows) / kLanes, 4, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      run_kernel<AddTransposed>(sums, count_, size_, width, r * kLanes, rows, to);
    }
  });
  return out;
}

at::Tensor PartialSums::lanes(int64_t at, int64_t numbers) const {
  at::Tensor out = at::empty({numbers}, at::kFloat);
  const float* sums = data() + at;
  run_kernel<AddLanes>(sums, count_, size_, numbers, out.mutable_data_ptr<float>());
  return out;
}

at::Tensor PartialSums::plain(int64_t at, int64_t numbers) const {
  at::Tensor out = at::empty({numbers}, at::kFloat);
  const float* sums = data() + at;
  run_kernel<AddRow>(sums, count_, size_, numbers, out.mutable_data_ptr<float>());
  return out;
}

}  // namespace lf
