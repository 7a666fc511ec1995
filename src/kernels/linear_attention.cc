#include "kernels/linear_attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <torch/csrc/autograd/custom_function.h>

#include "base/error.h"
#include "kernels/cpu/chunk_sums.h"
#include "kernels/cpu/linear_attention_frames.h"
#include "kernels/dispatch.h"
#include "kernels/gpu/forms.h"
#include "kernels/work.h"

namespace lf {
namespace {

using at::Tensor;
using Maybe = std::optional<Tensor>;  // a weight that a layer may do without
using Tensors = std::vector<Tensor>;

Tensor with_row(const Tensor& matrix, int64_t row) {
  return at::constant_pad_nd(matrix, {0, row - matrix.size(1)}).contiguous();
}

// A task over tensors, which it keeps alive.
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
    task.half_rows = x.scalar_type() == at::kBFloat16;
    task.operands = operands;
    task.norm = {norm_weight.const_data_ptr<float>(), data_or_null(norm_bias),
                 static_cast<float>(weights.epsilon)};
    task.query = left_of(part(0), operands, copies);
    task.key = left_of(part(1), operands, copies);
    task.value_turned = keep(with_row(part(2).t(), task.out_row()));
    task.out_turned = keep(with_row(out.t(), task.lined()));
    task.out_bias = data_or_null(out_bias);
    task.scale = static_cast<float>(weights.scale);
    task.x = x.const_data_ptr();
  }

  void prepare_back() {
    task.value = keep(with_row(part(2), task.lined()));
    task.out = keep(with_row(out, task.out_row()));
    task.query_back = turned_heads(part(0));
    task.key_back = turned_heads(part(1));
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
  // Turned round, with bfloat16 copies a head.
  Left turned_heads(const Tensor& weight) {
    Left left{weight.const_data_ptr<float>(), 1, weight.size(1)};
    if (task.operands == Operands::kSingle) return left;
    const int64_t size = half_left_size(task.width, task.head_width);
    copies.push_back(at::empty({task.heads, size}, at::kBFloat16));
    auto* half = static_cast<Half*>(copies.back().mutable_data_ptr());
    for (int64_t h = 0; h < task.heads; ++h) {
      const Left head{left.data + h * task.head_width * task.width, 1, task.width};
      half_left(head, task.width, task.head_width, half + h * size);
    }
    left.half = half;
    return left;
  }
};

Tensor forward_of(Call& call, const Tensor& x, const Tensor& kept) {
  Tensor y = at::empty_like(x);
  LinearAttentionTask& task = call.task;
  task.y = y.mutable_data_ptr();
  task.kept = kept.defined() ? kept.mutable_data_ptr<float>() : nullptr;
  LF_RECORD_WORK("linear_attention", task.flops());
  over_threads(task.frames, task.operands,
               [&](int64_t frame) { linear_attention_frame(task, frame); });
  return y;
}

class LinearAttention : public torch::autograd::Function<LinearAttention> {
 public:
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& x,
                        const Tensor& norm_weight, const Maybe& norm_bias, const Tensor& maps,
                        const Tensor& out, const Maybe& out_bias, int64_t heads, double scale,
                        double epsilon) {
    const Operands operands = operands_for(x);
    Tensors saved = {x,    norm_weight, norm_bias.value_or(Tensor()),
                     maps, out,         out_bias.value_or(Tensor())};
    context->saved_data["heads"] = heads;
    context->saved_data["scale"] = scale;
    context->saved_data["epsilon"] = epsilon;
    context->saved_data["half"] = operands == Operands::kBfloat16;
    Call call(x, {norm_weight, saved[2], maps, out, saved[5], heads, scale, epsilon}, operands);
    saved.push_back(at::empty({call.task.frames, call.task.kept_size()}, at::kFloat));
    context->save_for_backward(saved);
    return forward_of(call, x, saved.back());
  }

