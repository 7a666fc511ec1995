// A tensor and its name: what models, optimisers, checkpoints, gradient synchronisation and files
// of arrays exchange. Needs a header of torch and no library; lf_base itself stays free of torch.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <vector>

namespace lf {

struct NamedTensor {
  std::string name;
  at::Tensor tensor;
};

// The same for look-up, where the order of tensors does not matter.
using TensorsByName = std::map<std::string, at::Tensor>;

inline TensorsByName by_name(const std::vector<NamedTensor>& tensors) {
  TensorsByName found;
  for (const NamedTensor& named : tensors) found.emplace(named.name, named.tensor);
  return found;
}

}  // namespace lf
