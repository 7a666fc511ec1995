// The named tensors of a foreign weight file, taken one by one while a network is built: checked by
// name and shape, as finite float32, batch norms folded into the convolutions before them. Not the
// ParameterTable of models we train, and not a reader of files.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <set>
#include <string>

#include "base/named_tensor.h"

namespace lf {

// Weights of a convolution for inference.
struct FoldedConv {
  at::Tensor weight, bias;
};

class Weights {
 public:
  // `file` is for messages; `hash` has 16 hex digits.
  Weights(std::string file, std::string hash, std::map<std::string, std::string> metadata,
          TensorsByName tensors, at::Device device);

  const std::string& file() const { return file_; }
  const std::string& hash() const { return hash_; }
  at::Device device() const { return device_; }
  // "" without such an entry.
  std::string metadata(const std::string& key) const;

  bool has(const std::string& name) const { return tensors_.contains(name); }
  bool has_any(const std::string& prefix) const;
  int64_t extent(const std::string& name, int64_t dimension) const;  // 0 if there is none

  // Throws Code::kCheckpoint if it is missing, has another shape or is not finite.
  at::Tensor take(const std::string& name, at::IntArrayRef shape);
  // NAME.weight and NAME.bias as they are; or NAME + conv + ".weight" with the batch norm
  // NAME + norm + ".weight", ".bias", ".running_mean" and ".running_var" folded in.
  FoldedConv take_conv(const std::string& name, at::IntArrayRef shape, const std::string& conv,
                       const std::string& norm, double epsilon);
  // Names with this prefix may stay unused.
  void ignore(const std::string& prefix);
  // Throws Code::kCheckpoint, naming a tensor that was not taken: the file is of another network.
  void require_all_taken() const;

 private:
  const at::Tensor& find(const std::string& name) const;

  std::string file_, hash_;
  std::map<std::string, std::string> metadata_;
  TensorsByName tensors_;
  at::Device device_;
  std::set<std::string> taken_;
};

}  // namespace lf
