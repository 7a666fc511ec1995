// feed_forward() on a CPU: tensors to tasks of feed_forward_tiles.h, partial sums to gradients.
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include "kernels/cpu/feed_forward_tiles.h"
#include "kernels/cpu/partial_sums.h"
#include "kernels/cpu/task.h"
#include "kernels/dispatch.h"
#include "kernels/forms.h"
#include "kernels/work.h"

namespace lf::cpu {
namespace {

using at::Tensor;

// Larger activations are recomputed in backward.
constexpr int64_t kMostKept = int64_t{64} << 20;  // floats

// A task and the tensors that it points into.
struct Call {
  Call(const Tensor& x, const FeedForwardWeights& weights, Operands operands)
      : norm_weight(plain_weight(weights.norm_weight)),
        norm_bias(plain_weight(weights.norm_bias)),
        in(plain_weight(weights.in)),
        in_bias(plain_weight(weights.in_bias)),
        out(plain_weight(weights.out)),
        out_bias(plain_weight(weights.out_bias)) {
    task.width = x.size(-1);
    task.rows = x.numel() / task.width;
    task.hidden = out.size(1);
    task.gated = weights.gated;
    task.bf16_rows = x.scalar_type() == at::kBFloat16;
    task.operands = operands;
    task.norm = {norm_weight.const_data_ptr<float>(), data_or_null(norm_bias),
                 static_cast<float>(weights.epsilon)};
    task.in = left_of(in, operands, copies);
    task.out = left_of(out, operands, copies);
    task.in_bias = data_or_null(in_bias);
    task.out_bias = data_or_null(out_bias);
    task.x = x.const_data_ptr();
  }
  Tensor norm_weight, norm_bias, in, in_bias, out, out_bias;
  Tensors copies;
  FeedForwardTask task{};
};

}  // namespace

Made feed_forward(const FeedForwardWeights& weights, bool bf16, const Tensor& x, bool keep) {
  Call call(x, weights, operands_of(bf16));
  FeedForwardTask& task = call.task;
  Made made{at::empty_like(x), {}};
  if (keep) {
    const bool maps = task.kept_size() <= kMostKept;
    made.kept = {maps ? at::empty({task.kept_size()}, at::kFloat) : Tensor()};
    if (maps) task.kept = made.kept[0].mutable_data_ptr<float>();
  }
  task.y = made.y.mutable_data_ptr();
  LF_RECORD_WORK("feed_forward", task.flops());
  over_threads(task.tiles(), task.operands, [&](int64_t tile) { feed_forward_tile(task, tile); });
  return made;
}

FeedForwardGradients feed_forward_back(const FeedForwardWeights& weights, bool bf16,
                                       const Tensor& x, const Tensors& kept, const Tensor& dy) {
  Call call(x, weights, operands_of(bf16));
  FeedForwardTask& task = call.task;
  task.in_back = transposed_left_of(call.in, task.operands, call.copies);
  task.out_back = transposed_left_of(call.out, task.operands, call.copies);
  const Tensor dx = at::empty_like(x);
  task.dy = dy.const_data_ptr();
  task.dx = dx.mutable_data_ptr();
  task.kept = kept[0].defined() ? kept[0].mutable_data_ptr<float>() : nullptr;
  LF_RECORD_WORK("feed_forward_backward", 2 * task.flops());
  const PartialSums sums(task.chunks(), task.sums_size());
  task.sums = sums.data();
  over_threads(task.chunks(), task.operands,
               [&](int64_t chunk) { feed_forward_chunk_back(task, chunk); });
  const auto bias = [&](const Tensor& given, int64_t at) {
    return given.defined() ? sums.lanes(at, given.numel()) : Tensor();
  };
  FeedForwardGradients all{dx, {}};
  all.weights.norm_weight = sums.lanes(task.norm_sums(), task.width);
  all.weights.norm_bias = bias(weights.norm_bias, task.norm_bias_sums());
  all.weights.in = sums.matrix(task.in_sums(), task.maps(), task.width);
  all.weights.in_bias = bias(weights.in_bias, task.in_bias_sums());
  all.weights.out = sums.transposed(task.out_sums(), task.hidden, task.width);
  all.weights.out_bias = bias(weights.out_bias, task.out_bias_sums());
  return all;
}

bool takes_feed_forward(const Tensor& x) {
  constexpr int64_t kOneDnnWidth = 512;  // from here on its bf16 products win
  const bool native = wants_bf16(x) && operands_here(Operands::kBf16) == Operands::kBf16;
  return !native || x.size(-1) < kOneDnnWidth;
}

}  // namespace lf::cpu
