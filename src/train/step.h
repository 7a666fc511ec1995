// One step of training: for each phase of the model forward and backward in micro-batches, the
// gradients' mean over the ranks and an update; then the averages of the weights. It owns what a
// step moves, so it is also what a checkpoint saves. Where clips come from, and when to save, show
// or stop, is the Trainer's. Called by the trainer and, without a store, by `lastframe bench step`.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "comm/gradient_sync.h"
#include "comm/world.h"
#include "config/config.h"
#include "model/model.h"
#include "train/ema.h"
#include "train/optimizer.h"
#include "train/tally.h"

namespace lf {

// Code::kUsage, naming the numbers of ranks that fit, unless the batch divides into equal
// micro-batches.
void check_batch(const Config& config, int ranks);

class Step {
 public:
  // Collective. Builds the model for clips of this shape and makes it equal over the ranks, which
  // exchange gradients of a GPU through `backend`.
  Step(World& world, const Config& config, const ClipShape& shape, at::Device device,
       DeviceBackend* backend = nullptr, const ModelMaker& make = make_model);
  ~Step();
  Step(const Step&) = delete;
  Step& operator=(const Step&) = delete;

  // Collective. Trains on this rank's share of the batch that begins at `images` of the run, and
  // adds to the tally. A phase whose gradients are not finite is not updated, on any rank.
  void run(const Clips& clips, int64_t images, StepTally& tally);

  Model& model() { return *model_; }
  Ema& ema() { return *ema_; }
  // Everything a step moves, by reference: loading into it and saving it resume a run.
  std::vector<TensorGroup> state() const;
  // Collective. Throws Code::kBug unless all ranks hold the same weights and buffers.
  void check_replicas(const std::string& moment);

 private:
  struct Term {
    std::string name;  // "" for the loss itself
    at::Tensor value;
  };
  void take_turn(size_t phase);
  void accumulate(const Clips& clips, size_t phase, StepTally& tally);
  at::Tensor update(size_t phase, int64_t images, StepTally& tally);
  LossSum read_losses();

  World& world_;
  const Config& config_;
  const at::Device device_;
  ProcessGroupPtr group_;
  std::unique_ptr<Model> model_;
  std::vector<Optimizer> optimizers_;                 // one a phase
  std::vector<std::unique_ptr<GradientSync>> syncs_;  // one a phase
  std::unique_ptr<Ema> ema_;
  std::vector<Ema> tracked_;  // for averages made after the run
  std::vector<Term> terms_;   // of this step, on the device until all of it is queued
};

}  // namespace lf
