// skinny_matmul() on a CPU.
#include <ATen/ops/empty.h>

#include <algorithm>

#include "kernels/cpu/task.h"
#include "kernels/cpu/tile.h"
#include "kernels/forms.h"
#include "kernels/work.h"

namespace lf::cpu {
namespace {

using at::Tensor;

constexpr int64_t kFeatures = 128;  // that a thread makes at a time
// Blocks of the weight's rows and columns whose partners stay in a core's L2 cache.
constexpr int64_t kRows = 64, kColumns = 512, kDepth = 1024;

int64_t parts(int64_t whole, int64_t part) { return (whole + part - 1) / part; }

struct SkinnyTask {
  int64_t rows, depth, features;
  const float *x, *weight, *bias;
  float *transposed, *made, *y;  // [depth][row], [features][row], [rows, features]

  LF_INLINE TileMap map() const { return consecutive(0, rows); }
  LF_INLINE int64_t row() const { return tile_row(padded(rows)); }
};

struct In {
  static LF_INLINE void run(const SkinnyTask* task) {
    gather(task->x, false, task->depth, task->map(), task->transposed, task->row());
  }
};

struct Out {
  static LF_INLINE void run(const SkinnyTask* task) {
    scatter(task->made, task->row(), task->features, task->map(), nullptr, task->bias, task->y,
            false);
  }
};

}  // namespace

Tensor skinny_matmul(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  Tensor y = at::empty({x.size(0), weight.size(0)}, x.options());
  SkinnyTask task{x.size(0),
                  x.size(1),
                  weight.size(0),
                  x.const_data_ptr<float>(),
                  weight.const_data_ptr<float>(),
                  data_or_null(bias),
                  nullptr,
                  nullptr,
                  y.mutable_data_ptr<float>()};
  LF_RECORD_WORK("skinny_matmul", 2 * task.rows * task.depth * task.features);
  Scratch scratch;
  task.transposed = scratch.take<float>(task.depth * task.row());
  task.made = scratch.take<float>(task.features * task.row());
  run_kernel<In>(&task);
  over_threads(parts(task.features, kFeatures), Operands::kSingle, [&](int64_t part) {
    const int64_t first = part * kFeatures, count = std::min(kFeatures, task.features - first);
    for (int64_t k = 0; k < task.depth; k += kDepth) {
      multiply(Operands::kSingle, {task.weight + first * task.depth + k, task.depth},
               {task.transposed + k * task.row(), task.row()},
               {count, padded(task.rows), std::min(kDepth, task.depth - k),
                task.made + first * task.row(), task.row(), k > 0});
    }
  });
  run_kernel<Out>(&task);
  return y;
}

Tensor skinny_row_gradients(const Tensor& gradients, const Tensor& weight) {
  const int64_t rows = gradients.size(0), features = weight.size(0), depth = weight.size(1);
  Tensor out = at::empty({rows, depth}, gradients.options());
  const auto *from = gradients.const_data_ptr<float>(), *map = weight.const_data_ptr<float>();
  auto* to = out.mutable_data_ptr<float>();
  LF_RECORD_WORK("skinny_matmul_row_gradients", 2 * rows * depth * features);
  over_threads(parts(depth, kColumns), Operands::kSingle, [&](int64_t part) {
    const int64_t first = part * kColumns, count = std::min(kColumns, depth - first);
    for (int64_t f = 0; f < features; f += kRows) {
      multiply(Operands::kSingle, {from + f, features}, {map + f * depth + first, depth},
               {rows, count, std::min(kRows, features - f), to + first, depth, f > 0});
    }
  });
  return out;
}

Tensor skinny_weight_gradients(const Tensor& gradients, const Tensor& x) {
  const int64_t rows = x.size(0), features = gradients.size(1), depth = x.size(1);
  Tensor out = at::empty({features, depth}, x.options());
  const auto *left = gradients.const_data_ptr<float>(), *right = x.const_data_ptr<float>();
  auto* to = out.mutable_data_ptr<float>();
  LF_RECORD_WORK("skinny_matmul_weight_gradients", 2 * rows * depth * features);
  over_threads(parts(features, kFeatures), Operands::kSingle, [&](int64_t part) {
    const int64_t first = part * kFeatures, count = std::min(kFeatures, features - first);
    for (int64_t c = 0; c < depth; c += kColumns) {
      multiply(Operands::kSingle, {left + first, 1, features}, {right + c, depth},
               {count, std::min(kColumns, depth - c), rows, to + first * depth + c, depth, false});
    }
  });
  return out;
}

}  // namespace lf::cpu
