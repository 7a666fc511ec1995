#include "eval/subject.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <functional>

#include "base/error.h"
#include "base/log.h"
#include "base/stop.h"
#include "base/text.h"
#include "model/autocast.h"
#include "run/clips.h"

namespace lf {
namespace {

SampleRequest request(const EvaluationConfig& config, int64_t first, int64_t count) {
  SampleRequest request;
  request.seed = config.seed();
  request.first = first;
  request.count = count;
  return request;
}

std::string key_of(const EvaluationConfig& config, const EvaluationSubject& subject, bool sampled,
                   const Chunks& chunks) {
  if (subject.making_key.empty()) return {};
  return str(subject.making_key,
             sampled
                 ? str("samples of seed ", config.seed())
                 : str("reconstructions of store ", subject.stores.validation->index().store_id()),
             "\nchunks of ", chunks.size, "\n");
}

ClipMaker maker_of(const EvaluationConfig& config, const EvaluationSubject& subject, bool sampled,
                   const Chunks& chunks, const std::string& key) {
  const std::string what = sampled ? "samples" : "reconstructions";
  const auto make = [&config, &subject, sampled](int64_t first, int64_t count) {
    if (sampled) return subject.model->sample(request(config, first, count));
    return subject.model->reconstruct(
        clips_in_order(*subject.stores.validation, first, count, subject.device));
  };
  return {make,
          {.what = what,
           .groups = chunks,
           .batch = config.batch(),
           .precision = config.precision(),
           .device = subject.device,
           .kept = key.empty() ? ChunkCache() : ChunkCache(subject.cache(), what, key)}};
}

Chunks chunks_of(const EvaluationConfig& config, const EvaluationSubject& subject, bool sampled) {
  return sampled ? Chunks::of(config.samples(), subject.clip_bytes())
                 : subject.validation_chunks(config);
}

}  // namespace

Chunks EvaluationSubject::validation_chunks(const EvaluationConfig& config) const {
  const auto clips = static_cast<int64_t>(stores.validation->clips());
  return Chunks::of(std::min<int64_t>(config.samples(), clips), clip_bytes());
}

EvaluationSubject subject_of(const Run& run) {
  EvaluationSubject subject;
  subject.model = run.model.get();
  subject.device = run.device;
  subject.stores = run.stores;
  subject.run_folder = run.folder;
  subject.images = run.images();
  subject.weights = run.weights;
  subject.arithmetic = arithmetic_key(run.config.train(), run.device);
  return subject;
}

bool makes_samples(World& world, const EvaluationConfig& config, const EvaluationSubject& subject) {
  if (config.subject() != EvaluationConfig::AUTO) {
    return config.subject() == EvaluationConfig::SAMPLES;
  }
  bool makes = true;
  if (world.is_root()) {  // every rank would find the same
    try {
      const Interruptible begun([] { return true; });  // a model that begins can
      const Autocast autocast(config.precision(), subject.device.type());
      subject.model->sample(request(config, 0, 1));
    } catch (const Error& error) {
      if (error.code() != Code::kUsage && error.code() != Code::kInterrupted) throw;
      makes = error.code() == Code::kInterrupted;
      if (!makes) LF_INFO("evaluating reconstructions: ", error.what());
    }
  }
  return world.min(static_cast<int64_t>(makes)) == 1;
}

SubjectClips::SubjectClips(const EvaluationConfig& config, const EvaluationSubject& subject,
                           bool sampled)
    : sampled_(sampled),
      says_cost_(subject.says_cost),
      key_(key_of(config, subject, sampled, chunks_of(config, subject, sampled))),
      maker_(maker_of(config, subject, sampled, chunks_of(config, subject, sampled), key_)) {}

void SubjectClips::announce(World& world) const {
  if (!says_cost_) return;
  maker_.announce_cost(world);
}

std::string reconstructed_clips(const EvaluationSubject& subject) {
  return subject.stores.validation == subject.stores.training ? "training" : "validation";
}

void add_origin(Result& result, const EvaluationConfig& config, const EvaluationSubject& subject,
                bool sampled) {
  result.subject = sampled ? "samples" : "reconstructions";
  if (!sampled) result.clips = reconstructed_clips(subject);
  result.seed = config.seed();
  result.seeded = sampled;
  result.images = subject.images;
  result.weights = subject.weights;
  result.precision = Precision_Name(config.precision());
}

void log_speed(World& world, const EvaluationConfig& config,
               const std::optional<SubjectClips>& samples,
               const std::optional<SubjectClips>& reconstructions) {
  int64_t made = 0;
  double seconds = 0;
  std::vector<std::string> kinds;
  for (const std::optional<SubjectClips>& clips :
       {std::cref(samples), std::cref(reconstructions)}) {
    if (!clips) continue;
    made += clips->maker().made();
    seconds += clips->maker().seconds();
    kinds.push_back(clips->name());
  }
  made = world.sum(made);
  seconds = world.max(seconds);
  if (made == 0 || !world.is_root()) return;
  LF_INFO(made, " ", join(kinds, " and "), " were made in ", human_seconds(seconds), ", ",
          human_rate(static_cast<double>(made) / seconds), " on ", world.size(),
          world.size() == 1 ? " rank, " : " ranks, ", Precision_Name(config.precision()));
}

}  // namespace lf
