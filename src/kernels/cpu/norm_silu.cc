// norm_silu() on a CPU: tensors to tasks of norm_silu_images.h.
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include "kernels/cpu/norm_silu_images.h"
#include "kernels/cpu/task.h"
#include "kernels/forms.h"
#include "kernels/work.h"

namespace lf::cpu {
namespace {

using at::Tensor;

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
    task.bf16_rows = x.scalar_type() == at::kBFloat16;
    task.gain = gain.const_data_ptr<float>();
    task.shift = shift.const_data_ptr<float>();
    task.x = x.const_data_ptr();
  }
  Tensor gain, shift;
  NormSiluTask task{};
};

}  // namespace

Made norm_silu(const NormKind& kind, const Tensor& x, const Tensor& gain, const Tensor& shift,
               const Tensor& residual) {
  Call call(x, kind, gain, shift);
  Made made{at::empty_like(x), {}};
  call.task.residual = residual.defined() ? residual.const_data_ptr() : nullptr;
  call.task.y = made.y.mutable_data_ptr();
  LF_RECORD_WORK("norm_silu", 0);
  over_threads(call.task.images, Operands::kSingle,
               [&](int64_t image) { norm_silu_image(call.task, image); });
  return made;
}

NormSiluGradients norm_silu_back(const NormKind& kind, const Tensor& x, const Tensor& gain,
                                 const Tensor& shift, const Tensors& /*kept*/, const Tensor& dy) {
  Call call(x, kind, gain, shift);
  NormSiluTask& task = call.task;
  const Tensor dx = at::empty_like(x);
  const Tensor sums = at::empty({task.images, 2, task.channels}, at::kFloat);
  task.dy = dy.const_data_ptr();
  task.dx = dx.mutable_data_ptr();
  task.sums = sums.mutable_data_ptr<float>();
  LF_RECORD_WORK("norm_silu_backward", 0);
  over_threads(task.images, Operands::kSingle,
               [&](int64_t image) { norm_silu_image_back(task, image); });
  const Tensor rows = sums.view({-1, task.shared, 2, task.channels}).sum(1);
  return {dx, rows.select(1, 0), rows.select(1, 1)};
}

}  // namespace lf::cpu
