#include "kernels/convolution.h"

#include <ATen/cpu/Utils.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include "base/error.h"
#include "kernels/cpu/chunk_sums.h"
#include "kernels/cpu/convolution_filters.h"
#include "kernels/cpu/convolution_tiles.h"
#include "kernels/dispatch.h"
#include "kernels/work.h"

namespace lf {
namespace {

using at::Tensor;
using Maybe = std::optional<Tensor>;
using Tensors = std::vector<Tensor>;

constexpr int64_t kFewestChannels = 8;

Tensor channels_last(const Tensor& images) {
  return images.contiguous(at::MemoryFormat::ChannelsLast);
}

Tensor sums_of(const ConvolutionTask& task, const Tensor& weight, bool turned) {
  const Tensor plain = channels_last(weight.detach().to(at::kFloat));
  Tensor sums = at::empty({kSums, turned ? task.turned_size() : task.filter_size()}, at::kFloat);
  const auto* from = plain.const_data_ptr<float>();
  auto* to = sums.mutable_data_ptr<float>();
  over_threads(filter_blocks(task), Operands::kSingle, [&](int64_t block) {
    (turned ? turned_filter_sums : filter_sums)(task, from, block, to);
  });
  return sums;
}

Tensor weight_slopes(const ConvolutionTask& task, const Tensor& weight) {
  Tensor slopes = at::empty(weight.sizes(), at::kFloat, at::MemoryFormat::ChannelsLast);
  auto* to = slopes.mutable_data_ptr<float>();
  over_threads(filter_blocks(task), Operands::kSingle,
               [&](int64_t block) { filter_sums_back(task, block, to); });
  return slopes;
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
  task.half = images.scalar_type() == at::kBFloat16;
  task.x = images.const_data_ptr();
  return task;
}

Tensor forward_of(const Tensor& images, int64_t frames, const Tensor& weight, const Tensor& bias) {
  ConvolutionTask task = task_of(images, weight, frames);
  LF_RECORD_WORK("convolution", task.flops());
  const Tensor sums = sums_of(task, weight, false), shift = plain_weight(bias);
  Tensor y = at::empty({images.size(0), task.out, task.height, task.width},
                       images.options().memory_format(at::MemoryFormat::ChannelsLast));
  task.filters = sums.const_data_ptr<float>();
  task.bias = data_or_null(shift);
  task.y = y.mutable_data_ptr();
  over_threads(task.strips(), Operands::kSingle,
               [&](int64_t strip) { convolution_strip(task, strip); });
  return y;
}

class Convolution : public torch::autograd::Function<Convolution> {
 public:
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& images,
                        int64_t frames, const Tensor& weight, const Maybe& bias) {
    context->saved_data["bias"] = bias && bias->defined();
    context->saved_data["frames"] = frames;
    context->save_for_backward({images, weight});
    return forward_of(images, frames, weight, bias.value_or(Tensor()));
  }

  static Tensors backward(torch::autograd::AutogradContext* context, const Tensors& gradients) {
    refuse_gradients_of_gradients();
    const Tensors saved = context->get_saved_variables();
    const Tensor &images = saved[0], &weight = saved[1];
    ConvolutionTask task = task_of(images, weight, context->saved_data["frames"].toInt());
    const bool wanted = context->needs_input_grad(0);
    LF_RECORD_WORK("convolution_backward", (wanted ? 2 : 1) * task.flops());
    const Tensor dy = channels_last(gradients[0].to(images.scalar_type()));
    task.dy = dy.const_data_ptr();
    Tensor dx, single, turned;
    if (wanted) {
      dx = at::empty_like(images);
      single = task.half ? at::empty_like(images, at::kFloat) : dx;
      turned = sums_of(task, weight, true);
      task.dx = dx.mutable_data_ptr();
      task.dx_single = single.mutable_data_ptr<float>();
      task.filters_turned = turned.const_data_ptr<float>();
    }
    const ChunkSums sums(task.chunks(), task.sums_size());
    task.sums = sums.data();
    over_threads(task.chunks(), Operands::kSingle,
                 [&](int64_t chunk) { convolution_chunk_back(task, chunk); });
    return {
        dx,
        {},
        weight_slopes(task, weight),
        context->saved_data["bias"].toBool() ? sums.plain(task.bias_sums(), task.out) : Tensor()};
  }
};

// Single precision, or bfloat16 where this CPU multiplies it no faster than twice as fast.
bool faster(const Tensor& images) {
  static const bool tiles = at::cpu::init_amx();
  return images.scalar_type() == at::kBFloat16 ? !tiles : operands_for(images) == Operands::kSingle;
}

}  // namespace

Tensor with_neighbours(const Tensor& images, int64_t frames) {
  const Tensor x_BTHWC = images.permute({0, 2, 3, 1}).unflatten(0, {-1, frames});
  const Tensor padded = at::constant_pad_nd(x_BTHWC, {0, 0, 0, 0, 0, 0, 1, 1});
  return at::cat({padded.slice(1, 0, frames), x_BTHWC, padded.slice(1, 2)}, -1)
      .flatten(0, 1)
      .permute({0, 3, 1, 2});
}

Tensor convolution_reference(const Tensor& images, const Tensor& weight, const Tensor& bias,
                             int64_t frames) {
  const Tensor x = weight.size(1) == images.size(1) ? images : with_neighbours(images, frames);
  return at::conv2d(x, weight, bias.defined() ? Maybe(bias) : Maybe(), 1, 1);
}

Tensor convolution(const KernelChoice& kernels, const Tensor& images, const Tensor& weight,
                   const Tensor& bias, int64_t frames) {
  LF_CHECK(images.dim() == 4 && weight.dim() == 4 && weight.size(2) == 3 && weight.size(3) == 3 &&
               (weight.size(1) == images.size(1) ||
                (weight.size(1) == 3 * images.size(1) && images.size(0) % frames == 0)),
           "a convolution whose filters do not fit its images");
  if (target_of(kernels, Operation::kConvolution, images) == Target::kPlain ||
      images.numel() == 0 || !faster(images) ||
      std::min(weight.size(0), images.size(1)) < kFewestChannels) {
    return convolution_reference(images, weight, bias, frames);
  }
  const Tensor x = channels_last(images);
  if (wants_gradient({x, weight, bias})) return Convolution::apply(x, frames, weight, Maybe(bias));
  return forward_of(x, frames, weight, bias);
}

}  // namespace lf
