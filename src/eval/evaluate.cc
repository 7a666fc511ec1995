#include "eval/evaluate.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <chrono>
#include <map>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "eval/arrays.h"
#include "eval/extraction.h"
#include "eval/feature_sets.h"
#include "eval/images.h"
#include "eval/open_extractor.h"
#include "eval/pixel_extractor.h"
#include "eval/track.h"
#include "model/autocast.h"
#include "model/tokens/tokenizer.h"
#include "run/clips.h"

namespace lf {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kNumbersAtOnce = int64_t{1} << 22;  // of the pixels of pairs

std::vector<std::string> names_of(const EvaluationConfig& config) {
  return {config.metrics().begin(), config.metrics().end()};
}

// Some metric looks at sets of features.
bool wants_features(const EvaluationConfig& config) {
  const std::vector<std::string> names = names_of(config);
  return std::any_of(names.begin(), names.end(), [](const std::string& name) {
    return std::none_of(metric_table().begin(), metric_table().end(), [&](const Metric& row) {
      return name == row.name && row.of_sets == nullptr;
    });
  });
}

bool is_of_codes(const ChosenMetric& metric) { return metric.row->needs == Evidence::kCodes; }

bool is_of_sets(const ChosenMetric& metric) { return !is_of_codes(metric) && !is_of_pairs(metric); }

void require_codes(const std::vector<ChosenMetric>& chosen, const Tokenizer* tokenizer) {
  for (const ChosenMetric& metric : chosen) {
    if (!is_of_codes(metric) || tokenizer != nullptr) continue;
    fail(Code::kUsage, "metric ", metric.name,
         " is of a tokenizer's codes, and this run's model is ",
         "none; evaluate the run of a vqvae or cvivit");
  }
}

// Two sets of images have neither.
void refuse_pairs_and_codes(const std::vector<ChosenMetric>& chosen) {
  for (const ChosenMetric& metric : chosen) {
    if (is_of_sets(metric)) continue;
    fail(Code::kUsage, "metric ", metric.name, " is of ",
         is_of_pairs(metric) ? "pairs; give them with --pairs A B"
                             : "a tokenizer's codes; give them with --codes FILE.npy");
  }
}

Result result_of_sets(const ChosenMetric& metric, const Features& features,
                      const std::vector<FeatureSet>& real, const std::vector<FeatureSet>& fake,
                      const MetricOptions& options) {
  const auto at = std::find(features.layers.begin(), features.layers.end(), metric.layer) -
                  features.layers.begin();
  const auto i = static_cast<size_t>(at);
  Result out;
  out.metric = metric.name;
  out.value = compute_of_sets(metric, real[i], fake[i], options);
  out.extractor = features.extractor->name();
  out.extractor_hash = features.extractor->hash();
  out.layer = metric.layer;
  out.preprocessing = features.preprocessing;
  if (metric.row->needs != Evidence::kScores) {
    out.reference = real[i].name;
    out.reference_hash = real[i].hash;
    out.reference_n = real[i].n;
  }
  if (!out.value.more.empty() && out.value.more[0].first == "few_samples") {
    LF_WARN(metric.name, " of ", fake[i].n, " samples against ", real[i].n, " by ",
            real[i].moments.dim(), " features is mostly bias; compare it at equal n only");
  }
  return out;
}

class Evaluation {
 public:
  Evaluation(World& world, const EvaluationConfig& config, const EvaluationSubject& subject)
      : world_(world), config_(config), subject_(subject) {
    if (!subject.weights_text.empty()) cache_ = subject.run_folder + "/evaluations/cache";
    const ClipShape shape = subject.store->clip_shape();
    if (wants_features(config)) {
      extractor_ =
          extractor_for(config, subject.device, shape, subject.model->parameters().kernels());
    }
    chosen_ = choose_metrics(names_of(config), extractor_.get(), shape.frames);
    tokenizer_ = dynamic_cast<Tokenizer*>(subject.model);
    require_codes(chosen_, tokenizer_);
    if (!config.lpips().empty()) looks_ = open_pair_distance(config.lpips(), subject.device);
  }

