// A run, opened for use rather than training: one checkpoint with its config, and as far as they
// are asked for its model and its stores. Manifest and config are read once.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "comm/world.h"
#include "model/model.h"
#include "run/stores.h"

namespace lf {

struct Run {
  std::string folder;     // as it was named
  Checkpoint checkpoint;  // open, with its manifest
  Config config;          // of the checkpoint, with a command's --set over it
  ClipShape shape;        // of the clips it was trained on
  // From load_model().
  at::Device device = at::kCPU;
  std::unique_ptr<Model> model;
  std::string weights;  // "ema", or "model" where no averages were kept
  // From open_stores().
  RunStores stores;

  const CheckpointManifest& manifest() const { return checkpoint.manifest(); }
  int64_t images() const { return manifest().images(); }

  // "a.b=value" over the config, as --set gives them.
  void set(const std::vector<std::string>& options);
  void load_model(at::Device on, const ModelMaker& make = make_model);
  // Code::kUsage unless the training store is the one that the checkpoint was trained on.
  void open_stores();

  // All that decides the bits of what the loaded model makes of a request: every tensor that it was
  // given, by name and checksum, the config of the model, and the arithmetic. What is kept on disk
  // of the model's work is kept under this key.
  std::string making_key(Precision precision) const;
};

// The folder of a run's newest whole checkpoint; a checkpoint's own is given back. Code::kUsage if
// the folder is neither, Code::kCheckpoint if the run has saved none.
std::string newest_checkpoint(const std::string& folder);

// A checkpoint's folder. `run_folder`: "" if the run's is not known.
Run open_run(const std::string& checkpoint_folder, const std::string& run_folder = "");

// Collective. The run's checkpoint that was named, or its newest whole one: rank 0 chooses, for the
// run may be training and save another meanwhile. Code::kCheckpoint if the run has none yet.
Run open_run(World& world, const std::string& run_folder, const std::vector<std::string>& options,
             const std::string& checkpoint = "");

// The form of the kernels and the kind of device: the same weights in another arithmetic make
// other bits.
std::string arithmetic_key(const TrainConfig& config, at::Device device);

}  // namespace lf
