#include "kernels/norm_silu.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/silu.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>

#include "base/error.h"
#include "kernels/forms.h"

namespace lf {
namespace {

using at::Tensor;

class NormSilu : public torch::autograd::Function<NormSilu> {
 public:
  static Tensor forward(torch::autograd::AutogradContext* context, bool gpu, const Tensor& x,
                        int64_t groups, double epsilon, bool silu, const Tensor& gain,
                        const Tensor& shift, const Maybe& residual) {
    const NormKind kind{groups, epsilon, silu};
    const Tensor added = residual.value_or(Tensor());
    const Made made = gpu ? gpu::norm_silu(kind, x, gain, shift, added)
                          : cpu::norm_silu(kind, x, gain, shift, added);
    auto& data = context->saved_data;
    data["gpu"] = gpu;
    data["groups"] = groups;
    data["epsilon"] = epsilon;
    data["silu"] = silu;
    data["residual"] = added.defined();
    Tensors saved = {x, gain, shift};
    saved.insert(saved.end(), made.kept.begin(), made.kept.end());
    context->save_for_backward(saved);
    return made.y;
  }

  static Tensors backward(torch::autograd::AutogradContext* context, const Tensors& gradients) {
    refuse_gradients_of_gradients();
    const Tensors saved = context->get_saved_variables();
    auto& data = context->saved_data;
    const Tensor &x = saved[0], &gain = saved[1], &shift = saved[2];
    const NormKind kind{data["groups"].toInt(), data["epsilon"].toDouble(), data["silu"].toBool()};
    const Tensors kept(saved.begin() + 3, saved.end());
    const Tensor dy = gradients[0].to(x.scalar_type()).contiguous();
    const NormSiluGradients d = data["gpu"].toBool()
                                    ? gpu::norm_silu_back(kind, x, gain, shift, kept, dy)
                                    : cpu::norm_silu_back(kind, x, gain, shift, kept, dy);
    return {{},
            d.x,
            {},
            {},
            {},
            d.gain.to(gain.scalar_type()),
            d.shift.to(shift.scalar_type()),
            data["residual"].toBool() ? gradients[0] : Tensor()};
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
  const bool reduced = at::isReducedFloatingType(x_NPC.scalar_type());
  const Tensor x = reduced ? x_NPC.to(at::kFloat) : x_NPC;
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
  const bool on_gpu = target == Target::kGpu;
  if (target == Target::kPlain || x_NPC.numel() == 0 || (on_gpu && !gpu::takes_rows(x_NPC))) {
    return norm_silu_reference(x_NPC, kind, gain, shift, residual);
  }
  const Tensor x = x_NPC.contiguous();
  const Tensor added = residual.defined() ? residual.to(x.scalar_type()).contiguous() : residual;
  if (wants_gradient({x, gain, shift, added})) {
    return NormSilu::apply(on_gpu, x, kind.groups, kind.epsilon, kind.silu, gain, shift,
                           Maybe(added));
  }
  return (on_gpu ? gpu::norm_silu(kind, x, gain, shift, added)
                 : cpu::norm_silu(kind, x, gain, shift, added))
      .y;
}

}  // namespace lf
