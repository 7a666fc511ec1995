// The training loop: any model, any number of ranks, one page. Progress is counted in images, data
// order and randomness derive from it, so the state is the tensors and one integer. What one step
// does is Step's; what to save, when to stop and what to show the Coordinator's.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "comm/watchdog.h"
#include "comm/world.h"
#include "config/config.h"
#include "data/loader/loader.h"
#include "run/device_frames.h"
#include "run/stores.h"
#include "train/coordinator.h"
#include "train/evaluators.h"
#include "train/heir.h"
#include "train/initial_weights.h"
#include "train/live_report.h"
#include "train/saver.h"
#include "train/step.h"
#include "train/train_job.h"
#include "train/work_queue.h"

namespace lf {

class Trainer {
 public:
  // Collective. Opens the store, builds the model and takes up the newest checkpoint of the run.
  // `everyone` is given if there are other ranks behind those that train, who evaluate.
  Trainer(World& world, const Config& config, const TrainJob& job, World* everyone = nullptr);
  ~Trainer();

  // Collective. Trains until the run or the slice is finished, or something asks it to stop, with a
  // checkpoint in each case. Returns the exit status: 0, or 75 for "start me again".
  int run();

 private:
  void appoint_heir();
  void step();
  Clips next_clips();
  bool look(const Verdict& verdict);
  void validate();
  void evaluate();
  void publish(const std::string& checkpoint, const EvaluationRecord& record);
  void follow_evaluators();
  void show_preview();
  void write_preview_files();
  void save(bool to_be_evaluated);

  void open_stores();
  void open_loaders();
  ClipShape shape_of_clips() const;  // the store's, if there is one already
  void record_config() const;
  void build_store_of_source();
  void build_step();
  void resume();
  void note_initial_weights();

  World& world_;
  const Config config_;
  const TrainJob job_;
  at::Device device_ = at::kCPU;
  WorkQueue copies_{at::kCPU};  // of clips to the device
  RunStores stores_;
  std::optional<InitialWeights> initial_;  // on rank 0, of a run that begins with train.init
  std::unique_ptr<Step> step_;
  std::unique_ptr<DeviceFrames> device_frames_;  // nullptr: the loader's threads make them
  std::unique_ptr<Loader> loader_;
  std::unique_ptr<Loader> image_loader_;  // of clips whose last frames are images beside others
  std::unique_ptr<LiveReport> report_;    // on rank 0, if there is one; goes after the coordinator
  std::unique_ptr<Coordinator> coordinator_;
  std::unique_ptr<Saver> saver_;
  std::unique_ptr<Watchdog> watchdog_;
  std::unique_ptr<Evaluators> evaluators_;  // null: all ranks evaluate
  std::unique_ptr<Heir> heir_;              // on rank 0, of tensors on the CPU
  int64_t images_ = 0, end_ = 0;
  StepTally tally_;                   // since the last report
  std::vector<NamedNumber> numbers_;  // what validation and evaluation found at images_
};

}  // namespace lf
