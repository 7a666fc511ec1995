// long_attention() on a CPU: tensors to tasks of long_attention_blocks.h.
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include "kernels/cpu/long_attention_blocks.h"
#include "kernels/cpu/task.h"
#include "kernels/forms.h"
#include "kernels/work.h"

namespace lf::cpu {
namespace {

using at::Tensor;

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

}  // namespace

Made long_attention(const Tensor& query, const Tensor& key, const Tensor& value, double scale) {
  LongAttentionTask task = task_of(query, key, value, scale);
  const Tensor mixed = at::empty_like(query);
  const Tensor logs = at::empty({task.sequences, task.logs_row()}, at::kFloat);
  task.mixed = mixed.mutable_data_ptr<float>();
  task.logs = logs.mutable_data_ptr<float>();
  LF_RECORD_WORK("long_attention", task.flops());
  const int64_t blocks = task.blocks();
  over_threads(task.sequences * blocks, Operands::kSingle,
               [&](int64_t unit) { long_attention_block(task, unit / blocks, unit % blocks); });
  return {mixed, {logs}};
}

Tensors long_attention_back(const Tensor& query, const Tensor& key, const Tensor& value,
                            double scale, const Tensor& mixed, const Tensor& logs,
                            const Tensor& dy) {
  LongAttentionTask task = task_of(query, key, value, scale);
  task.mixed = mixed.mutable_data_ptr<float>();
  task.logs = logs.mutable_data_ptr<float>();
  task.gradient = dy.const_data_ptr<float>();
  Tensors all = {at::empty_like(query), at::empty_like(key), at::empty_like(value)};
  task.query_gradient = all[0].mutable_data_ptr<float>();
  task.key_gradient = all[1].mutable_data_ptr<float>();
  task.value_gradient = all[2].mutable_data_ptr<float>();
  LF_RECORD_WORK("long_attention_backward", 5 * task.flops() / 2);
  over_threads(task.sequences, Operands::kSingle,
               [&](int64_t sequence) { long_attention_back(task, sequence); });
  return all;
}

}  // namespace lf::cpu
