#include "kernels/convolution.h"

#include <ATen/cpu/Utils.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/conv2d.h>
#include <torch/csrc/autograd/custom_function.h>

#include "base/error.h"
#include "kernels/cpu/task.h"
#include "kernels/forms.h"

namespace lf {
namespace {

using at::Tensor;

constexpr int64_t kFewestChannels = 8;

class Convolution : public torch::autograd::Function<Convolution> {
 public:
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& images,
                        int64_t frames, const Tensor& weight, const Maybe& bias) {
    context->saved_data["bias"] = bias && bias->defined();
    context->saved_data["frames"] = frames;
    context->save_for_backward({images, weight});
    return cpu::convolution(images, frames, weight, bias.value_or(Tensor()));
  }

  static Tensors backward(torch::autograd::AutogradContext* context, const Tensors& gradients) {
    refuse_gradients_of_gradients();
    const Tensors saved = context->get_saved_variables();
    const cpu::ConvolutionGradients d = cpu::convolution_back(
        saved[0], context->saved_data["frames"].toInt(), saved[1], gradients[0],
        context->needs_input_grad(0), context->saved_data["bias"].toBool());
    return {d.images, {}, d.weight, d.bias};
  }
};

// Single precision, or bf16 where this CPU is at most twice as fast in it.
bool faster(const Tensor& images) {
  static const bool tiles = at::cpu::init_amx();
  return images.scalar_type() == at::kBFloat16
             ? !tiles
             : operands_of(wants_bf16(images)) == Operands::kSingle;
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
  const Tensor x = images.contiguous(at::MemoryFormat::ChannelsLast);
  if (wants_gradient({x, weight, bias})) return Convolution::apply(x, frames, weight, Maybe(bias));
  return cpu::convolution(x, frames, weight, bias);
}

}  // namespace lf
