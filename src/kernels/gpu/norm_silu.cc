// norm_silu() on a GPU, see device_forms.h.
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/cpu/chunk_sums.h"
#include "kernels/dispatch.h"
#include "kernels/gpu/device.h"
#include "kernels/gpu/forms.h"
#include "kernels/gpu/rows.h"
#include "kernels/work.h"

namespace lf {
namespace {

using at::Tensor;
using Maybe = std::optional<Tensor>;
using Tensors = std::vector<Tensor>;

// A task over tensors, which it keeps alive.
struct Call {
  Call(const Tensor& x, const NormKind& kind, const Tensor& given_gain, const Tensor& given_shift)
      : gain(plain_weight(given_gain)), shift(plain_weight(given_shift)) {
    task.kind = kind.groups > 0 ? DeviceNorm::Kind::kGroup : DeviceNorm::Kind::kRms;
    task.images = x.size(0);
    task.places = x.size(1);
    task.channels = x.size(2);
    task.groups = kind.groups;
    task.shared = x.size(0) / gain.size(0);
    task.epsilon = static_cast<float>(kind.epsilon);
    task.silu = kind.silu;
    task.gain = gain.const_data_ptr<float>();
    task.shift = shift.const_data_ptr<float>();
    task.x = data_of(x);
  }
  Tensor of_groups() const { return at::empty({task.images, task.groups, 2}, gain.options()); }
  Tensor of_slices() const {
    return at::empty({task.images, task.slices(), 2, task.channels}, gain.options());
  }
  Tensor gain, shift;
  DeviceNorm task;
};

struct Normed {
  Tensor y, statistics;
};

Normed forward_of(const Tensor& x, const NormKind& kind, const Tensor& gain, const Tensor& shift,
                  const Tensor& residual) {
  Call call(x, kind, gain, shift);
  Normed out{at::empty_like(x), {}};
  Tensor sums;
  if (kind.groups > 0) {
    out.statistics = call.of_groups();
    sums = call.of_slices();
    call.task.statistics = out.statistics.mutable_data_ptr<float>();
    call.task.sums = sums.mutable_data_ptr<float>();
  }
  call.task.residual = data_of(residual);
  call.task.y = result_of(out.y);
  LF_RECORD_WORK("norm_silu", 0);
  device_operations()->norm(call.task);
  return out;
}

class DeviceNormSilu : public torch::autograd::Function<DeviceNormSilu> {
 public:
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& x, int64_t groups,
                        double epsilon, bool silu, const Tensor& gain, const Tensor& shift,
                        const Maybe& residual) {
    const Normed normed =
        forward_of(x, {groups, epsilon, silu}, gain, shift, residual.value_or(Tensor()));
    context->saved_data["groups"] = groups;
    context->saved_data["epsilon"] = epsilon;
    context->saved_data["silu"] = silu;
    context->saved_data["residual"] = residual && residual->defined();
    context->save_for_backward({x, gain, shift, normed.statistics});
    return normed.y;
  }

  static Tensors backward(torch::autograd::AutogradContext* context, const Tensors& gradients) {
    refuse_gradients_of_gradients();
    const Tensors saved = context->get_saved_variables();
    const Tensor& x = saved[0];
    Call call(x,
              {context->saved_data["groups"].toInt(), context->saved_data["epsilon"].toDouble(),
               context->saved_data["silu"].toBool()},
              saved[1], saved[2]);
    DeviceNorm& task = call.task;
    const Tensor dy = gradients[0].to(x.scalar_type()).contiguous(), sums = call.of_slices();
    Tensor dx = at::empty_like(x), means;
    task.dy = data_of(dy);
    task.dx = result_of(dx);
    task.sums = sums.mutable_data_ptr<float>();
    if (task.groups > 0) {
      means = call.of_groups();
      task.means = means.mutable_data_ptr<float>();
      task.statistics = saved[3].mutable_data_ptr<float>();
    }
    LF_RECORD_WORK("norm_silu_backward", 0);
    device_operations()->norm_back(task);
    const Tensor rows = sums.view({saved[1].size(0), -1, 2, task.channels}).sum(1);
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

}  // namespace

Tensor device_norm_silu(const Tensor& x_NPC, const NormKind& kind, const Tensor& gain,
                        const Tensor& shift, const Tensor& residual) {
  if (wants_gradient({x_NPC, gain, shift, residual})) {
    return DeviceNormSilu::apply(x_NPC, kind.groups, kind.epsilon, kind.silu, gain, shift,
                                 Maybe(residual));
  }
  return forward_of(x_NPC, kind, gain, shift, residual).y;
}

}  // namespace lf