  std::vector<Result> run() {
    const at::NoGradGuard no_grad;
    sampled_ = extractor_ && makes_samples();
    has_pairs_ = std::any_of(chosen_.begin(), chosen_.end(), is_of_pairs);
    std::vector<Result> sets, pairs, codes;
    if (extractor_) sets = evaluate_sets();
    if (has_pairs_) pairs = evaluate_pairs();
    if (std::any_of(chosen_.begin(), chosen_.end(), is_of_codes)) codes = evaluate_codes();
    std::vector<Result> results;  // in the order asked for; each list is already in that order
    auto set = sets.begin(), pair = pairs.begin(), code = codes.begin();
    for (const ChosenMetric& metric : chosen_) {
      if (!world_.is_root()) break;
      results.push_back(std::move(is_of_pairs(metric)   ? *pair++
                                  : is_of_codes(metric) ? *code++
                                                        : *set++));
    }
    tell_speed();
    return results;
  }

 private:
  // Every rank would find the same; rank 0 finds it for all.
  bool makes_samples() {
    if (config_.subject() != EvaluationConfig::AUTO) {
      return config_.subject() == EvaluationConfig::SAMPLES;
    }
    bool makes = true;
    if (world_.is_root()) {
      try {
        const Autocast autocast = arithmetic();
        subject_.model->sample(request(0, 1));
      } catch (const Error& error) {
        if (error.code() != Code::kUsage) throw;
        LF_INFO("evaluating reconstructions: ", error.what());
        makes = false;
      }
    }
    return world_.min(static_cast<int64_t>(makes)) == 1;
  }

  SampleRequest request(int64_t first, int64_t count) const {
    SampleRequest request;
    request.seed = config_.seed();
    request.first = first;
    request.count = count;
    return request;
  }

  int64_t count_of(bool sampled) const {
    if (sampled) return config_.samples();
    return std::min<int64_t>(config_.samples(), static_cast<int64_t>(subject_.validation->clips()));
  }

  Autocast arithmetic() const { return {config_.precision(), subject_.device.type()}; }

  at::Tensor made_in_batches(bool sampled, int64_t first, int64_t count) {
    const Clock::time_point begin = Clock::now();
    const Autocast autocast = arithmetic();
    std::vector<at::Tensor> parts;
    for (int64_t from = first; from < first + count; from += config_.batch()) {
      const int64_t n = std::min<int64_t>(config_.batch(), first + count - from);
      const at::Tensor made = sampled ? subject_.model->sample(request(from, n))
                                      : subject_.model->reconstruct(clips_in_order(
                                            *subject_.validation, from, n, subject_.device));
      if (!at::isfinite(made).all().item<bool>()) {
        fail(Code::kNotFinite, sampled ? "samples " : "reconstructions ", from, " to ",
             from + n - 1, " are not finite; is it the checkpoint of a run that diverged?");
      }
      parts.push_back(bytes_of(made));
    }
    made_ += count;
    making_seconds_ += std::chrono::duration<double>(Clock::now() - begin).count();
    return at::cat(parts);
  }

  // Collective. What comes from the cache was made at another time.
  void tell_speed() {
    const int64_t made = world_.sum(made_);
    const double seconds = world_.max(making_seconds_);
    if (made == 0 || !world_.is_root()) return;
    const char* what = !sampled_    ? " reconstructions"
                       : has_pairs_ ? " samples and reconstructions"
                                    : " samples";
    LF_INFO(made, what, " were made in ", human_seconds(seconds), ", ",
            human_rate(static_cast<double>(made) / seconds), " on ", world_.size(),
            world_.size() == 1 ? " rank, " : " ranks, ", Precision_Name(config_.precision()));
  }

  std::string made_text(bool sampled, const Chunks& chunks) const {
    return str(subject_.weights_text, "\n",
               sampled ? str("samples of seed ", config_.seed())
                       : str("reconstructions of store ", subject_.validation->index().store_id()),
               "\nchunks of ", chunks.size, ", ", Precision_Name(config_.precision()), "\n");
  }

