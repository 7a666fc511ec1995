#include "eval/evaluate.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "base/log.h"
#include "eval/comparison.h"
#include "eval/extraction.h"
#include "eval/feature_sets.h"
#include "eval/images.h"
#include "eval/open_extractor.h"
#include "model/autocast.h"
#include "model/tokens/tokenizer.h"
#include "run/clips.h"

namespace lf {
namespace {

// Some metric looks at sets of features.
bool wants_features(const EvaluationConfig& config) {
  const std::vector<std::string> names = metric_names(config);
  return std::any_of(names.begin(), names.end(), [](const std::string& name) {
    return std::none_of(metric_table().begin(), metric_table().end(), [&](const Metric& row) {
      return name == row.name && row.of_sets == nullptr;
    });
  });
}

bool is_of_codes(const ChosenMetric& metric) { return metric.row->needs == Evidence::kCodes; }

bool is_of_sets(const ChosenMetric& metric) { return !is_of_codes(metric) && !is_of_pairs(metric); }

bool is_compared(const ChosenMetric& metric) { return is_of_sets(metric) && compares(*metric.row); }

void require_codes(const std::vector<ChosenMetric>& chosen, const Tokenizer* tokenizer) {
  for (const ChosenMetric& metric : chosen) {
    if (!is_of_codes(metric) || tokenizer != nullptr) continue;
    fail(Code::kUsage, "metric ", metric.name,
         " is of a tokenizer's codes, and this run's model is ",
         "none; evaluate the run of a vqvae or cvivit");
  }
}

// Of more clips than there are all are measured.
void say_what_is_there(World& world, const EvaluationConfig& config,
                       const EvaluationSubject& subject) {
  const auto there = static_cast<int64_t>(subject.stores.validation->clips());
  if (!world.is_root() || !subject.samples_asked || config.samples() <= there) return;
  LF_WARN("evaluation.samples asks for ", human_count(static_cast<uint64_t>(config.samples())),
          " reconstructions, and the ", reconstructed_clips(subject), " store holds ",
          human_count(static_cast<uint64_t>(there)), " clips: these are measured");
}

// What a set is compared with: the images that were asked for, or those of the run's store.
std::unique_ptr<ImageSet> reference_images(const EvaluationConfig& config,
                                           const EvaluationSubject& subject,
                                           const Features& features, const SubjectClips& clips) {
  const std::string& file = config.reference();
  if (!file.empty()) {
    std::unique_ptr<ImageSet> images = open_images(file);
    require_same_size(*features.extractor, images->shape(), images->name(),
                      subject.stores.training->clip_shape(), "what the model makes");
    const int64_t all = images->size();
    return evenly_spaced(std::move(images), all, subject.reference_count);
  }
  std::unique_ptr<ImageSet> images =
      images_of_store(clips.sampled() ? subject.stores.training : subject.stores.validation);
  const int64_t from = clips.sampled() ? images->size() : clips.chunks().count;
  return evenly_spaced(std::move(images), from, subject.reference_count);
}

// Warns of bias first, before anything is computed.
std::vector<FeatureSet> reference_for(World& world, const EvaluationConfig& config,
                                      const EvaluationSubject& subject,
                                      const std::vector<ChosenMetric>& chosen,
                                      const Features& features, const SubjectClips& clips) {
  const auto warn = [&](int64_t real) {
    if (world.is_root()) warn_of_bias(chosen, features, real, clips.chunks().count);
  };
  if (config.reference().ends_with(".npz")) {
    std::vector<FeatureSet> sets = statistics_as_reference(features, config.reference());
    refuse_reference_count(subject.reference_count, config.reference());
    warn(sets[0].n);
    return sets;
  }
  const std::unique_ptr<ImageSet> images = reference_images(config, subject, features, clips);
  warn(images->size());
  // The reference of a run that keeps nothing of its samples is kept all the same.
  return reference_of(world, features, *images, subject.cache(), subject.break_off);
}

// `comparison`: takes each chunk that is made or read on the way; null: nothing does.
std::vector<Result> evaluate_sets(World& world, const EvaluationConfig& config,
                                  const EvaluationSubject& subject,
                                  const std::vector<ChosenMetric>& chosen, Extractor& extractor,
                                  SubjectClips& clips, Comparison* comparison) {
  const Features features(chosen, &extractor, config.preprocessing(), subject.arithmetic);
  const Chunks chunks = clips.chunks();
  const auto read = [&](int64_t first, int64_t /*count*/) {
    const int64_t chunk = first / chunks.size;
    const at::Tensor made = clips.chunk(chunk);
    if (comparison != nullptr) comparison->add(chunk, chunks, made);
    return made;
  };
  Extraction what{.title = clips.name(),
                  .name = clips.name(),
                  .chunks = chunks,
                  .read = read,
                  .shape = subject.stores.training->clip_shape(),
                  .layers = features.layers,
                  .pad_to = features.pad_to,
                  .keep_features = features.every_sample,
                  .cache = {},
                  .beside = " besides making them",
                  .break_off = subject.break_off};
  if (!clips.key().empty()) {
    what.cache = ChunkCache(subject.cache(), "features", clips.key() + features.key());
  }
  std::vector<FeatureSet> real(features.layers.size());
  if (std::any_of(chosen.begin(), chosen.end(), is_compared)) {
    real = reference_for(world, config, subject, chosen, features, clips);
  }
  const std::vector<FeatureSet> fake = extract_features(world, extractor, what);
  std::vector<Result> results;
  for (const ChosenMetric& metric : chosen) {
    if (!world.is_root() || !is_of_sets(metric)) continue;
    results.push_back(result_of_sets(metric, features, real, fake, {config.seed(), 0, 0}));
    add_origin(results.back(), config, subject, clips.sampled());
  }
  return results;
}

// Of the clips that would be reconstructed. Integers, so that any order of summation does.
std::vector<Result> evaluate_codes(World& world, const EvaluationConfig& config,
                                   const EvaluationSubject& subject,
                                   const std::vector<ChosenMetric>& chosen, Tokenizer& tokenizer) {
  const Chunks chunks = subject.validation_chunks(config);
  at::Tensor counts = at::zeros({1, tokenizer.codes()}, at::kLong);
  for_own_chunks(world, chunks, "codes", subject.break_off, [&](int64_t chunk) {
    const int64_t end = chunks.begin(chunk) + chunks.length(chunk);
    for (int64_t from = chunks.begin(chunk); from < end; from += config.batch()) {
      const int64_t n = std::min<int64_t>(config.batch(), end - from);
      const Clips clips = clips_in_order(*subject.stores.validation, from, n, subject.device);
      const Autocast autocast(config.precision(), subject.device.type());
      const at::Tensor codes = tokenizer.encode(clips.x_BTHWC).to(at::kCPU);
      counts[0] += count_codes(codes, tokenizer.codes()).counts;
    }
    return true;
  });
  const at::Tensor all = gather_rows(world, {counts});
  std::vector<Result> results;
  for (const ChosenMetric& metric : chosen) {
    if (!world.is_root() || !is_of_codes(metric)) continue;
    Result& result = results.emplace_back();
    result.metric = metric.name;
    result.value = metric.row->of_codes({all.sum(0), chunks.count});
    result.reference = result.reference_hash = subject.stores.validation->index().store_id();
    result.reference_n = chunks.count;
    add_origin(result, config, subject, /*sampled=*/false);
    result.subject = "codes";
  }
  return results;
}

// In the order of `chosen`, in which each list already is.
std::vector<Result> in_order_of(const std::vector<ChosenMetric>& chosen, std::vector<Result> sets,
                                std::vector<Result> pairs, std::vector<Result> codes) {
  std::vector<Result> results;
  auto set = sets.begin(), pair = pairs.begin(), code = codes.begin();
  for (const ChosenMetric& metric : chosen) {
    results.push_back(std::move(is_of_pairs(metric)   ? *pair++
                                : is_of_codes(metric) ? *code++
                                                      : *set++));
  }
  return results;
}

}  // namespace

void check_evaluation(const EvaluationConfig& config, const ClipShape& shape, const Model& model) {
  std::unique_ptr<Extractor> extractor;
  if (wants_features(config)) {
    extractor = extractor_for(config, at::kCPU, shape, model.parameters().kernels());
  }
  require_codes(choose_metrics(metric_names(config), extractor.get(), shape.frames),
                dynamic_cast<const Tokenizer*>(&model));
}

std::vector<Result> evaluate_model(World& world, const EvaluationConfig& config,
                                   const EvaluationSubject& subject) {
  const at::NoGradGuard no_grad;
  const ClipShape shape = subject.stores.training->clip_shape();
  std::unique_ptr<Extractor> extractor;
  if (wants_features(config)) {
    extractor = extractor_for(config, subject.device, shape, subject.model->parameters().kernels());
  }
  const std::vector<ChosenMetric> chosen =
      choose_metrics(metric_names(config), extractor.get(), shape.frames);
  auto* tokenizer = dynamic_cast<Tokenizer*>(subject.model);
  require_codes(chosen, tokenizer);
  std::unique_ptr<PairDistance> looks;
  if (!config.lpips().empty()) looks = open_pair_distance(config.lpips(), subject.device);

  const bool of_samples = extractor && makes_samples(world, config, subject);
  const bool of_pairs = std::any_of(chosen.begin(), chosen.end(), is_of_pairs);
  std::optional<SubjectClips> samples, reconstructions;
  if (of_samples) samples.emplace(config, subject, true);
  if (of_pairs || (extractor && !of_samples)) reconstructions.emplace(config, subject, false);
  const bool of_codes = std::any_of(chosen.begin(), chosen.end(), is_of_codes);
  if (reconstructions || of_codes) say_what_is_there(world, config, subject);
  if (samples) samples->announce(world);
  if (reconstructions) reconstructions->announce(world);
  Comparison comparison(chosen, config, subject, looks.get());
  std::vector<Result> sets, pairs, codes;
  if (extractor) {
    sets = evaluate_sets(world, config, subject, chosen, *extractor,
                         of_samples ? *samples : *reconstructions,
                         of_pairs && !of_samples ? &comparison : nullptr);
  }
  if (of_pairs) pairs = comparison.results(world, *reconstructions);
  if (of_codes) {
    codes = evaluate_codes(world, config, subject, chosen, *tokenizer);
  }
  log_speed(world, config, samples, reconstructions);
  if (!world.is_root()) return {};
  return in_order_of(chosen, std::move(sets), std::move(pairs), std::move(codes));
}

}  // namespace lf
