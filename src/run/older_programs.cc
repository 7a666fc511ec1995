#include "run/older_programs.h"

#include <algorithm>

namespace lf {

void complete_config(Config& config, const std::vector<std::string>& tensor_names) {
  if (!config.model().has_cvivit() || config.model().cvivit().has_patch_norm()) return;
  const bool both = std::any_of(tensor_names.begin(), tensor_names.end(), [](const auto& name) {
    return name == "encoder.first.before.weight";
  });
  if (both) config.mutable_model()->mutable_cvivit()->set_patch_norm(CvivitConfig::BOTH);
}

void complete_config(Config& config, const CheckpointManifest& manifest) {
  std::vector<std::string> names;
  for (const CheckpointFile& file : manifest.file()) {
    if (file.kind() != "model") continue;
    for (const CheckpointTensor& tensor : file.tensor()) names.push_back(tensor.name());
  }
  complete_config(config, names);
}

}  // namespace lf