  // What the model makes, from the cache where it was made before.
  ClipMaker maker(bool sampled, const Chunks& chunks) {
    ChunkCache cache;
    if (!cache_.empty()) {
      cache =
          ChunkCache(cache_, sampled ? "samples" : "reconstructions", made_text(sampled, chunks));
    }
    return [this, sampled, chunks, cache](int64_t first, int64_t count) {
      return cache
          .get(first / chunks.size, count,
               [&] {
                 return TensorsByName{{"clips", made_in_batches(sampled, first, count)}};
               })
          .at("clips");
    };
  }

  std::vector<Result> evaluate_sets() {
    const Features features(chosen_, extractor_.get(), config_.preprocessing());
    const Chunks chunks = Chunks::of(count_of(sampled_), clip_bytes());
    Extraction what{.title = sampled_ ? "samples" : "reconstructions",
                    .name = sampled_ ? "samples" : "reconstructions",
                    .chunks = chunks,
                    .make = maker(sampled_, chunks),
                    .layers = features.layers,
                    .pad_to = features.pad_to,
                    .keep_features = features.every_sample,
                    .cache = {},
                    .break_off = subject_.break_off};
    if (!sampled_ && has_pairs_) {
      // While a chunk of reconstructions is at hand it is compared with its originals, too.
      what.make = [this, made = what.make, chunks](int64_t first, int64_t count) {
        const at::Tensor clips = made(first, count);
        compared_[first / chunks.size] = compare(first, clips);
        return clips;
      };
    }
    if (!cache_.empty()) {
      what.cache = ChunkCache(cache_, "features", made_text(sampled_, chunks) + features.text());
    }
    const std::vector<FeatureSet> real = reference(features);
    const std::vector<FeatureSet> fake = extract_features(world_, *extractor_, what);
    std::vector<Result> results;
    for (const ChosenMetric& metric : chosen_) {
      if (!world_.is_root() || !is_of_sets(metric)) continue;
      results.push_back(result_of_sets(metric, features, real, fake, {config_.seed(), 0}));
      describe(results.back(), sampled_);
    }
    return results;
  }

  std::vector<FeatureSet> reference(const Features& features) {
    const bool npz = config_.reference().ends_with(".npz");
    if (npz) return statistics_as_reference(features, config_.reference());
    if (!config_.reference().empty()) {
      const std::unique_ptr<ImageSet> images = open_images(config_.reference());
      require_same_size(*extractor_, images->shape(), images->name(), subject_.store->clip_shape(),
                        "what the model makes");
      return reference_of(world_, features, *images, images->size(), "", subject_.break_off);
    }
    const std::unique_ptr<ImageSet> images =
        images_of_store(sampled_ ? subject_.store : subject_.validation);
    // Of a run that keeps nothing of its samples the reference is kept all the same.
    return reference_of(world_, features, *images, sampled_ ? images->size() : count_of(false),
                        subject_.run_folder + "/evaluations/cache", subject_.break_off);
  }

  std::vector<Result> evaluate_pairs() {
    const Chunks chunks = Chunks::of(count_of(false), clip_bytes());
    const ClipMaker made = maker(false, chunks);
    std::vector<std::vector<at::Tensor>> values(chosen_.size());
    for_own_chunks(world_, chunks, "reconstructions", subject_.break_off, [&](int64_t chunk) {
      const int64_t first = chunks.begin(chunk);
      const auto known = compared_.find(chunk);
      const std::vector<at::Tensor> of_chunk =
          known != compared_.end() ? known->second
                                   : compare(first, made(first, chunks.length(chunk)));
      for (size_t i = 0; i < chosen_.size(); ++i) {
        if (of_chunk[i].defined()) values[i].push_back(of_chunk[i]);
      }
    });
    std::vector<Result> results;
    for (size_t i = 0; i < chosen_.size(); ++i) {
      if (!is_of_pairs(chosen_[i])) continue;
      const at::Tensor values_NT = gather_rows(world_, values[i]);
      if (!world_.is_root()) continue;
      Result& result = results.emplace_back();
      result.metric = chosen_[i].name;
      result.value = summarise_frames(values_NT);
      result.reference = result.reference_hash = subject_.validation->index().store_id();
      const size_t given = subject_.model->frames_to_give().size();
      if (given > 0) result.value.more.emplace_back("given_frames", static_cast<double>(given));
      result.reference_n = chunks.count;
      if (chosen_[i].row->needs == Evidence::kLooks) {
        result.extractor = looks_->name();
        result.extractor_hash = looks_->hash();
      }
      describe(result, false);
    }
    return results;
  }

