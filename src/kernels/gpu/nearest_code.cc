// nearest_code() on a GPU.
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>

#include "kernels/forms.h"
#include "kernels/gpu/device.h"
#include "kernels/gpu/rows.h"
#include "kernels/weights.h"
#include "kernels/work.h"

namespace lf::gpu {

using at::Tensor;

// Codes longer than this are found faster through cuBLAS's products and a table of distances.
bool takes_search(const Tensor& rows) { return rows.size(1) <= 64; }

Tensor nearest_code(const Tensor& rows, const Tensor& codebook) {
  const NoAutocast single;
  const Tensor z = plain_weight(rows), codes = plain_weight(codebook);
  const Tensor squares = codes.square().sum(1);
  Tensor ids = at::empty({z.size(0)}, z.options().dtype(at::kLong));
  DeviceSearch task;
  task.count = z.size(0);
  task.dim = z.size(1);
  task.size = codes.size(0);
  task.rows = z.const_data_ptr<float>();
  task.codes = codes.const_data_ptr<float>();
  task.squares = squares.const_data_ptr<float>();
  task.ids = ids.mutable_data_ptr<int64_t>();
  const Tensor least = at::empty({task.parts(), task.count}, z.options());
  const Tensor best = at::empty({task.parts(), task.count}, z.options().dtype(at::kInt));
  task.least = least.mutable_data_ptr<float>();
  task.best = best.mutable_data_ptr<int32_t>();
  LF_RECORD_WORK("nearest_code", 2 * z.numel() * codes.size(0));
  device_operations()->nearest_code(task);
  return ids;
}

}  // namespace lf::gpu
