#include "model/extractors/weights.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/isfinite.h>

#include <utility>
#include <vector>

#include "base/error.h"
#include "model/extractors/extractor.h"

namespace lf {

Weights::Weights(std::string file, std::string hash, std::map<std::string, std::string> metadata,
                 TensorsByName tensors, at::Device device)
    : file_(std::move(file)),
      hash_(std::move(hash)),
      metadata_(std::move(metadata)),
      tensors_(std::move(tensors)),
      device_(device) {}

std::string Weights::metadata(const std::string& key) const {
  const auto entry = metadata_.find(key);
  return entry == metadata_.end() ? "" : entry->second;
}

bool Weights::has_any(const std::string& prefix) const {
  const auto next = tensors_.lower_bound(prefix);
  return next != tensors_.end() && next->first.starts_with(prefix);
}

int64_t Weights::extent(const std::string& name, int64_t dimension) const {
  const auto entry = tensors_.find(name);
  return entry == tensors_.end() || dimension >= entry->second.dim()
             ? 0
             : entry->second.size(dimension);
}

const at::Tensor& Weights::find(const std::string& name) const {
  const auto entry = tensors_.find(name);
  if (entry == tensors_.end()) {
    std::vector<std::string> known;
    for (const auto& [other, tensor] : tensors_) known.push_back(other);
    fail(Code::kCheckpoint, printable(file_), " holds no tensor '", name, "'",
         did_you_mean(name, known),
         "; use a whole file of this network, as tools/convert_weights writes");
  }
  return entry->second;
}

at::Tensor Weights::take(const std::string& name, at::IntArrayRef shape) {
  const at::Tensor& found = find(name);
  if (found.sizes() != shape) {
    fail(Code::kCheckpoint, printable(file_), ": '", name, "' is ", shape_text(found.sizes()),
         ", expected ", shape_text(shape), "; the file is of another network");
  }
  const at::Tensor value = found.to(at::kFloat);
  if (!at::isfinite(value).all().item<bool>()) {
    fail(Code::kCheckpoint, printable(file_), ": '", name,
         "' holds NaN or infinity, expected finite values; use another copy of it");
  }
  taken_.insert(name);
  return value.to(device_);
}

FoldedConv Weights::take_conv(const std::string& name, at::IntArrayRef shape,
                              const std::string& conv, const std::string& norm, double epsilon) {
  const std::vector<int64_t> channels = {shape[0]};
  if (has(name + ".weight")) return {take(name + ".weight", shape), take(name + ".bias", channels)};
  const at::Tensor weight = take(name + conv + ".weight", shape).to(at::kDouble);
  const auto of_norm = [&](const char* part) {
    return take(name + norm + part, channels).to(at::kDouble);
  };
  const at::Tensor variance = of_norm(".running_var");
  if (variance.lt(0).any().item<bool>()) {
    fail(Code::kCheckpoint, printable(file_), ": '", name, norm,
         ".running_var' has a negative variance; use another copy of it");
  }
  const at::Tensor scale = of_norm(".weight") / (variance + epsilon).sqrt();
  const at::Tensor bias = of_norm(".bias") - of_norm(".running_mean") * scale;
  std::vector<int64_t> along_out(shape.size(), 1);
  along_out[0] = shape[0];
  return {(weight * scale.view(along_out)).to(at::kFloat), bias.to(at::kFloat)};
}

void Weights::ignore(const std::string& prefix) {
  for (auto entry = tensors_.lower_bound(prefix);
       entry != tensors_.end() && entry->first.starts_with(prefix); ++entry) {
    taken_.insert(entry->first);
  }
}

void Weights::require_all_taken() const {
  for (const auto& [name, tensor] : tensors_) {
    // Inference does not use a batch norm's count of batches.
    if (taken_.contains(name) || name.ends_with(".num_batches_tracked")) continue;
    fail(Code::kCheckpoint, printable(file_), " also holds '", printable(name), "' ",
         shape_text(tensor.sizes()),
         ", which this network does not have; the file is of another one");
  }
}

}  // namespace lf