  // From 0 to 1, without the frames that the model was given and only gives back.
  at::Tensor judged(const at::Tensor& bytes_NTHWC) const {
    const std::vector<int64_t> given = subject_.model->frames_to_give();
    std::vector<int64_t> made;
    for (int64_t frame = 0; frame < bytes_NTHWC.size(1); ++frame) {
      if (std::find(given.begin(), given.end(), frame) == given.end()) made.push_back(frame);
    }
    return bytes_NTHWC.index_select(1, at::tensor(made, at::kLong)).to(at::kDouble) / 255;
  }

  // Reconstructions `first` and on with their originals: [n, T] for each metric of pairs.
  std::vector<at::Tensor> compare(int64_t first, const at::Tensor& made) const {
    const at::Tensor real = images_of_store(subject_.validation)->read(first, made.size(0));
    const int64_t at_once = std::max<int64_t>(1, kNumbersAtOnce / (real.numel() / real.size(0)));
    std::vector<std::vector<at::Tensor>> parts(chosen_.size());
    for (int64_t from = 0; from < real.size(0); from += at_once) {
      const at::Tensor a = judged(real.slice(0, from, from + at_once));
      const at::Tensor b = judged(made.slice(0, from, from + at_once));
      for (size_t i = 0; i < chosen_.size(); ++i) {
        if (is_of_pairs(chosen_[i])) {
          parts[i].push_back(compute_of_pairs(chosen_[i], a, b, looks_.get()));
        }
      }
    }
    std::vector<at::Tensor> values(chosen_.size());
    for (size_t i = 0; i < chosen_.size(); ++i) {
      if (!parts[i].empty()) values[i] = at::cat(parts[i]).contiguous();
    }
    return values;
  }

  // Of the clips that would be reconstructed. Whole numbers, so that any order of adding does.
  std::vector<Result> evaluate_codes() {
    const Chunks chunks = Chunks::of(count_of(false), clip_bytes());
    const int64_t codebook = tokenizer_->codes();
    at::Tensor counts = at::zeros({1, codebook}, at::kLong);
    for_own_chunks(world_, chunks, "codes", subject_.break_off, [&](int64_t chunk) {
      const int64_t end = chunks.begin(chunk) + chunks.length(chunk);
      for (int64_t from = chunks.begin(chunk); from < end; from += config_.batch()) {
        const int64_t n = std::min<int64_t>(config_.batch(), end - from);
        const Clips clips = clips_in_order(*subject_.validation, from, n, subject_.device);
        const Autocast autocast = arithmetic();
        counts[0] += count_codes(tokenizer_->encode(clips.x_BTHWC).to(at::kCPU), codebook).counts;
      }
    });
    const at::Tensor all = gather_rows(world_, {counts});
    std::vector<Result> results;
    for (const ChosenMetric& metric : chosen_) {
      if (!world_.is_root() || !is_of_codes(metric)) continue;
      Result& result = results.emplace_back();
      result.metric = metric.name;
      result.value = metric.row->of_codes({all.sum(0), chunks.count});
      result.reference = result.reference_hash = subject_.validation->index().store_id();
      result.reference_n = chunks.count;
      describe(result, false);
      result.subject = "codes";
    }
    return results;
  }

  int64_t clip_bytes() const { return static_cast<int64_t>(subject_.store->clip_shape().bytes()); }

  void describe(Result& result, bool sampled) const {
    result.subject = sampled ? "samples" : "reconstructions";
    result.seed = config_.seed();
    result.seeded = sampled;
    result.images = subject_.images;
    result.weights = subject_.weights;
    result.precision = Precision_Name(config_.precision());
  }

