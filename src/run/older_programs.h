// What the configs of older programs leave unsaid, told by the tensors that were saved with them.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/manifest.h"
#include "run.pb.h"

namespace lf {

void complete_config(Config& config, const std::vector<std::string>& tensor_names);
void complete_config(Config& config, const CheckpointManifest& manifest);

}  // namespace lf
