#include "kernels/norm_silu.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/silu.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>

#include "base/error.h"
#include "kernels/cpu/chunk_sums.h"
#include "kernels/cpu/norm_silu_images.h"
#include "kernels/dispatch.h"
#include "kernels/gpu/forms.h"
#include "kernels/work.h"

namespace lf {
namespace {

using at::Tensor;
using Maybe = std::optional<Tensor>;
using Tensors = std::vector<Tensor>;

struct Call {
  Call(const Tensor& x, const NormKind& kind, const Tensor& given_gain, const Tensor& given_shift)
      : gain(plain_weight(given_gain)), shift(plain_weight(given_shift)) {
    task.images = x.size(0);
    task.places = x.size(1);
    task.channels = x.size(2);
    task.groups = kind.groups;
    task.shared = x.size(0) / gain.size(0);
    task.epsilon = static_cast<float>(kind.epsilon);
    task.silu = kind.silu;
    task.half = x.scalar_type() == at::kBFloat16;
    task.gain = gain.const_data_ptr<float>();
    task.shift = shift.const_data_ptr<float>();
    task.x = x.const_data_ptr();
  }
  Tensor gain, shift;
  NormSiluTask task{};
};

Tensor forward_of(const Tensor& x, const NormKind& kind, const Tensor& gain, const Tensor& shift,
                  const Tensor& residual) {
  Call call(x, kind, gain, shift);
  Tensor y = at::empty_like(x);
  call.task.residual = residual.defined() ? residual.const_data_ptr() : nullptr;
  call.task.y = y.mutable_data_ptr();
  LF_RECORD_WORK("norm_silu", 0);
  over_threads(call.task.images, Operands::kSingle,
               [&](int64_t image) { norm_silu_image(call.task, image); });
  return y;
}

class NormSilu : public torch::autograd::Function<NormSilu> {
 public:
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& x, int64_t groups,
                        double epsilon, bool silu, const Tensor& gain, const Tensor& shift,
                        const Maybe& residual) {
    context->saved_data["groups"] = groups;
    context->saved_data["epsilon"] = epsilon;
    context->saved_data["silu"] = silu;
    context->saved_data["residual"] = residual && residual->defined();
    context->save_for_backward({x, gain, shift});
    return forward_of(x, {groups, epsilon, silu}, gain, shift, residual.value_or(Tensor()));
  }

  static Tensors backward(torch::autograd::AutogradContext* context, const Tensors& gradients) {
    refuse_gradients_of_gradients();
    const Tensors saved = context->get_saved_variables();
    const Tensor& x = saved[0];
    Call call(x,
              {context->saved_data["groups"].toInt(), context->saved_data["epsilon"].toDouble(),
               context->saved_data["silu"].toBool()},
              saved[1], saved[2]);
    NormSiluTask& task = call.task;
    const Tensor dy = gradients[0].to(x.scalar_type()).contiguous(), dx = at::empty_like(x);
    const Tensor sums = at::empty({task.images, 2, task.channels}, at::kFloat);
    task.dy = dy.const_data_ptr();
    task.dx = dx.mutable_data_ptr();
    task.sums = sums.mutable_data_ptr<float>();
    LF_RECORD_WORK("norm_silu_backward", 0);
    over_threads(task.images, Operands::kSingle,
                 [&](int64_t image) { norm_silu_image_back(task, image); });
    const Tensor rows = sums.view({-1, task.shared, 2, task.channels}).sum(1);
    const auto as = [&](int64_t which, const Tensor& weight) {
      return rows.select(1, which).to(weight.scalar_type());
    };
    return {dx,
            {},
            {},
            {},
            as(0, saved[1]),
            as(1, saved[2]),
            context->saved_data["residual"].toBool() ? gradients[0] : Tensor()};
  }
};

// [M, C] to [N, 1, C].
Tensor for_images(const Tensor& rows, int64_t images) {
  const int64_t shared = images / rows.size(0);
  return rows.unsqueeze(1).expand({-1, shared, -1}).reshape({images, 1, -1});
}

}  // namespace

Tensor norm_silu_reference(const Tensor& x_NPC, const NormKind& kind, const Tensor& gain,
                           const Tensor& shift, const Tensor& residual) {
  const int64_t images = x_NPC.size(0);
  const bool half = at::isReducedFloatingType(x_NPC.scalar_type());
  const Tensor x = half ? x_NPC.to(at::kFloat) : x_NPC;
  Tensor normal;
  if (kind.groups > 0) {
    normal = at::group_norm(x.transpose(1, 2), kind.groups, {}, {}, kind.epsilon).transpose(1, 2);
  } else {
    const double root = std::sqrt(static_cast<double>(x.size(2)));
    normal = x * (root / at::linalg_vector_norm(x, 2, at::IntArrayRef{-1}, true).clamp_min(1e-12));
  }
  Tensor y = normal * for_images(gain, images) + for_images(shift, images);
  if (kind.silu) y = at::silu(y);
  return (residual.defined() ? y + residual : y).to(x_NPC.scalar_type());
}

Tensor norm_silu(const KernelChoice& kernels, const Tensor& x_NPC, const NormKind& kind,
                 const Tensor& gain, const Tensor& shift, const Tensor& residual) {
  LF_CHECK(x_NPC.dim() == 3 && gain.size(0) > 0 && x_NPC.size(0) % gain.size(0) == 0 &&
               gain.sizes() == shift.sizes() && gain.size(1) == x_NPC.size(2) &&
               (kind.groups == 0 || x_NPC.size(2) % kind.groups == 0),
           "a norm whose gain, shift or groups do not fit its images");
  const Target target = target_of(kernels, Operation::kNormSilu, x_NPC);
  if (target == Target::kPlain || x_NPC.numel() == 0 ||
      (target == Target::kGpu && !device_takes_rows(x_NPC))) {
    return norm_silu_reference(x_NPC, kind, gain, shift, residual);
  }
  const Tensor x = x_NPC.contiguous();
  const Tensor added = residual.defined() ? residual.to(x.scalar_type()).contiguous() : residual;
  if (target == Target::kGpu) return device_norm_silu(x, kind, gain, shift, added);
  if (wants_gradient({x, gain, shift, added})) {
    return NormSilu::apply(x, kind.groups, kind.epsilon, kind.silu, gain, shift, Maybe(added));
  }
  return forward_of(x, kind, gain, shift, added);
}

}  // namespace lf
