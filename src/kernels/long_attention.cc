#include "kernels/long_attention.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "kernels/cpu/chunk_sums.h"
#include "kernels/cpu/long_attention_blocks.h"
#include "kernels/dispatch.h"
#include "kernels/work.h"

namespace lf {
namespace {

using at::Tensor;
using Tensors = std::vector<Tensor>;

// Measured against LibTorch's fused kernel, to which wider heads give enough to do.
constexpr int64_t kFewestTokens = 64, kWidest = 64, kTokensPerWidth = 4;

LongAttentionTask task_of(const Tensor& q, const Tensor& k, const Tensor& v, double scale) {
  LongAttentionTask task{};
  task.tokens = q.size(-2);
  task.width = q.size(-1);
  task.sequences = q.numel() / (task.tokens * task.width);
  task.scale = static_cast<float>(scale);
  task.query = q.const_data_ptr<float>();
  task.key = k.const_data_ptr<float>();
  task.value = v.const_data_ptr<float>();
  return task;
}

class LongAttention : public torch::autograd::Function<LongAttention> {
 public:
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& q, const Tensor& k,
                        const Tensor& v, double scale) {
    const Tensor query = plain_weight(q), key = plain_weight(k), value = plain_weight(v);
    LongAttentionTask task = task_of(query, key, value, scale);
    const Tensor mixed = at::empty_like(query);
    const Tensor logs = at::empty({task.sequences, task.logs_row()}, at::kFloat);
    task.mixed = mixed.mutable_data_ptr<float>();
    task.logs = logs.mutable_data_ptr<float>();
    LF_RECORD_WORK("long_attention", task.flops());
    const int64_t blocks = task.blocks();
    over_threads(task.sequences * blocks, Operands::kSingle,
                 [&](int64_t unit) { long_attention_block(task, unit / blocks, unit % blocks); });
    context->saved_data["scale"] = scale;
    context->save_for_backward({query, key, value, mixed, logs});
    return mixed.to(v.scalar_type());
  }

  static Tensors backward(torch::autograd::AutogradContext* context, const Tensors& gradients) {
    refuse_gradients_of_gradients();
    const Tensors saved = context->get_saved_variables();
    LongAttentionTask task =
        task_of(saved[0], saved[1], saved[2], context->saved_data["scale"].toDouble());
    task.mixed = saved[3].mutable_data_ptr<float>();
    task.logs = saved[4].mutable_data_ptr<float>();
    const Tensor slope = plain_weight(gradients[0]);
    task.slope = slope.const_data_ptr<float>();
    const Tensors slopes = {at::empty_like(saved[0]), at::empty_like(saved[1]),
                            at::empty_like(saved[2])};
    task.query_slope = slopes[0].mutable_data_ptr<float>();
    task.key_slope = slopes[1].mutable_data_ptr<float>();
    task.value_slope = slopes[2].mutable_data_ptr<float>();
    LF_RECORD_WORK("long_attention_backward", 5 * task.flops() / 2);
    over_threads(task.sequences, Operands::kSingle,
                 [&](int64_t sequence) { long_attention_back(task, sequence); });
    return {slopes[0], slopes[1], slopes[2], {}};
  }
};

}  // namespace

bool takes_long_attention(const KernelChoice& kernels, const Tensor& q, const Tensor& k,
                          const Tensor& v) {
  return q.is_cpu() && target_of(kernels, Operation::kLongAttention, v) != Target::kPlain &&
         q.size(-2) >= std::max(kFewestTokens, kTokensPerWidth * q.size(-1)) &&
         q.size(-1) <= kWidest && q.numel() > 0 && q.sizes() == k.sizes() && q.sizes() == v.sizes();
}

Tensor long_attention(const Tensor& q, const Tensor& k, const Tensor& v, double scale) {
  return LongAttention::apply(q, k, v, scale);
}

}  // namespace lf
