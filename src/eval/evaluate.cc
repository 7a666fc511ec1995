#include "eval/evaluate.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/tensor.h>

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "checkpoint/manifest.h"
#include "eval/arrays.h"
#include "eval/clips.h"
#include "eval/extraction.h"
#include "eval/images.h"
#include "eval/open_extractor.h"
#include "eval/pixel_extractor.h"
#include "eval/track.h"

namespace lf {
namespace {

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

void require_evidence(const std::vector<ChosenMetric>& chosen, bool has_pairs) {
  for (const ChosenMetric& metric : chosen) {
    if (metric.row->needs == Evidence::kCodes || (is_of_pairs(metric) && !has_pairs)) {
      fail(Code::kUsage, "metric ", metric.name, " is of ",
           is_of_pairs(metric) ? "pairs; give them with --pairs A B"
                               : "a tokenizer's codes; give them with --codes FILE.npy");
    }
  }
}

// Of clips as long, too, if whole clips are looked at.
void require_same_size(const Extractor& extractor, FrameShape real, const std::string& real_name,
                       FrameShape fake, const std::string& fake_name) {
  if (extractor.frames() == 1) real.frames = fake.frames = 1;
  if (real == fake) return;
  const auto text = [](const FrameShape& shape) {
    return str(shape.frames, " x ", shape.width, "x", shape.height, " with ", shape.channels,
               " channels");
  };
  fail(Code::kUsage, printable(real_name), " is of ", text(real), ", ", printable(fake_name),
       " of ", text(fake), "; a distance needs a reference of the same resolution");
}

// What features are looked at, by which extractor, for which metrics.
struct Features {
  Extractor* extractor = nullptr;
  std::string preprocessing;
  std::vector<std::string> layers;  // each once
  int64_t pad_to = 0;
  bool every_sample = false;  // of the made ones and of the real ones; else moments do

  Features(const std::vector<ChosenMetric>& chosen, Extractor* from, std::string id)
      : extractor(from), preprocessing(std::move(id)) {
    for (const ChosenMetric& metric : chosen) {
      if (metric.layer.empty()) continue;
      if (std::find(layers.begin(), layers.end(), metric.layer) == layers.end()) {
        layers.push_back(metric.layer);
      }
      pad_to = std::max(pad_to, metric.pad_to);
      every_sample = every_sample || metric.row->needs != Evidence::kMoments;
    }
    std::sort(layers.begin(), layers.end());
  }

  // For the keys of caches.
  std::string text() const {
    return str("extractor ", extractor->name(), " ", extractor->hash(), "\npreprocessing ",
               preprocessing, "\nlayers ", join(layers, " "), "\npadded to ", pad_to, "\n");
  }
};

int64_t clip_bytes(const FrameShape& shape) { return static_cast<int64_t>(shape.bytes()); }

std::vector<FeatureSet> features_of(World& world, const Features& features, const ImageSet& images,
                                    int64_t count, const std::string& cache) {
  const Chunks chunks = Chunks::of(count, clip_bytes(images.shape()));
  Extraction what{.title = "features of " + printable(images.name(), 40),
                  .name = images.name(),
                  .chunks = chunks,
                  .make = [&](int64_t first, int64_t n) { return images.read(first, n); },
                  .layers = features.layers,
                  .pad_to = features.pad_to,
                  .keep_features = features.every_sample,
                  .cache = {}};
  if (!cache.empty()) {
    what.cache = ChunkCache(
        world, cache, "reference",
        str("images ", images.name(), "\nchunks of ", chunks.size, "\n", features.text()));
  }
  return extract_features(world, *features.extractor, what);
}

// What an earlier evaluation kept of a reference; empty if a layer is missing or damaged.
std::vector<FeatureSet> kept_statistics(const std::string& folder, const Features& features,
                                        const std::string& name) {
  std::vector<FeatureSet> sets;
  for (const std::string& layer : features.layers) {
    const std::string path = folder + "/" + layer + ".npz";
    if (!real_file_system().exists(path)) return {};
    try {
      Statistics known = load_statistics(path);
      sets.push_back({name, known.n, std::move(known.moments), {}});
    } catch (const Error& error) {
      LF_WARN("made again: ", error.what());
      return {};
    }
  }
  return sets;
}

// The first `count` of the images. With a cache, and if moments are enough, their statistics are
// kept, and taken from there the next time.
std::vector<FeatureSet> reference_of(World& world, const Features& features, const ImageSet& images,
                                     int64_t count, const std::string& cache) {
  const bool keep = !cache.empty() && !features.every_sample;
  std::string folder;
  if (keep) {
    folder = ChunkCache(world, cache, "statistics",
                        str("images ", images.name(), "\ncount ", count, "\n", features.text()))
                 .folder();
    std::vector<FeatureSet> sets;
    if (world.is_root()) sets = kept_statistics(folder, features, images.name());
    if (world.max(static_cast<int64_t>(!sets.empty())) == 1) {
      sets.resize(features.layers.size());
      return sets;
    }
  }
  std::vector<FeatureSet> sets = features_of(world, features, images, count, cache);
  for (size_t i = 0; world.is_root() && keep && i < sets.size(); ++i) {
    save_statistics(sets[i].moments, folder + "/" + features.layers[i] + ".npz");
  }
  return sets;
}

// On every rank, though only rank 0 computes with it.
std::vector<FeatureSet> statistics_as_reference(const Features& features, const std::string& path) {
  if (features.layers.size() != 1) {
    fail(Code::kUsage, printable(path), " holds the statistics of one layer, the metrics look at ",
         join(features.layers, ", "), "; evaluate them one after the other");
  }
  Statistics statistics = load_statistics(path);
  for (const ExtractorLayer& layer : features.extractor->layers()) {
    if (layer.name == features.layers[0] && layer.dim != statistics.moments.dim()) {
      fail(Code::kUsage, printable(path), " holds statistics of ", statistics.moments.dim(),
           " features, layer ", layer.name, " of ", features.extractor->name(), " has ", layer.dim,
           "; give those of the same layer");
    }
  }
  return {{path, statistics.n, std::move(statistics.moments), {}}};
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
    const FrameShape shape = subject.store->clip_shape();
    if (wants_features(config)) {
      extractor_ = extractor_for(config, subject.device, shape);
    }
    chosen_ = choose_metrics(names_of(config), extractor_.get(), shape.frames);
    require_evidence(chosen_, true);
    if (!config.lpips().empty()) looks_ = open_pair_distance(config.lpips(), subject.device);
  }

