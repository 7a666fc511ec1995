#include "eval/feature_sets.h"

#include <torch/headeronly/version.h>

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "base/file_hash.h"
#include "base/isa.h"
#include "base/log.h"
#include "eval/open_extractor.h"
#include "eval/pixel_extractor.h"
#include "eval/statistics.h"
#include "eval/track.h"

namespace lf {
namespace {

// What an earlier evaluation kept of a reference; empty if a layer is missing or damaged.
std::vector<FeatureSet> kept_statistics(const std::string& folder, const Features& features,
                                        const ImageSet& images) {
  std::vector<FeatureSet> sets;
  for (const std::string& layer : features.layers) {
    const std::string path = folder + "/" + layer + ".npz";
    if (!real_file_system().exists(path)) return {};
    try {
      Statistics known = load_statistics(path);
      const int64_t of = images.size() < images.size_of_all() ? images.size_of_all() : 0;
      sets.push_back({images.name(), known.n, std::move(known.moments), {}, images.hash(), of});
    } catch (const Error& error) {
      LF_WARN("made again: ", error.what());
      return {};
    }
  }
  return sets;
}

// Collective. Where the features of a reference are kept: beside its store, for every run, if
// something can be written there; else `otherwise`.
std::string cache_of(World& world, const ImageSet& images, const std::string& otherwise) {
  std::string folder = images.cache();
  if (folder.empty()) return otherwise;
  if (world.is_root()) {
    FileSystem& files = real_file_system();
    try {
      files.make_folders(folder);
      publish_file(files, folder + "/README.txt",
                   "Features that lastframe evaluate computed of the store beside this folder, by "
                   "all that decides them.\nIt may be deleted when no evaluation runs.\n");
    } catch (const Error& error) {
      LF_INFO("the reference's features are ",
              otherwise.empty() ? "not kept" : "kept in " + otherwise, ": ", error.what());
      folder = otherwise;
    }
  }
  return world.broadcast(folder);
}

}  // namespace

void require_same_size(const Extractor& extractor, ClipShape real, const std::string& real_name,
                       ClipShape fake, const std::string& fake_name) {
  if (extractor.frames() == 1) real.frames = fake.frames = 1;
  if (real == fake) return;
  const auto text = [](const ClipShape& shape) {
    return str(shape.frames, " x ", shape.width, "x", shape.height, " with ", shape.channels,
               " channels");
  };
  fail(Code::kUsage, printable(real_name), " is of ", text(real), ", ", printable(fake_name),
       " of ", text(fake), "; a distance needs a reference of the same resolution");
}

std::vector<std::string> metric_names(const EvaluationConfig& config) {
  return {config.metrics().begin(), config.metrics().end()};
}

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

Features::Features(const std::vector<ChosenMetric>& chosen, Extractor* from, std::string id,
                   std::string how)
    : extractor(from), preprocessing(std::move(id)), arithmetic(std::move(how)) {
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

std::string Features::key() const {
  return str("extractor ", extractor->name(), " ", extractor->hash(), "\npreprocessing ",
             preprocessing, "\nlayers ", join(layers, " "), "\npadded to ", pad_to, "\n",
             arithmetic, ", ", name_of(isa()), ", LibTorch ", TORCH_VERSION, "\n");
}

void warn_of_bias(const std::vector<ChosenMetric>& chosen, const Features& features, int64_t real,
                  int64_t made) {
  for (const ChosenMetric& metric : chosen) {
    if (metric.row->needs != Evidence::kMoments) continue;
    for (const ExtractorLayer& layer : features.extractor->layers()) {
      if (layer.name != metric.layer) continue;
      if (!is_mostly_bias(real, layer.dim) && !is_mostly_bias(made, layer.dim)) continue;
      LF_WARN(metric.name, " of ", made, " samples against ", real, " by ", layer.dim,
              " features will be mostly bias, as there are no more samples than features; compare "
              "it at equal n only, or take more samples, or kid, which has no bias");
    }
  }
}

std::vector<FeatureSet> features_of(World& world, const Features& features, const ImageSet& images,
                                    const std::string& cache,
                                    const std::function<bool()>& break_off) {
  const Chunks chunks = Chunks::of(images.size(), static_cast<int64_t>(images.shape().bytes()));
  Extraction what{.title = "features of " + printable(images.name(), 40),
                  .name = images.name(),
                  .chunks = chunks,
                  .read = [&](int64_t first, int64_t n) { return images.read(first, n); },
                  .shape = images.shape(),
                  .layers = features.layers,
                  .pad_to = features.pad_to,
                  .keep_features = features.every_sample,
                  .cache = {},
                  .break_off = break_off};
  if (!cache.empty()) {
    what.cache = ChunkCache(
        cache, "reference",
        str("images ", images.contents(), "\nchunks of ", chunks.size, "\n", features.key()));
  }
  std::vector<FeatureSet> sets = extract_features(world, *features.extractor, what);
  for (FeatureSet& set : sets) {
    set.hash = images.hash();
    if (images.size() < images.size_of_all()) set.of = images.size_of_all();
  }
  return sets;
}

std::vector<FeatureSet> reference_of(World& world, const Features& features, const ImageSet& images,
                                     const std::string& otherwise,
                                     const std::function<bool()>& break_off) {
  const std::string cache = cache_of(world, images, otherwise);
  const bool keep = !cache.empty() && !features.every_sample;
  ChunkCache statistics;
  if (keep) {
    statistics = ChunkCache(
        cache, "statistics",
        str("images ", images.contents(), "\ncount ", images.size(), "\n", features.key()));
    std::vector<FeatureSet> sets;
    if (world.is_root()) sets = kept_statistics(statistics.folder(), features, images);
    if (world.max(static_cast<int64_t>(!sets.empty())) == 1) {
      if (world.is_root()) LF_INFO("the reference's statistics are kept in ", statistics.folder());
      sets.resize(features.layers.size());
      return sets;
    }
  }
  std::vector<FeatureSet> sets = features_of(world, features, images, cache, break_off);
  if (!world.is_root() || !keep) return sets;
  statistics.make_folder();
  for (size_t i = 0; i < sets.size(); ++i) {
    save_statistics(sets[i].moments, statistics.folder() + "/" + features.layers[i] + ".npz");
  }
  return sets;
}

void refuse_reference_count(int64_t count, const std::string& path) {
  if (count == 0) return;
  fail(Code::kUsage, printable(path), " holds the statistics of all its images, of which ", count,
       " cannot be taken; leave --reference-count out, or give the images");
}

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
  return {{path, statistics.n, std::move(statistics.moments), {}, hash_of_file(path), 0}};
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
  // Other extractors than Inception bring their own.
  out.preprocessing = out.extractor.starts_with("inception") ? features.preprocessing : "own";
  if (metric.row->needs != Evidence::kScores) {
    out.reference = real[i].name;
    out.reference_hash = real[i].hash;
    out.reference_n = real[i].n;
    out.reference_of = real[i].of;
  }
  return out;
}

}  // namespace lf
