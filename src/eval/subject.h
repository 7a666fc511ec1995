// What is evaluated: a model with its weights and its stores, and the clips by which it is judged,
// samples by their numbers or reconstructions of the validation store's clips.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "comm/world.h"
#include "eval/report.h"
#include "model/model.h"
#include "run.pb.h"
#include "run/clip_maker.h"
#include "run/run.h"

namespace lf {

// A model with the weights it is to be judged by, and its surroundings.
struct EvaluationSubject {
  Model* model = nullptr;
  at::Device device = at::kCPU;
  RunStores stores;  // samples are compared with training's clips, validation's are reconstructed
  std::string run_folder;
  int64_t images = 0;           // that it was trained on
  std::string weights;          // "ema" or "model"
  std::string making_key;       // Run's; "": what it makes is not kept on disk
  std::string arithmetic;       // arithmetic_key(), of what is kept of references
  int64_t reference_count = 0;  // images of the reference to compare with; 0: all
  bool says_cost = false;       // before clips are made; it takes making some more
  bool samples_asked = false;   // the call says how many clips, not a default
  // Asked between chunks on every rank, beside stop_requested(): whether to break off.
  std::function<bool()> break_off;

  std::string cache() const { return run_folder + "/evaluations/cache"; }
  int64_t clip_bytes() const { return static_cast<int64_t>(stores.training->clip_shape().bytes()); }
  // Of the validation store's clips, as many as there are samples; fewer if the store has fewer.
  Chunks validation_chunks(const EvaluationConfig& config) const;
};

// An opened run's; nothing of what it makes is kept.
EvaluationSubject subject_of(const Run& run);

// "training" or "validation": whose clips are reconstructed.
std::string reconstructed_clips(const EvaluationSubject& subject);

// Collective. Whether sets are of samples: as evaluation.subject says, or what the model can.
bool makes_samples(World& world, const EvaluationConfig& config, const EvaluationSubject& subject);

// The clips to be judged, as bytes, kept in the run's cache under all that decides them.
class SubjectClips {
 public:
  SubjectClips(const EvaluationConfig& config, const EvaluationSubject& subject, bool sampled);

  bool sampled() const { return sampled_; }
  const std::string& name() const { return maker_.what(); }  // "samples", "reconstructions"
  const Chunks& chunks() const { return maker_.groups(); }
  const std::string& key() const { return key_; }  // "": nothing is kept
  at::Tensor chunk(int64_t number) { return maker_.group(number); }
  const ClipMaker& maker() const { return maker_; }
  // Collective. Says what making them will take, if the subject says such things.
  void announce(World& world) const;

 private:
  const bool sampled_, says_cost_;
  const std::string key_;
  ClipMaker maker_;
};

// Adds to a result of what it is.
void add_origin(Result& result, const EvaluationConfig& config, const EvaluationSubject& subject,
                bool sampled);

// Collective. Logs how many clips were made how fast; nothing if all came from the cache.
void log_speed(World& world, const EvaluationConfig& config,
               const std::optional<SubjectClips>& samples,
               const std::optional<SubjectClips>& reconstructions);

}  // namespace lf
