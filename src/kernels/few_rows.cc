#include "kernels/few_rows.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>

#include <algorithm>

#include "kernels/chunk_sums.h"
#include "kernels/dispatch.h"
#include "kernels/tile.h"
#include "kernels/work.h"

namespace lf {
namespace {

constexpr int64_t kFewest = 4, kMost = 64;
constexpr int64_t kFeatures = 128;  // that a thread makes at a time

struct FewRows {
  int64_t rows, depth, features;
  const float *x, *weight, *bias;
  float *turned, *made, *y;  // [depth][row], [features][row], [rows, features]

  LF_INLINE TileMap map() const { return consecutive(0, rows); }
  LF_INLINE int64_t row() const { return tile_row(padded(rows)); }
};

struct In {
  static LF_INLINE void run(const FewRows* task) {
    gather(task->x, task->depth, task->map(), task->turned, task->row());
  }
};

struct Out {
  static LF_INLINE void run(const FewRows* task) {
    scatter<float>(task->made, task->row(), task->features, task->map(), nullptr, task->bias,
                   task->y);
  }
};

}  // namespace

at::Tensor linear_map_reference(const at::Tensor& x, const at::Tensor& weight,
                                const at::Tensor& bias) {
  return bias.defined() ? at::linear(x, weight, bias) : at::linear(x, weight);
}

at::Tensor linear_map(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const int64_t depth = weight.size(1), rows = depth > 0 ? x.numel() / depth : 0;
  if (rows < kFewest || rows > kMost || !fused(Operation::kFewRows, x) ||
      x.scalar_type() != at::kFloat || weight.scalar_type() != at::kFloat ||
      operands_for(x) != Operands::kSingle || wants_gradient({x, weight, bias})) {
    return linear_map_reference(x, weight, bias);
  }
  const at::Tensor input = x.contiguous(), map = plain_weight(weight), shift = plain_weight(bias);
  std::vector<int64_t> sizes = x.sizes().vec();
  sizes.back() = weight.size(0);
  at::Tensor y = at::empty(sizes, input.options());
  FewRows task{rows,
               depth,
               weight.size(0),
               input.const_data_ptr<float>(),
               map.const_data_ptr<float>(),
               data_or_null(shift),
               nullptr,
               nullptr,
               y.mutable_data_ptr<float>()};
  LF_RECORD_WORK("few_rows", 2 * rows * depth * task.features);
  Scratch scratch;
  task.turned = scratch.take<float>(depth * task.row());
  task.made = scratch.take<float>(task.features * task.row());
  run_kernel<In>(&task);
  over_threads((task.features + kFeatures - 1) / kFeatures, Operands::kSingle, [&](int64_t part) {
    const int64_t first = part * kFeatures;
    multiply(Operands::kSingle, {task.weight + first * depth, depth}, {task.turned, task.row()},
             {std::min(kFeatures, task.features - first), padded(rows), depth,
              task.made + first * task.row(), task.row(), false});
  });
  run_kernel<Out>(&task);
  return y;
}

}  // namespace lf