  World& world_;
  const EvaluationConfig& config_;
  const EvaluationSubject& subject_;
  std::string cache_;  // "": nothing that the model makes is kept
  std::unique_ptr<Extractor> extractor_;
  std::unique_ptr<PairDistance> looks_;
  Tokenizer* tokenizer_ = nullptr;  // the model, if it is one
  std::vector<ChosenMetric> chosen_;
  bool sampled_ = false;  // sets are of samples, not of reconstructions
  bool has_pairs_ = false;
  std::map<int64_t, std::vector<at::Tensor>> compared_;  // by chunk, what compare() gave
  int64_t made_ = 0;                                     // clips, by this rank
  double making_seconds_ = 0;
};

}  // namespace

std::unique_ptr<Extractor> extractor_for(const EvaluationConfig& config, at::Device device,
                                         const ClipShape& shape, const KernelChoice& kernels) {
  const Preprocessing id = parse_preprocessing(config.preprocessing());
  if (config.extractor() == "pixels") return make_pixel_extractor(shape.channels);
  if (config.extractor() == "track") {
    if (shape.frames < 2)
      fail(Code::kUsage, "extractor track follows things through clips, and these are images");
    return make_track_extractor(shape.frames);
  }
  if (config.extractor().empty()) {
    fail(Code::kUsage, "these metrics need an extractor; give a file of weights with --extractor ",
         "FILE (or evaluation.extractor), or --extractor pixels for fd_pixels, or track for "
         "track_outliers, which need none");
  }
  return open_extractor(config.extractor(), id, device, kernels);
}

void check_evaluation(const EvaluationConfig& config, const Store& store, const Model& model) {
  std::unique_ptr<Extractor> extractor;
  const ClipShape shape = store.clip_shape();
  if (wants_features(config))
    extractor = extractor_for(config, at::kCPU, shape, model.parameters().kernels());
  require_codes(choose_metrics(names_of(config), extractor.get(), shape.frames),
                dynamic_cast<const Tokenizer*>(&model));
}

std::vector<Result> evaluate_model(World& world, const EvaluationConfig& config,
                                   const EvaluationSubject& subject) {
  return Evaluation(world, config, subject).run();
}

std::vector<Result> evaluate_files(World& world, const EvaluationConfig& config,
                                   const MetricOptions& options, at::Device device,
                                   const std::string& real, const std::string& fake,
                                   const std::string& save_as) {
  const at::NoGradGuard no_grad;
  const std::unique_ptr<ImageSet> fakes = open_images(fake);
  const ClipShape shape = fakes->shape();
  const std::unique_ptr<Extractor> extractor = extractor_for(config, device, shape, KernelChoice{});
  const std::vector<ChosenMetric> chosen =
      choose_metrics(names_of(config), extractor.get(), shape.frames);
  refuse_pairs_and_codes(chosen);
  const Features features(chosen, extractor.get(), config.preprocessing());
  if (!save_as.empty() && features.layers.size() != 1) {
    fail(Code::kUsage, "--save-statistics keeps those of one layer, the metrics look at ",
         join(features.layers, ", "), "; ask for them one after the other");
  }
  std::vector<FeatureSet> reals;
  if (real.ends_with(".npz")) {
    reals = statistics_as_reference(features, real);
  } else if (!real.empty()) {
    const std::unique_ptr<ImageSet> images = open_images(real);
    require_same_size(*extractor, images->shape(), real, shape, fake);
    reals = features_of(world, features, *images, images->size(), "");
  }
  const std::vector<FeatureSet> made = features_of(world, features, *fakes, fakes->size(), "");
  std::vector<Result> results;
  if (!world.is_root()) return results;
  if (!save_as.empty()) save_statistics(made[0].moments, save_as);
  if (real.empty()) return results;
  for (const ChosenMetric& metric : chosen) {
    results.push_back(result_of_sets(metric, features, reals, made, options));
    if (metric.row->needs != Evidence::kMoments) {
      results.back().seed = options.seed;
      results.back().seeded = metric.name == "kid_subsets";
    }
  }
  return results;
}

}  // namespace lf
