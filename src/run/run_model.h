// The model of a run, as it stands in a checkpoint: for those who use it rather than train it. Also
// how a model that is built on another gets at its export. Called by `lastframe sample`, evaluation
// and the trainer.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "model/model.h"
#include "record.pb.h"

namespace lf {

// The folder of the newest whole checkpoint of a run; a checkpoint's own folder is given back.
// Code::kCheckpoint if the run has none yet.
std::string newest_checkpoint(const std::string& folder);

// What the checkpoint's run was told, with `sets` over it, as --set gives them.
Config run_config(const CheckpointManifest& manifest, const std::string& checkpoint,
                  const std::vector<std::string>& sets);

// Every tensor that the model was given, by name and checksum, and how it makes something of them:
// the same weights give other samples at another temperature. Tells what is kept from what is not.
std::string weights_text(const CheckpointManifest& manifest, const Config& config);

struct RunModel {
  Config config;
  ClipShape shape;
  CheckpointManifest manifest;
  std::string weights;           // "ema", or "model" where no averages were kept
  std::unique_ptr<Model> model;  // with those weights
};
RunModel open_run_model(const std::string& checkpoint, at::Device device,
                        const std::vector<std::string>& sets = {},
                        const ModelMaker& make = make_model);

// A file of `lastframe export RUN --out`, or of tools/convert_weights. Code::kUsage if there is
// none, Code::kCheckpoint if it is damaged.
ExportedModel open_export(const std::string& file);

}  // namespace lf
