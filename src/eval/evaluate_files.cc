// evaluate_files(): what is made and what it is compared with are files.
#include <ATen/core/grad_mode.h>

#include "base/error.h"
#include "base/text.h"
#include "eval/evaluate.h"
#include "eval/feature_sets.h"
#include "eval/images.h"
#include "eval/statistics.h"
#include "run/run.h"

namespace lf {

// Two sets of images have neither.
static void refuse_pairs_and_codes(const std::vector<ChosenMetric>& chosen) {
  for (const ChosenMetric& metric : chosen) {
    if (metric.row->needs != Evidence::kCodes && !is_of_pairs(metric)) continue;
    fail(Code::kUsage, "metric ", metric.name, " is of ",
         is_of_pairs(metric) ? "pairs; give them with --pairs A B"
                             : "a tokenizer's codes; give them with --codes FILE.npy");
  }
}

std::vector<Result> evaluate_files(World& world, const Config& run, const MetricOptions& options,
                                   at::Device device, const std::string& real,
                                   const std::string& fake, const std::string& save_as) {
  const at::NoGradGuard no_grad;
  const EvaluationConfig& config = run.evaluation();
  const std::unique_ptr<ImageSet> fakes = open_images(fake);
  const ClipShape shape = fakes->shape();
  const std::unique_ptr<Extractor> extractor = extractor_for(config, device, shape, KernelChoice{});
  const std::vector<ChosenMetric> chosen =
      choose_metrics(metric_names(config), extractor.get(), shape.frames);
  refuse_pairs_and_codes(chosen);
  const Features features(chosen, extractor.get(), config.preprocessing(),
                          arithmetic_key(run.train(), device));
  if (!save_as.empty() && features.layers.size() != 1) {
    fail(Code::kUsage, "--save-statistics keeps those of one layer, the metrics look at ",
         join(features.layers, ", "), "; ask for them one after the other");
  }
  std::vector<FeatureSet> reals(features.layers.size());
  if (real.ends_with(".npz")) {
    reals = statistics_as_reference(features, real);
    refuse_reference_count(options.reference_count, real);
    if (world.is_root()) warn_of_bias(chosen, features, reals[0].n, fakes->size());
  } else if (!real.empty()) {
    std::unique_ptr<ImageSet> images = open_images(real);
    require_same_size(*extractor, images->shape(), real, shape, fake);
    const int64_t all = images->size();
    images = evenly_spaced(std::move(images), all, options.reference_count);
    if (world.is_root()) warn_of_bias(chosen, features, images->size(), fakes->size());
    reals = reference_of(world, features, *images, "");
  }
  const std::vector<FeatureSet> made = features_of(world, features, *fakes, "");
  std::vector<Result> results;
  if (!world.is_root()) return results;
  if (!save_as.empty()) save_statistics(made[0].moments, save_as);
  for (const ChosenMetric& metric : chosen) {
    if (real.empty() && compares(*metric.row)) continue;
    results.push_back(result_of_sets(metric, features, reals, made, options));
    if (metric.row->needs != Evidence::kMoments) {
      results.back().seed = options.seed;
      results.back().seeded = metric.name == "kid_subsets";
    }
  }
  return results;
}

}  // namespace lf
