// attention() on a CPU: tensors to tasks of attention_tiles.h, partial sums to gradients.
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include "kernels/cpu/attention_tiles.h"
#include "kernels/cpu/partial_sums.h"
#include "kernels/cpu/task.h"
#include "kernels/forms.h"
#include "kernels/work.h"

namespace lf::cpu {
namespace {

using at::Tensor;

// Larger activations are recomputed in backward.
constexpr int64_t kMostKept = int64_t{64} << 20;  // floats

// Keeping queries, keys and values costs memory traffic, recomputing them costs products. In fp32
// the products cost more from this width on.
constexpr int64_t kKeptWidth = 64;

// A task and the tensors that it points into.
struct Call {
  Call(const Tensor& x, const Sequences& sequences, const AttentionWeights& weights,
       Operands operands)
      : norm_weight(plain_weight(weights.norm_weight)),
        norm_bias(plain_weight(weights.norm_bias)),
        query(plain_weight(weights.query)),
        query_bias(plain_weight(weights.query_bias)),
        key_value(plain_weight(weights.key_value)),
        key_value_bias(plain_weight(weights.key_value_bias)),
        out(plain_weight(weights.out)),
        out_bias(plain_weight(weights.out_bias)),
        query_scale(plain_weight(weights.query_scale)),
        key_scale(plain_weight(weights.key_scale)),
        bias(plain_weight(weights.bias)),
        mask(plain_weight(weights.mask)),
        rotary(plain_weight(weights.rotary)) {
    task.outer = sequences.outer;
    task.tokens = sequences.tokens;
    task.inner = sequences.inner;
    task.width = x.size(-1);
    task.heads = weights.heads;
    task.head_width = query.size(0) / weights.heads;
    task.bf16_rows = x.scalar_type() == at::kBFloat16;
    task.operands = operands;
    task.norm = {data_or_null(norm_weight), data_or_null(norm_bias),
                 static_cast<float>(weights.epsilon)};
    task.query = left_of(query, operands, copies);
    task.key = left_of(key_value.slice(0, 0, task.wide()), operands, copies);
    task.plain_values = key_value.size(0) == task.wide();
    if (!task.plain_values) {
      task.value = left_of(key_value.slice(0, task.wide()), operands, copies);
    }
    task.out = left_of(out, operands, copies);
    task.query_bias = data_or_null(query_bias);
    task.key_value_bias = data_or_null(key_value_bias);
    task.out_bias = data_or_null(out_bias);
    task.query_scale = data_or_null(query_scale);
    task.key_scale = data_or_null(key_scale);
    task.bias = data_or_null(bias);
    task.mask = data_or_null(mask);
    task.rotary = data_or_null(rotary);
    task.pairs = rotary.defined() ? rotary.size(1) : 0;
    task.scale = static_cast<float>(weights.scale);
    task.x = x.const_data_ptr();
  }

  void prepare_back() {
    task.query_back = transposed_left_of(query, task.operands, copies);
    task.key_back = transposed_left_of(key_value.slice(0, 0, task.wide()), task.operands, copies);
    if (!task.plain_values) {
      task.value_back = transposed_left_of(key_value.slice(0, task.wide()), task.operands, copies);
    }
    task.out_back = transposed_left_of(out, task.operands, copies);
  }

  Tensor norm_weight, norm_bias, query, query_bias, key_value, key_value_bias, out, out_bias,
      query_scale, key_scale, bias, mask, rotary;
  Tensors copies;
  AttentionTask task{};
};

AttentionGradients gradients_of(const AttentionTask& task, const AttentionWeights& weights,
                                const Tensor& dx, const PartialSums& sums) {
  const auto lanes = [&](const Tensor& given, int64_t at) {
    return given.defined() ? sums.lanes(at, given.numel()) : Tensor();
  };
  const int64_t wide = task.wide();
  AttentionGradients all{dx, {}};
  AttentionWeights& d = all.weights;
  d.norm_weight = lanes(weights.norm_weight, task.norm_sums());
  d.norm_bias = lanes(weights.norm_bias, task.norm_bias_sums());
  d.query = sums.matrix(task.map_sums(), wide, task.width);
  d.query_bias = lanes(weights.query_bias, task.map_bias_sums());
  d.key_value = sums.matrix(task.map_sums() + wide * padded(task.width), (task.maps() - 1) * wide,
                            task.width);
  d.key_value_bias = lanes(weights.key_value_bias, task.map_bias_sums() + wide * kLanes);
  d.out = sums.transposed(task.out_sums(), task.mixed(), task.width);
  d.out_bias = lanes(weights.out_bias, task.out_bias_sums());
  d.query_scale = lanes(weights.query_scale, task.query_scale_sums());
  d.key_scale = lanes(weights.key_scale, task.key_scale_sums());
  if (task.bias_gradient) {
    d.bias = sums.plain(task.bias_sums(), task.heads * task.tokens * task.tokens)
                 .view({task.heads, task.tokens, task.tokens});
  }
  return all;
}

}  // namespace

Made attention(const AttentionCall& given, const Tensor& x, const Tensor& residual, bool keep) {
  Call call(x, given.sequences, given.weights, operands_of(given.bf16));
  AttentionTask& task = call.task;
  Made made{at::empty_like(x), {}};
  if (keep) {
    const bool maps = task.operands == Operands::kSingle && task.width >= kKeptWidth &&
                      task.kept_size() <= kMostKept;
    made.kept = {maps ? at::empty({task.kept_size()}, at::kFloat) : Tensor()};
    if (maps) task.kept = made.kept[0].mutable_data_ptr<float>();
  }
  task.residual = residual.defined() ? residual.const_data_ptr() : nullptr;
  task.y = made.y.mutable_data_ptr();
  LF_RECORD_WORK("attention", task.flops());
  over_threads(task.tiles(), task.operands, [&](int64_t tile) { attention_tile(task, tile); });
  return made;
}

AttentionGradients attention_back(const AttentionCall& given, const Tensor& x, const Tensors& kept,
                                  const Tensor& dy) {
  Call call(x, given.sequences, given.weights, operands_of(given.bf16));
  call.prepare_back();
  AttentionTask& task = call.task;
  const Tensor dx = at::empty_like(x);
  task.bias_gradient = given.bias_gradient;
  if (given.residual) task.residual = dy.const_data_ptr();
  task.dy = dy.const_data_ptr();
  task.dx = dx.mutable_data_ptr();
  task.kept = kept[0].defined() ? kept[0].mutable_data_ptr<float>() : nullptr;
  LF_RECORD_WORK("attention_backward", 2 * task.flops());
  const PartialSums sums(task.chunks(), task.sums_size());
  task.sums = sums.data();
  over_threads(task.chunks(), task.operands,
               [&](int64_t chunk) { attention_chunk_back(task, chunk); });
  return gradients_of(task, given.weights, dx, sums);
}

}  // namespace lf::cpu
