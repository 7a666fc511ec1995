// Saves and restores the state of a run on all ranks: whole named tensors are dealt over the ranks,
// staged between steps, written behind training's back, and published by rank 0 once every rank's
// file is durable. The format and its safety are src/checkpoint's; this file knows the World.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/async_writer.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/run_claim.h"
#include "comm/world.h"
#include "config/config.h"
#include "model/model.h"

namespace lf {

// Whose state it is, for the manifest and for refusing another's.
struct RunIdentity {
  std::string folder, store_id, code_version;
  ClipShape clip_shape;
};

// Code::kUsage if the run whose checkpoint this is may not be resumed by the config. A run without
// a store_id is compared by its config alone.
void require_same_run(const Config& config, const RunIdentity& run,
                      const CheckpointManifest& manifest);

class Saver {
 public:
  // Collective. Claims the run for this life of the job; Code::kUsage if another job holds it.
  Saver(World& world, const Config& config, RunIdentity run, Staging staging = {});
  ~Saver();

  // Collective. Fills the tensors from the newest valid checkpoint and returns its images; 0 if the
  // run is new. Damaged ones are named and passed over; Code::kCheckpoint if only such are left;
  // Code::kUsage if it was made with another store or a config that a resume may not change.
  int64_t restore(const std::vector<TensorGroup>& state);

  // What the first weights of a new run came from, for its manifests; a resumed run has it from its
  // checkpoint.
  void note_initial_weights(const InitRecord& record) { init_ = record; }

  // Collective. Begins to save, with the metrics that are known of this state and the names of
  // those that it `awaits`; waits first for a save still in flight. Storage that cannot be written
  // is logged and tried again at the next save, up to a limit, since training can continue.
  void begin(int64_t images, const std::vector<TensorGroup>& state,
             const std::vector<NamedNumber>& numbers, const std::vector<std::string>& awaits = {});
  // Collective, after every step: publishes what has become durable on all ranks.
  void poll();
  // Collective. Waits until the save in flight is published; here a failure is Code::kStorage.
  void finish();

  // On rank 0, in a process forked from it when that one is gone: saves without the other ranks,
  // unless that state or a later one is saved. Returns the newest checkpoint's folder.
  std::string save_alone(int64_t images, const std::vector<TensorGroup>& state);

  const std::string& newest() const { return newest_; }  // folder of the newest published, or ""
  // On rank 0: what the newest took, staging, writing and committing.
  double seconds() const { return seconds_; }
  // On rank 0, of those that await metrics: the folders published since the last call.
  std::vector<std::string> take_awaiting() { return std::exchange(awaiting_, {}); }
  // On rank 0: such metrics. By them keep_best chooses, at once or with the commit in flight.
  void add_numbers(const std::string& folder, const std::vector<NamedNumber>& numbers);

 private:
  enum class Stage { kIdle, kWriting, kCommitting };
  void advance();
  void gather_and_commit();
  void settle();
  void note_failure(const std::string& message);
  void check_config(const CheckpointManifest& manifest) const;
  void describe_run(CheckpointManifest& manifest, int64_t images, int writers) const;
  std::vector<Shard> plan(const std::vector<TensorGroup>& state) const;

  World& world_;
  const Config& config_;
  const RunIdentity run_;
  AsyncWriter writer_;
  std::optional<RunLock> lock_;  // on rank 0
  std::optional<Life> life_;     // on rank 0
  std::optional<InitRecord> init_;
  Stage stage_ = Stage::kIdle;
  int64_t images_ = 0;                // of the save in flight
  std::vector<NamedNumber> numbers_;  // likewise
  std::vector<std::string> awaits_;   // likewise
  std::vector<std::string> awaiting_;
  std::string hidden_, newest_, published_, save_error_;
  int failures_ = 0;
  double stage_seconds_ = 0, write_seconds_ = 0;  // the latter of the slowest rank
  double commit_seconds_ = 0, seconds_ = 0;       // on rank 0
  uint64_t bytes_ = 0;                            // on rank 0
};

}  // namespace lf
