// One step of training: for each phase of the model forward and backward in micro-batches, the
// gradients' mean over the ranks and an update; then the averages of the weights. It owns what a
// step moves, so it is also what a checkpoint saves. On a GPU it is queued and not waited for, and
// after some steps recorded and replayed as one graph where the model allows it (train.graph).
// Where clips come from, and when to save, show or stop, is the Trainer's.
#pragma once

#include <c10/core/Event.h>

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "comm/gradient_sync.h"
#include "comm/world.h"
#include "config/config.h"
#include "model/model.h"
#include "run/accelerator.h"
#include "train/ema.h"
#include "train/optimizer.h"
#include "train/tally.h"
#include "train/work_queue.h"

namespace lf {

class RecordedStep;
class Refills;

// Code::kUsage, naming the world sizes that fit, unless the batch divides into equal
// micro-batches.
void check_batch(const Config& config, int ranks);

class Step {
 public:
  // Collective. Builds the model for clips of this shape and makes it equal over the ranks.
  // Code::kUsage if train.graph is ON and the step cannot be recorded.
  Step(World& world, const Config& config, const ClipShape& shape, at::Device device,
       const Accelerator& accelerator = {}, const ModelMaker& make = make_model);
  ~Step();
  Step(const Step&) = delete;
  Step& operator=(const Step&) = delete;

  // Collective. Trains on this rank's share of the batch that begins at `images` of the run. A
  // phase whose gradients are not finite is not updated, on any rank. On a GPU the tally may learn
  // what came of a step only with the next one, while that runs.
  void run(const Clips& clips, int64_t images, StepTally& tally);
  // Called in each step before the first tensor of state() changes.
  void before_change(std::function<void()> call) { before_change_ = std::move(call); }
  // Waits for all steps, and adds what came of them to the tally.
  void settle(StepTally& tally);

  // Steps after which each runs as all later ones do: launched by operations, or recorded.
  int warm_up() const;
  bool recorded() const { return recorded_ != nullptr; }
  // Why it will not be recorded; "" if it will.
  const std::string& unrecorded() const { return unrecorded_; }

  Model& model() { return *model_; }
  Ema& ema() { return *ema_; }
  // Everything a step moves, by reference: loading into it and saving it resume a run.
  std::vector<TensorGroup> state() const;
  // Collective. Throws Code::kBug unless all ranks hold the same weights and buffers.
  void check_replicas(const std::string& moment);

 private:
  // What is to be read of a step: the gradient norms of the phases, then the terms.
  struct Outcome {
    at::Tensor values;  // double, in host memory once `ready`
    std::unique_ptr<c10::Event> ready;
    int64_t images = 0;
  };

  std::string why_unrecorded() const;
  void make_syncs();
  void set_rates(int64_t images, StepTally& tally);
  void queue(const Clips& clips, StepTally& tally);
  void take_turn(size_t phase);
  void accumulate(const Clips& clips, size_t phase, StepTally& tally);
  at::Tensor update(size_t phase);
  void record();
  void remember(int64_t images);
  void settle_first(StepTally& tally);

  World& world_;
  const Config& config_;
  const at::Device device_;
  const Accelerator accelerator_;
  const WorkQueue work_;
  ProcessGroupPtr group_;
  std::unique_ptr<Model> model_;
  std::vector<Optimizer> optimizers_;                 // one a phase
  std::vector<std::unique_ptr<GradientSync>> syncs_;  // one a phase
  std::unique_ptr<Ema> ema_;
  std::vector<Ema> tracked_;        // for averages made after the run
  std::vector<NamedTensor> terms_;  // of the step being queued, "" for the loss itself; names stay
  at::Tensor values_;               // of it, for its outcome
  std::deque<Outcome> outcomes_;
  std::function<void()> before_change_;
  std::string unrecorded_;
  int64_t steps_ = 0;                 // since this object was made
  std::unique_ptr<Refills> refills_;  // of the recorded step, which reads them
  std::unique_ptr<RecordedStep> recorded_;
};

}  // namespace lf
