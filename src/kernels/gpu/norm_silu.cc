// norm_silu() on a GPU.
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include "kernels/forms.h"
#include "kernels/gpu/device.h"
#include "kernels/gpu/rows.h"
#include "kernels/weights.h"
#include "kernels/work.h"

namespace lf::gpu {
namespace {

using at::Tensor;

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

}  // namespace

// kept: the groups' statistics, undefined for RMS.
Made norm_silu(const NormKind& kind, const Tensor& x, const Tensor& gain, const Tensor& shift,
               const Tensor& residual) {
  Call call(x, kind, gain, shift);
  Made made{at::empty_like(x), {Tensor()}};
  Tensor sums;
  if (kind.groups > 0) {
    made.kept[0] = call.of_groups();
    sums = call.of_slices();
    call.task.statistics = made.kept[0].mutable_data_ptr<float>();
    call.task.sums = sums.mutable_data_ptr<float>();
  }
  call.task.residual = data_of(residual);
  call.task.y = result_of(made.y);
  LF_RECORD_WORK("norm_silu", 0);
  device_operations()->norm(call.task);
  return made;
}

NormSiluGradients norm_silu_back(const NormKind& kind, const Tensor& x, const Tensor& gain,
                                 const Tensor& shift, const Tensors& kept, const Tensor& dy) {
  Call call(x, kind, gain, shift);
  DeviceNorm& task = call.task;
  const Tensor sums = call.of_slices();
  Tensor dx = at::empty_like(x), means;
  task.dy = data_of(dy);
  task.dx = result_of(dx);
  task.sums = sums.mutable_data_ptr<float>();
  if (task.groups > 0) {
    means = call.of_groups();
    task.means = means.mutable_data_ptr<float>();
    task.statistics = kept[0].mutable_data_ptr<float>();
  }
  LF_RECORD_WORK("norm_silu_backward", 0);
  device_operations()->norm_back(task);
  const Tensor rows = sums.view({gain.size(0), -1, 2, task.channels}).sum(1);
  return {dx, rows.select(1, 0), rows.select(1, 1)};
}

}  // namespace lf::gpu
