#include "kernels/feed_forward.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/cpu/chunk_sums.h"
#include "kernels/cpu/feed_forward_tiles.h"
#include "kernels/dispatch.h"
#include "kernels/gpu/forms.h"
#include "kernels/work.h"

namespace lf {
namespace {

using at::Tensor;
using Maybe = std::optional<Tensor>;  // a weight that a layer may do without
using Tensors = std::vector<Tensor>;

// Larger ones are computed again in backward.
constexpr int64_t kMostKept = int64_t{64} << 20;  // floats

// A task over tensors, which it keeps alive.
struct Call {
  Call(const at::Tensor& x, const FeedForwardWeights& weights, Operands operands)
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
    task.half_rows = x.scalar_type() == at::kBFloat16;
    task.operands = operands;
    task.norm = {norm_weight.const_data_ptr<float>(), data_or_null(norm_bias),
                 static_cast<float>(weights.epsilon)};
    task.in = left_of(in, operands, copies);
    task.out = left_of(out, operands, copies);
    task.in_bias = data_or_null(in_bias);
    task.out_bias = data_or_null(out_bias);
    task.x = x.const_data_ptr();
  }
  at::Tensor norm_weight, norm_bias, in, in_bias, out, out_bias;
  Tensors copies;
  FeedForwardTask task{};
};

at::Tensor forward_of(Call& call, const at::Tensor& x, const at::Tensor& kept) {
  at::Tensor y = at::empty_like(x);
  FeedForwardTask& task = call.task;
  task.y = y.mutable_data_ptr();
  task.kept = kept.defined() ? kept.mutable_data_ptr<float>() : nullptr;
  LF_RECORD_WORK("feed_forward", task.flops());
  over_threads(task.tiles(), task.operands, [&](int64_t tile) { feed_forward_tile(task, tile); });
  return y;
}

FeedForwardWeights weights_of(const Tensors& saved, bool gated, double epsilon) {
  return {saved[1], saved[2], saved[3], saved[4], saved[5], saved[6], gated, epsilon};
}

class FeedForward : public torch::autograd::Function<FeedForward> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& norm_weight, const Maybe& norm_bias,
                            const at::Tensor& in, const Maybe& in_bias, const at::Tensor& out,
                            const Maybe& out_bias, bool gated, double epsilon) {
    const Operands operands = operands_for(x);
    const Tensors given = {x,
                           norm_weight,
                           norm_bias.value_or(Tensor()),
                           in,
                           in_bias.value_or(Tensor()),
                           out,
                           out_bias.value_or(Tensor())};
    Call call(x, weights_of(given, gated, epsilon), operands);
    at::Tensor kept;
    if (call.task.kept_size() <= kMostKept) kept = at::empty({call.task.kept_size()}, at::kFloat);
    context->saved_data["gated"] = gated;
    context->saved_data["epsilon"] = epsilon;
    context->saved_data["half"] = operands == Operands::kBfloat16;
    Tensors saved = given;
    saved.push_back(kept);
    context->save_for_backward(saved);
    return forward_of(call, x, kept);
  }

  static Tensors backward(torch::autograd::AutogradContext* context, const Tensors& gradients) {
    refuse_gradients_of_gradients();
    const Tensors saved = context->get_saved_variables();
    const bool half = context->saved_data["half"].toBool();
    Call call(saved[0],
              weights_of(saved, context->saved_data["gated"].toBool(),
                         context->saved_data["epsilon"].toDouble()),
              half ? Operands::kBfloat16 : Operands::kSingle);
    FeedForwardTask& task = call.task;
    task.in_back = turned_left_of(call.in, task.operands, call.copies);
    task.out_back = turned_left_of(call.out, task.operands, call.copies);
    const at::Tensor dy = gradients[0].to(saved[0].scalar_type()).contiguous();
    const at::Tensor dx = at::empty_like(saved[0]);
    task.dy = dy.const_data_ptr();
    task.dx = dx.mutable_data_ptr();
    task.kept = saved[7].defined() ? saved[7].mutable_data_ptr<float>() : nullptr;
    LF_RECORD_WORK("feed_forward_backward", 2 * task.flops());
    const ChunkSums sums(task.chunks(), task.sums_size());
    task.sums = sums.data();
    over_threads(task.chunks(), task.operands,
                 [&](int64_t chunk) { feed_forward_chunk_back(task, chunk); });
    const auto bias = [&](const at::Tensor& given, int64_t at) {
      return given.defined() ? sums.lanes(at, given.numel()) : at::Tensor();
    };
    return {dx,
            sums.lanes(task.norm_sums(), task.width),
            bias(saved[2], task.norm_bias_sums()),
            sums.matrix(task.in_sums(), task.maps(), task.width),
            bias(saved[4], task.in_bias_sums()),
            sums.turned(task.out_sums(), task.hidden, task.width),
            bias(saved[6], task.out_bias_sums()),
            {},
            {}};
  }
};

}  // namespace

at::Tensor feed_forward_reference(const at::Tensor& x, const FeedForwardWeights& weights) {
  const auto linear = [](const at::Tensor& rows, const at::Tensor& weight, const at::Tensor& bias) {
    return bias.defined() ? at::linear(rows, weight, bias) : at::linear(rows, weight);
  };
  const at::Tensor h = linear(
      at::layer_norm(x, {x.size(-1)}, weights.norm_weight, weights.norm_bias, weights.epsilon),
      weights.in, weights.in_bias);
  if (!weights.gated) return x + linear(at::gelu(h), weights.out, weights.out_bias);
  const std::vector<at::Tensor> halves = h.chunk(2, -1);
  return x + linear(halves[0] * at::gelu(halves[1]), weights.out, weights.out_bias);
}

at::Tensor feed_forward(const KernelChoice& kernels, const at::Tensor& x,
                        const FeedForwardWeights& weights) {
  const Target target = target_of(kernels, Operation::kFeedForward, x);
  if (target == Target::kPlain || x.numel() == 0 ||
      (target == Target::kGpu && !device_takes_rows(x))) {
    return feed_forward_reference(x, weights);
  }
  const at::Tensor rows = x.contiguous();
  if (target == Target::kGpu) return device_feed_forward(rows, weights);
  if (wants_gradient({x, weights.norm_weight, weights.norm_bias, weights.in, weights.in_bias,
                      weights.out, weights.out_bias})) {
    return FeedForward::apply(rows, weights.norm_weight, Maybe(weights.norm_bias), weights.in,
                              Maybe(weights.in_bias), weights.out, Maybe(weights.out_bias),
                              weights.gated, weights.epsilon);
  }
  Call call(rows, weights, operands_for(rows));
  return forward_of(call, rows, {});
}

}  // namespace lf
