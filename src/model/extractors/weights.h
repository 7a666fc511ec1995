// The named tensors of a weight file that others made, handed out one by one to a network that is
// being built: each by name and shape, as finite float32, batch norms folded into the convolutions
// they follow. Not the ParameterTable of what we train, and not a reader of files. Called by the
// extractors and LPIPS; eval/open_extractor.cc fills it.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <set>
#include <string>

#include "base/named_tensor.h"

namespace lf {

// A convolution for inference; what follows it is the network's affair.
struct FoldedConv {
  at::Tensor weight, bias;
};

class Weights {
 public:
  // `file` begins the messages, `hash` are 16 hex digits.
  Weights(std::string file, std::string hash, std::map<std::string, std::string> metadata,
          TensorsByName tensors, at::Device device);

  const std::string& file() const { return file_; }
  const std::string& hash() const { return hash_; }
  at::Device device() const { return device_; }
  // "" if there is no such entry.
  std::string metadata(const std::string& key) const;

  bool has(const std::string& name) const { return tensors_.contains(name); }
  bool has_any(const std::string& prefix) const;
  int64_t extent(const std::string& name, int64_t dimension) const;  // 0 if there is none

  // Code::kCheckpoint if it is missing, of another shape or not finite.
  at::Tensor take(const std::string& name, at::IntArrayRef shape);
  // NAME.weight and NAME.bias as they are; or NAME + conv + ".weight" with the batch norm
  // NAME + norm + ".weight", ".bias", ".running_mean" and ".running_var" folded in.
  FoldedConv take_conv(const std::string& name, at::IntArrayRef shape, const std::string& conv,
                       const std::string& norm, double epsilon);
  // Names that may be there unused.
  void ignore(const std::string& prefix);
  // Code::kCheckpoint naming what nobody took: the file is of another network.
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
