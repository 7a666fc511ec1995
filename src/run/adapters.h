// Low-rank adapters (train.lora) outside of training: merged into the weights they belong to, so
// that what samples, evaluates, exports or begins from such a run sees a model without them, or
// taken apart. How they train is model/parameters.h's.
#pragma once

#include <string>

#include "checkpoint/checkpoint.h"
#include "model/parameters.h"
#include "run.pb.h"

namespace lf {

// Whether a tensor of this name is one of an adapter.
bool is_adapter(const std::string& name);

// The config of the model that the merged weights are of.
Config config_without_adapters(Config config);
// The metadata of an export of the merged weights.
TensorMetadata metadata_without_adapters(TensorMetadata metadata);

// W + alpha / rank B A in the place of each W that has an adapter, and no adapters; `config` is
// that of the run. Nothing changes where there are none.
LoadableTensors with_merged_adapters(LoadableTensors tensors, const Config& config);

// What the run trained beside its frozen weights: the adapters, and weights trained in full.
// Code::kUsage, naming `where`, if the run trained no adapters.
LoadableTensors adapters_alone(LoadableTensors tensors, const Config& config,
                               const std::string& where);

constexpr const char* kAdaptersKind = "adapters";

// The weights `base` with those of a file of adapters_alone(): its adapters merged, its other
// tensors in the place of theirs. `metadata` becomes that of the whole. Code::kUsage if the file is
// none, or belongs to other weights.
LoadableTensors with_adapters_of(LoadableTensors base, const std::string& file,
                                 TensorMetadata* metadata);

// What an export of a run's checkpoint holds. The kind is one of its own (exported_tensors()),
// "adapters", "merged", or "": averaged where there are averages, and adapters merged. `adapters`:
// a file of others to merge, or "". The checkpoint must outlive it.
ExportedTensors exported_weights(const Checkpoint& checkpoint, const std::string& kind,
                                 const std::string& adapters);

// Into a model without adapters, strictly; `where` is for the message.
void load_merged(const LoadableTensors& tensors, const std::string& where,
                 const ParameterTable& table);

}  // namespace lf