  std::vector<Result> run() {
    const at::NoGradGuard no_grad;
    sampled_ = extractor_ && makes_samples();
    std::vector<Result> sets, pairs;
    if (extractor_) sets = evaluate_sets();
    if (std::any_of(chosen_.begin(), chosen_.end(), is_of_pairs)) pairs = evaluate_pairs();
    std::vector<Result> results;  // in the order asked for; each list is already in that order
    auto set = sets.begin(), pair = pairs.begin();
    for (const ChosenMetric& metric : chosen_) {
      if (!world_.is_root()) break;
      results.push_back(std::move(is_of_pairs(metric) ? *pair++ : *set++));
    }
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

  at::Tensor made_in_batches(bool sampled, int64_t first, int64_t count) const {
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
    return at::cat(parts);
  }

  std::string made_text(bool sampled, const Chunks& chunks) const {
    return str(subject_.weights_text, "\n",
               sampled ? str("samples of seed ", config_.seed())
                       : str("reconstructions of store ", subject_.validation->index().store_id()),
               "\nchunks of ", chunks.size, "\n");
  }

  // What the model makes, from the cache where it was made before.
  ClipMaker maker(bool sampled, const Chunks& chunks) const {
    ChunkCache cache;
    if (!cache_.empty()) {
      cache = ChunkCache(world_, cache_, sampled ? "samples" : "reconstructions",
                         made_text(sampled, chunks));
    }
    return [this, sampled, chunks, cache](int64_t first, int64_t count) {
      return cache
          .get(first / chunks.size, count,
               [&] {
                 return NamedArrays{{"clips", made_in_batches(sampled, first, count)}};
               })
          .at("clips");
    };
  }

  std::vector<Result> evaluate_sets() {
    const Features features(chosen_, extractor_.get(), config_.preprocessing());
    const Chunks chunks = Chunks::of(count_of(sampled_), clip_bytes(subject_.store->clip_shape()));
    Extraction what{.title = sampled_ ? "samples" : "reconstructions",
                    .name = sampled_ ? "samples" : "reconstructions",
                    .chunks = chunks,
                    .make = maker(sampled_, chunks),
                    .layers = features.layers,
                    .pad_to = features.pad_to,
                    .keep_features = features.every_sample,
                    .cache = {}};
    if (!cache_.empty()) {
      what.cache =
          ChunkCache(world_, cache_, "features", made_text(sampled_, chunks) + features.text());
    }
    const std::vector<FeatureSet> real = reference(features);
    const std::vector<FeatureSet> fake = extract_features(world_, *extractor_, what);
    std::vector<Result> results;
    for (const ChosenMetric& metric : chosen_) {
      if (!world_.is_root() || is_of_pairs(metric)) continue;
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
      return reference_of(world_, features, *images, images->size(), "");
    }
    const std::unique_ptr<ImageSet> images =
        images_of_store(sampled_ ? subject_.store : subject_.validation);
    // Of a run that keeps nothing of its samples the reference is kept all the same.
    return reference_of(world_, features, *images, sampled_ ? images->size() : count_of(false),
                        subject_.run_folder + "/evaluations/cache");
  }

  std::vector<Result> evaluate_pairs() {
    const Chunks chunks = Chunks::of(count_of(false), clip_bytes(subject_.store->clip_shape()));
    const ClipMaker made = maker(false, chunks);
    const std::unique_ptr<ImageSet> real = images_of_store(subject_.validation);
    std::vector<std::vector<at::Tensor>> values(chosen_.size());
    for_own_chunks(world_, chunks, "reconstructions", [&](int64_t chunk) {
      const int64_t first = chunks.begin(chunk), n = chunks.length(chunk);
      compare(real->read(first, n), made(first, n), values);
    });
    std::vector<Result> results;
    for (size_t i = 0; i < chosen_.size(); ++i) {
      if (!is_of_pairs(chosen_[i])) continue;
      const at::Tensor values_NT = gather_rows(world_, values[i]);
      if (!world_.is_root()) continue;
      Result& result = results.emplace_back();
      result.metric = chosen_[i].name;
      result.value = summarise_frames(values_NT);
      const size_t given = subject_.model->frames_to_give().size();
      if (given > 0) result.value.more.emplace_back("given_frames", static_cast<double>(given));
      result.reference = real->name();
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

  void compare(const at::Tensor& real, const at::Tensor& made,
               std::vector<std::vector<at::Tensor>>& values) const {
    const int64_t at_once = std::max<int64_t>(1, kNumbersAtOnce / (real.numel() / real.size(0)));
    for (int64_t from = 0; from < real.size(0); from += at_once) {
      const at::Tensor a = judged(real.slice(0, from, from + at_once));
      const at::Tensor b = judged(made.slice(0, from, from + at_once));
      for (size_t i = 0; i < chosen_.size(); ++i) {
        if (is_of_pairs(chosen_[i])) {
          values[i].push_back(compute_of_pairs(chosen_[i], a, b, looks_.get()).contiguous());
        }
      }
    }
  }

  void describe(Result& result, bool sampled) const {
    result.subject = sampled ? "samples" : "reconstructions";
    result.seed = config_.seed();
    result.seeded = sampled;
    result.images = subject_.images;
    result.weights = subject_.weights;
  }

  World& world_;
  const EvaluationConfig& config_;
  const EvaluationSubject& subject_;
  std::string cache_;  // "": nothing that the model makes is kept
  std::unique_ptr<Extractor> extractor_;
  std::unique_ptr<PairDistance> looks_;
  std::vector<ChosenMetric> chosen_;
  bool sampled_ = false;  // sets are of samples, not of reconstructions
};

}  // namespace

std::unique_ptr<Extractor> extractor_for(const EvaluationConfig& config, at::Device device,
                                         const FrameShape& shape) {
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
  return open_extractor(config.extractor(), id, device);
}

void check_evaluation(const EvaluationConfig& config, const Store& store) {
  std::unique_ptr<Extractor> extractor;
  const FrameShape shape = store.clip_shape();
  if (wants_features(config)) extractor = extractor_for(config, at::kCPU, shape);
  require_evidence(choose_metrics(names_of(config), extractor.get(), shape.frames), true);
}

std::vector<Result> evaluate_model(World& world, const EvaluationConfig& config,
                                   const EvaluationSubject& subject) {
  return Evaluation(world, config, subject).run();
}

std::string publish_results(const std::vector<Result>& results, const EvaluationSubject& subject) {
  LF_CHECK(!results.empty());
  std::vector<std::string> names;
  for (const Result& result : results) names.push_back(result.metric);
  const Result& first = results.front();
  const std::string folder = subject.run_folder + "/evaluations";
  real_file_system().make_folders(folder);
  const std::string path = str(folder, "/", checkpoint_name(subject.images), "-", first.subject,
                               "-n", first.value.n, first.seeded ? str("-seed", first.seed) : "",
                               "-", join(names, "-").substr(0, 120), ".json");
  publish_file(real_file_system(), path, results_json(results) + "\n");
  return path;
}

std::vector<Result> evaluate_files(World& world, const EvaluationConfig& config,
                                   const MetricOptions& options, at::Device device,
                                   const std::string& real, const std::string& fake,
                                   const std::string& save_as) {
  const at::NoGradGuard no_grad;
  const std::unique_ptr<ImageSet> fakes = open_images(fake);
  const FrameShape shape = fakes->shape();
  const std::unique_ptr<Extractor> extractor = extractor_for(config, device, shape);
  const std::vector<ChosenMetric> chosen =
      choose_metrics(names_of(config), extractor.get(), shape.frames);
  require_evidence(chosen, false);
  const Features features(chosen, extractor.get(), config.preprocessing());
  std::vector<FeatureSet> reals;
  if (real.ends_with(".npz")) {
    reals = statistics_as_reference(features, real);
  } else {
    const std::unique_ptr<ImageSet> images = open_images(real);
    require_same_size(*extractor, images->shape(), real, shape, fake);
    reals = features_of(world, features, *images, images->size(), "");
  }
  const std::vector<FeatureSet> made = features_of(world, features, *fakes, fakes->size(), "");
  std::vector<Result> results;
  if (!world.is_root()) return results;
  if (!save_as.empty()) {
    if (features.layers.size() != 1) {
      fail(Code::kUsage, "--save-statistics keeps those of one layer, the metrics look at ",
           join(features.layers, ", "), "; evaluate them one after the other");
    }
    save_statistics(made[0].moments, save_as);
  }
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
