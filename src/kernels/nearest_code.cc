#include "kernels/nearest_code.h"

#include <ATen/TensorOperators.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/argmin.h>
#include <ATen/ops/cat.h>

#include "kernels/forms.h"

namespace lf {

at::Tensor nearest_code_reference(const at::Tensor& rows, const at::Tensor& codebook) {
  constexpr int64_t kRows = 8192;  // at a time, so that the table of distances stays small
  const at::NoGradGuard no_grad;
  const c10::impl::ExcludeDispatchKeyGuard single(c10::autocast_dispatch_keyset);
  const at::Tensor squares = codebook.square().sum(1), across = codebook.t();
  std::vector<at::Tensor> ids;
  for (const at::Tensor& part : rows.split(kRows)) {
    ids.push_back(at::addmm(squares, part, across, 1, -2).argmin(1));
  }
  return at::cat(ids);
}

at::Tensor nearest_code(const KernelChoice& kernels, const at::Tensor& rows,
                        const at::Tensor& codebook) {
  const Target target = target_of(kernels, Operation::kNearestCode, rows);
  if (target == Target::kPlain || rows.numel() == 0 || rows.scalar_type() != at::kFloat ||
      codebook.scalar_type() != at::kFloat ||
      (target == Target::kGpu && !gpu::takes_search(rows))) {
    return nearest_code_reference(rows, codebook);
  }
  return target == Target::kGpu ? gpu::nearest_code(rows, codebook)
                                : cpu::nearest_code(rows, codebook);
}

}  // namespace lf