  static Tensors backward(torch::autograd::AutogradContext* context, const Tensors& gradients) {
    refuse_gradients_of_gradients();
    const Tensors saved = context->get_saved_variables();
    auto& data = context->saved_data;
    Call call(saved[0],
              {saved[1], saved[2], saved[3], saved[4], saved[5], data["heads"].toInt(),
               data["scale"].toDouble(), data["epsilon"].toDouble()},
              data["half"].toBool() ? Operands::kBfloat16 : Operands::kSingle);
    call.prepare_back();
    LinearAttentionTask& task = call.task;
    const Tensor dy = gradients[0].to(saved[0].scalar_type()).contiguous();
    const Tensor dx = at::empty_like(saved[0]);
    task.dy = dy.const_data_ptr();
    task.dx = dx.mutable_data_ptr();
    task.kept = saved[6].mutable_data_ptr<float>();
    LF_RECORD_WORK("linear_attention_backward", 2 * task.flops());
    const ChunkSums sums(task.chunks(), task.sums_size());
    task.sums = sums.data();
    over_threads(task.chunks(), task.operands,
                 [&](int64_t chunk) { linear_attention_chunk_back(task, chunk); });
    const auto bias = [&](const Tensor& given, int64_t at) {
      return given.defined() ? sums.lanes(at, given.numel()) : Tensor();
    };
    return {dx,
            sums.lanes(task.norm_sums(), task.width),
            bias(saved[2], task.norm_bias_sums()),
            sums.matrix(task.map_sums(), 3 * task.wide(), task.width),
            sums.turned(task.out_sums(), task.wide(), task.width),
            bias(saved[5], task.out_bias_sums()),
            {},
            {},
            {}};
  }
};

}  // namespace

Tensor linear_attention_reference(const Tensor& x_NPC, const LinearAttentionWeights& weights) {
  const Tensor normal = at::layer_norm(x_NPC, {x_NPC.size(2)}, weights.norm_weight,
                                       weights.norm_bias, weights.epsilon);
  std::vector<Tensor> parts;  // [N, heads, P, head width]
  for (const Tensor& part : at::linear(normal, weights.query_key_value).chunk(3, -1)) {
    parts.push_back(part.unflatten(2, {weights.heads, -1}).transpose(1, 2));
  }
  const Tensor query = parts[0].softmax(-1) * weights.scale, key = parts[1].softmax(-2);
  const Tensor context = key.transpose(-1, -2).matmul(parts[2]);
  const Tensor mixed = query.to(context.scalar_type()).matmul(context).transpose(1, 2).flatten(2);
  return x_NPC + (weights.out_bias.defined() ? at::linear(mixed, weights.out, weights.out_bias)
                                             : at::linear(mixed, weights.out));
}

Tensor linear_attention(const KernelChoice& kernels, const Tensor& x_NPC,
                        const LinearAttentionWeights& weights) {
  LF_CHECK(x_NPC.dim() == 3 && weights.out.size(1) % weights.heads == 0 &&
               weights.query_key_value.size(0) == 3 * weights.out.size(1),
           "weights of linear attention that do not fit each other");
  const Target target = target_of(kernels, Operation::kLinearAttention, x_NPC);
  if (target == Target::kPlain || x_NPC.numel() == 0) {
    return linear_attention_reference(x_NPC, weights);
  }
  if (target == Target::kGpu) {
    return device_takes_linear_attention(x_NPC, weights)
               ? device_linear_attention(x_NPC.contiguous(), weights)
               : linear_attention_reference(x_NPC, weights);
  }
  const Tensor x = x_NPC.contiguous();
  const LinearAttentionWeights& w = weights;
  if (wants_gradient({x, w.norm_weight, w.norm_bias, w.query_key_value, w.out, w.out_bias})) {
    return LinearAttention::apply(x, w.norm_weight, Maybe(w.norm_bias), w.query_key_value, w.out,
                                  Maybe(w.out_bias), w.heads, w.scale, w.epsilon);
  }
  Call call(x, weights, operands_for(x));
  return forward_of(call, x, {});
}

}  // namespace lf
