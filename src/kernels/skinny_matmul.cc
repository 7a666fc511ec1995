#include "kernels/skinny_matmul.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "kernels/cpu/chunk_sums.h"
#include "kernels/cpu/tile.h"
#include "kernels/dispatch.h"
#include "kernels/work.h"

namespace lf {
namespace {

using at::Tensor;
using Tensors = std::vector<Tensor>;

constexpr int64_t kFewest = 4, kMost = 64;
constexpr int64_t kFeatures = 128;  // that a thread makes at a time
// Blocks of the weight's rows and columns whose partners stay in a core's second cache.
constexpr int64_t kRows = 64, kColumns = 512, kDepth = 1024;

int64_t parts(int64_t whole, int64_t part) { return (whole + part - 1) / part; }

struct SkinnyMatmul {
  int64_t rows, depth, features;
  const float *x, *weight, *bias;
  float *turned, *made, *y;  // [depth][row], [features][row], [rows, features]

  LF_INLINE TileMap map() const { return consecutive(0, rows); }
  LF_INLINE int64_t row() const { return tile_row(padded(rows)); }
};

struct In {
  static LF_INLINE void run(const SkinnyMatmul* task) {
    gather(task->x, task->depth, task->map(), task->turned, task->row());
  }
};

struct Out {
  static LF_INLINE void run(const SkinnyMatmul* task) {
    scatter<float>(task->made, task->row(), task->features, task->map(), nullptr, task->bias,
                   task->y);
  }
};

// x [rows, depth] times the turned weight [features, depth], plus the bias.
Tensor products(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  Tensor y = at::empty({x.size(0), weight.size(0)}, x.options());
  SkinnyMatmul task{x.size(0),
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
  task.turned = scratch.take<float>(task.depth * task.row());
  task.made = scratch.take<float>(task.features * task.row());
  run_kernel<In>(&task);
  over_threads(parts(task.features, kFeatures), Operands::kSingle, [&](int64_t part) {
    const int64_t first = part * kFeatures, count = std::min(kFeatures, task.features - first);
    for (int64_t k = 0; k < task.depth; k += kDepth) {
      multiply(Operands::kSingle, {task.weight + first * task.depth + k, task.depth},
               {task.turned + k * task.row(), task.row()},
               {count, padded(task.rows), std::min(kDepth, task.depth - k),
                task.made + first * task.row(), task.row(), k > 0});
    }
  });
  run_kernel<Out>(&task);
  return y;
}

// slopes [rows, features] times the weight [features, depth].
Tensor row_slopes(const Tensor& slopes, const Tensor& weight) {
  const int64_t rows = slopes.size(0), features = weight.size(0), depth = weight.size(1);
  Tensor out = at::empty({rows, depth}, slopes.options());
  const auto *from = slopes.const_data_ptr<float>(), *map = weight.const_data_ptr<float>();
  auto* to = out.mutable_data_ptr<float>();
  LF_RECORD_WORK("skinny_matmul_row_slopes", 2 * rows * depth * features);
  over_threads(parts(depth, kColumns), Operands::kSingle, [&](int64_t part) {
    const int64_t first = part * kColumns, count = std::min(kColumns, depth - first);
    for (int64_t f = 0; f < features; f += kRows) {
      multiply(Operands::kSingle, {from + f, features}, {map + f * depth + first, depth},
               {rows, count, std::min(kRows, features - f), to + first, depth, f > 0});
    }
  });
  return out;
}

// Turned slopes [rows, features] times x [rows, depth].
Tensor weight_slopes(const Tensor& slopes, const Tensor& x) {
  const int64_t rows = x.size(0), features = slopes.size(1), depth = x.size(1);
  Tensor out = at::empty({features, depth}, x.options());
  const auto *left = slopes.const_data_ptr<float>(), *right = x.const_data_ptr<float>();
  auto* to = out.mutable_data_ptr<float>();
  LF_RECORD_WORK("skinny_matmul_weight_slopes", 2 * rows * depth * features);
  over_threads(parts(features, kFeatures), Operands::kSingle, [&](int64_t part) {
    const int64_t first = part * kFeatures, count = std::min(kFeatures, features - first);
    for (int64_t c = 0; c < depth; c += kColumns) {
      multiply(Operands::kSingle, {left + first, 1, features}, {right + c, depth},
               {count, std::min(kColumns, depth - c), rows, to + first * depth + c, depth, false});
    }
  });
  return out;
}

// The three products are each other's slopes. All of their sides are whole matrices, and rows that
// right sides are read by are multiples of 16.
using torch::autograd::AutogradContext;
Tensor mapped(const Tensor& x, const Tensor& weight);
Tensor sloped_rows(const Tensor& slopes, const Tensor& weight);
Tensor sloped_weight(const Tensor& slopes, const Tensor& x);

struct Mapped : torch::autograd::Function<Mapped> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight) {
    context->save_for_backward({x, weight});
    return products(x, weight, {});
  }
  static Tensors backward(AutogradContext* context, const Tensors& gradients) {
    const Tensors saved = context->get_saved_variables();
    return {context->needs_input_grad(0) ? sloped_rows(gradients[0], saved[1]) : Tensor(),
            context->needs_input_grad(1) ? sloped_weight(gradients[0], saved[0]) : Tensor()};
  }
};

struct SlopedRows : torch::autograd::Function<SlopedRows> {
  static Tensor forward(AutogradContext* context, const Tensor& slopes, const Tensor& weight) {
    context->save_for_backward({slopes, weight});
    return row_slopes(slopes, weight);
  }
  static Tensors backward(AutogradContext* context, const Tensors& gradients) {
    const Tensors saved = context->get_saved_variables();
    return {context->needs_input_grad(0) ? mapped(gradients[0], saved[1]) : Tensor(),
            context->needs_input_grad(1) ? sloped_weight(saved[0], gradients[0]) : Tensor()};
  }
};

struct SlopedWeight : torch::autograd::Function<SlopedWeight> {
  static Tensor forward(AutogradContext* context, const Tensor& slopes, const Tensor& x) {
    context->save_for_backward({slopes, x});
    return weight_slopes(slopes, x);
  }
  static Tensors backward(AutogradContext* context, const Tensors& gradients) {
    const Tensors saved = context->get_saved_variables();
    return {context->needs_input_grad(0) ? mapped(saved[1], gradients[0]) : Tensor(),
            context->needs_input_grad(1) ? sloped_rows(saved[0], gradients[0]) : Tensor()};
  }
};

Tensor mapped(const Tensor& x, const Tensor& weight) {
  return Mapped::apply(x.contiguous(), weight.contiguous());
}
Tensor sloped_rows(const Tensor& slopes, const Tensor& weight) {
  return SlopedRows::apply(slopes.contiguous(), weight.contiguous());
}
Tensor sloped_weight(const Tensor& slopes, const Tensor& x) {
  return SlopedWeight::apply(slopes.contiguous(), x.contiguous());
}

}  // namespace

Tensor linear_map_reference(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  return bias.defined() ? at::linear(x, weight, bias) : at::linear(x, weight);
}

Tensor linear_map(const KernelChoice& kernels, const Tensor& x, const Tensor& weight,
                  const Tensor& bias) {
  const int64_t depth = weight.size(1), rows = depth > 0 ? x.numel() / depth : 0;
  const bool slopes = wants_gradient({x, weight, bias});
  if (rows < kFewest || rows > kMost ||
      target_of(kernels, Operation::kSkinnyMatmul, x) == Target::kPlain ||
      x.scalar_type() != at::kFloat || weight.scalar_type() != at::kFloat ||
      operands_for(x) != Operands::kSingle || (slopes && depth % kLanes != 0)) {
    return linear_map_reference(x, weight, bias);
  }
  std::vector<int64_t> sizes = x.sizes().vec();
  sizes.back() = weight.size(0);
  const Tensor input = x.reshape({rows, depth});
  if (!slopes) {
    return products(input.contiguous(), plain_weight(weight), plain_weight(bias)).view(sizes);
  }
  const Tensor y = mapped(input, weight);
  return (bias.defined() ? y + bias : y).view(sizes);
}

}  // namespace lf
