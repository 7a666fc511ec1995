// linear_attention() on a CPU: tensors to tasks of linear_attention_frames.h, partial sums to
// gradients.
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include "kernels/cpu/linear_attention_frames.h"
#include "kernels/cpu/partial_sums.h"
#include "kernels/cpu/task.h"
#include "kernels/forms.h"
#include "kernels/work.h"

namespace lf::cpu {
namespace {

using at::Tensor;

Tensor with_row(const Tensor& matrix, int64_t row) {
  return at::constant_pad_nd(matrix, {0, row - matrix.size(1)}).contiguous();
}

// A task and the tensors that it points into.
struct Call {
  Call(const Tensor& x, const LinearAttentionWeights& weights, Operands operands)
      : norm_weight(plain_weight(weights.norm_weight)),
        norm_bias(plain_weight(weights.norm_bias)),
        maps(plain_weight(weights.query_key_value)),
        out(plain_weight(weights.out)),
        out_bias(plain_weight(weights.out_bias)) {
    task.frames = x.size(0);
    task.places = x.size(1);
    task.width = x.size(2);
    task.heads = weights.heads;
    task.head_width = out.size(1) / weights.heads;
    task.bf16_rows = x.scalar_type() == at::kBFloat16;
    task.operands = operands;
    task.norm = {norm_weight.const_data_ptr<float>(), data_or_null(norm_bias),
                 static_cast<float>(weights.epsilon)};
    task.query = left_of(part(0), operands, copies);
    task.key = left_of(part(1), operands, copies);
    task.value_transposed = keep(with_row(part(2).t(), task.out_row()));
    task.out_transposed = keep(with_row(out.t(), task.lined()));
    task.out_bias = data_or_null(out_bias);
    task.scale = static_cast<float>(weights.scale);
    task.x = x.const_data_ptr();
  }

  void prepare_back() {
    task.value = keep(with_row(part(2), task.lined()));
    task.out = keep(with_row(out, task.out_row()));
    task.query_back = transposed_heads(part(0));
    task.key_back = transposed_heads(part(1));
  }

  Tensor norm_weight, norm_bias, maps, out, out_bias;
  Tensors copies;
  LinearAttentionTask task{};

 private:
  Tensor part(int64_t which) const {
    return maps.slice(0, which * task.wide(), (which + 1) * task.wide());
  }
  const float* keep(const Tensor& tensor) {
    copies.push_back(tensor);
    return tensor.const_data_ptr<float>();
  }
  // Transposed, with bf16 copies a head.
  Left transposed_heads(const Tensor& weight) {
    Left left{weight.const_data_ptr<float>(), 1, weight.size(1)};
    if (task.operands == Operands::kSingle) return left;
    const int64_t size = bf16_left_size(task.width, task.head_width);
    copies.push_back(at::empty({task.heads, size}, at::kBFloat16));
    auto* bf16 = static_cast<Bf16*>(copies.back().mutable_data_ptr());
    for (int64_t h = 0; h < task.heads; ++h) {
      const Left head{left.data + h * task.head_width * task.width, 1, task.width};
      bf16_left(head, task.width, task.head_width, bf16 + h * size);
    }
    left.bf16 = bf16;
    return left;
  }
};

}  // namespace

Made linear_attention(const LinearAttentionWeights& weights, bool bf16, const Tensor& x,
                      bool keep) {
  Call call(x, weights, operands_of(bf16));
  LinearAttentionTask& task = call.task;
  Made made{at::empty_like(x), {}};
  if (keep) {
    made.kept = {at::empty({task.frames, task.kept_size()}, at::kFloat)};
    task.kept = made.kept[0].mutable_data_ptr<float>();
  }
  task.y = made.y.mutable_data_ptr();
  LF_RECORD_WORK("linear_attention", task.flops());
  over_threads(task.frames, task.operands,
               [&](int64_t frame) { linear_attention_frame(task, frame); });
  return made;
}

LinearAttentionGradients linear_attention_back(const LinearAttentionWeights& weights, bool bf16,
                                               const Tensor& x, const Tensors& kept,
                                               const Tensor& dy) {
  Call call(x, weights, operands_of(bf16));
  call.prepare_back();
  LinearAttentionTask& task = call.task;
  const Tensor dx = at::empty_like(x);
  task.dy = dy.const_data_ptr();
  task.dx = dx.mutable_data_ptr();
  task.kept = kept[0].mutable_data_ptr<float>();
  LF_RECORD_WORK("linear_attention_backward", 2 * task.flops());
  const PartialSums sums(task.chunks(), task.sums_size());
  task.sums = sums.data();
  over_threads(task.chunks(), task.operands,
               [&](int64_t chunk) { linear_attention_chunk_back(task, chunk); });
  const auto bias = [&](const Tensor& given, int64_t at) {
    return given.defined() ? sums.lanes(at, given.numel()) : Tensor();
  };
  LinearAttentionGradients all{dx, {}};
  all.weights.norm_weight = sums.lanes(task.norm_sums(), task.width);
  all.weights.norm_bias = bias(weights.norm_bias, task.norm_bias_sums());
  all.weights.query_key_value = sums.matrix(task.map_sums(), 3 * task.wide(), task.width);
  all.weights.out = sums.transposed(task.out_sums(), task.wide(), task.width);
  all.weights.out_bias = bias(weights.out_bias, task.out_bias_sums());
  return all;
}

}  // namespace lf::cpu
