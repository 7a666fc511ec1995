// convolution() on a CPU: tensors to tasks of convolution_tiles.h.
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include "kernels/cpu/convolution_filters.h"
#include "kernels/cpu/convolution_tiles.h"
#include "kernels/cpu/partial_sums.h"
#include "kernels/cpu/task.h"
#include "kernels/forms.h"
#include "kernels/work.h"

namespace lf::cpu {
namespace {

using at::Tensor;

Tensor channels_last(const Tensor& images) {
  return images.contiguous(at::MemoryFormat::ChannelsLast);
}

Tensor transformed_filters(const ConvolutionTask& task, const Tensor& weight, bool transposed) {
  const Tensor plain = channels_last(weight.detach().to(at::kFloat));
  Tensor made = at::empty({kTransformed, transposed ? task.transposed_size() : task.filter_size()},
                          at::kFloat);
  const auto* from = plain.const_data_ptr<float>();
  auto* to = made.mutable_data_ptr<float>();
  over_threads(filter_blocks(task), Operands::kSingle, [&](int64_t block) {
    (transposed ? transform_transposed_filters : transform_filters)(task, from, block, to);
  });
  return made;
}

Tensor weight_gradients(const ConvolutionTask& task, const Tensor& weight) {
  Tensor gradients = at::empty(weight.sizes(), at::kFloat, at::MemoryFormat::ChannelsLast);
  auto* to = gradients.mutable_data_ptr<float>();
  over_threads(filter_blocks(task), Operands::kSingle,
               [&](int64_t block) { transform_filters_back(task, block, to); });
  return gradients;
}

ConvolutionTask task_of(const Tensor& images, const Tensor& weight, int64_t frames) {
  ConvolutionTask task{};
  task.taps = weight.size(1) / images.size(1);
  task.frames = task.taps > 1 ? frames : 1;
  task.clips = images.size(0) / task.frames;
  task.height = images.size(2);
  task.width = images.size(3);
  task.in = images.size(1);
  task.out = weight.size(0);
  task.bf16_rows = images.scalar_type() == at::kBFloat16;
  task.x = images.const_data_ptr();
  return task;
}

}  // namespace

Tensor convolution(const Tensor& images, int64_t frames, const Tensor& weight, const Tensor& bias) {
  ConvolutionTask task = task_of(images, weight, frames);
  LF_RECORD_WORK("convolution", task.flops());
  const Tensor filters = transformed_filters(task, weight, false), shift = plain_weight(bias);
  Tensor y = at::empty({images.size(0), task.out, task.height, task.width},
                       images.options().memory_format(at::MemoryFormat::ChannelsLast));
  task.filters = filters.const_data_ptr<float>();
  task.bias = data_or_null(shift);
  task.y = y.mutable_data_ptr();
  over_threads(task.strips(), Operands::kSingle,
               [&](int64_t strip) { convolution_strip(task, strip); });
  return y;
}

ConvolutionGradients convolution_back(const Tensor& images, int64_t frames, const Tensor& weight,
                                      const Tensor& given, bool of_images, bool of_bias) {
  ConvolutionTask task = task_of(images, weight, frames);
  LF_RECORD_WORK("convolution_backward", (of_images ? 2 : 1) * task.flops());
  const Tensor dy = channels_last(given.to(images.scalar_type()));
  task.dy = dy.const_data_ptr();
  Tensor dx, single, transposed;
  if (of_images) {
    dx = at::empty_like(images);
    single = task.bf16_rows ? at::empty_like(images, at::kFloat) : dx;
    transposed = transformed_filters(task, weight, true);
    task.dx = dx.mutable_data_ptr();
    task.dx_single = single.mutable_data_ptr<float>();
    task.filters_transposed = transposed.const_data_ptr<float>();
  }
  const PartialSums sums(task.chunks(), task.sums_size());
  task.sums = sums.data();
  over_threads(task.chunks(), Operands::kSingle,
               [&](int64_t chunk) { convolution_chunk_back(task, chunk); });
  return {dx, weight_gradients(task, weight),
          of_bias ? sums.plain(task.bias_sums(), task.out) : Tensor()};
}

}  // namespace lf::cpu
