// `lastframe evaluate`: a run's newest checkpoint, two sets of images, two files of features, pairs
// of images, or the codes of a tokenizer, by the metrics asked for. The second file of --features A
// B and --pairs A B stands as an argument of its own. What metrics are and how they are computed is
// src/eval's.
#include "eval/evaluate.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/isfinite.h>

#include <algorithm>
#include <cstdio>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/stop_signals.h"
#include "comm/world.h"
#include "config/config.h"
#include "eval/arrays.h"
#include "eval/images.h"
#include "eval/open_extractor.h"
#include "launch/commands.h"
#include "launch/evaluate_run.h"
#include "launch/plugin.h"
#include "run/accelerator.h"

namespace lf {
namespace {

std::vector<std::string> metrics_of(const Arguments& arguments) {
  return split(arguments.required("--metrics"), ',');
}

MetricOptions options_of(const Arguments& arguments) {
  MetricOptions options;
  options.seed = static_cast<uint64_t>(arguments.number("--seed", 0, 0, INT64_MAX));
  options.neighbours = arguments.number("--neighbours", 0, 1, 1000);
  return options;
}

void require_kind(const ChosenMetric& metric, bool right, const char* input) {
  if (right) return;
  fail(Code::kUsage, "metric ", metric.name, " cannot be computed from ", input,
       "; lastframe list metrics says what each is of");
}

FeatureSet feature_file(const std::string& path) {
  FeatureSet set;
  set.name = path;
  if (path.ends_with(".npz")) {
    Statistics statistics = load_statistics(path);
    set.n = statistics.n;
    set.moments = std::move(statistics.moments);
    set.hash = hash_of_file(path);
    return set;
  }
  set.features_ND = load_features(path);
  set.hash = hash_of_file(path);
  set.n = set.features_ND.size(0);
  set.moments.add(set.features_ND);
  return set;
}

std::vector<Result> evaluate_features(const Arguments& arguments) {
  const FeatureSet real = feature_file(arguments.get("--features"));
  const FeatureSet fake = feature_file(arguments.positional()[0]);
  const MetricOptions options = options_of(arguments);
  std::vector<Result> results;
  for (const ChosenMetric& metric : choose_metrics(metrics_of(arguments), nullptr, 1)) {
    const bool free = metric.row->of_sets != nullptr && *metric.row->extractor == '\0';
    require_kind(metric, free && !metric.row->clips, "bare features");
    Result& result = results.emplace_back();
    result.metric = metric.name;
    result.value = compute_of_sets(metric, real, fake, options);
    result.reference = metric.row->needs == Evidence::kScores ? "" : real.name;
    result.reference_hash = metric.row->needs == Evidence::kScores ? "" : real.hash;
    result.reference_n = metric.row->needs == Evidence::kScores ? 0 : real.n;
    result.seed = options.seed;
    result.seeded = metric.name == "kid_subsets";
  }
  return results;
}

// [N, T, H, W, C] of doubles in [0, 1] from bytes or floats; an ensemble keeps its first dimension.
at::Tensor pixels_of(const std::string& path) {
  at::Tensor array;
  if (path.ends_with(".npy")) {
    array = load_npy(path);
  } else {
    const std::unique_ptr<ImageSet> images = open_images(path);
    array = images->read(0, images->size());
  }
  if (array.dim() < 3 || (array.size(-1) != 1 && array.size(-1) != 3)) array = array.unsqueeze(-1);
  if (array.dim() == 4) array = array.unsqueeze(1);  // images are clips of one frame
  if (array.dim() < 5 || array.dim() > 6) {
    fail(Code::kData, printable(path), " is no array of images [N, H, W], [N, H, W, C] or videos ",
         "[N, T, H, W, C], C 1 or 3");
  }
  if (array.scalar_type() == at::kByte) return array.to(at::kDouble) / 255;
  const at::Tensor floats = array.to(at::kDouble);
  // Written so that NaN is refused too.
  if (!at::isFloatingType(array.scalar_type()) ||
      !((floats >= 0) & (floats <= 1)).all().item<bool>()) {
    fail(Code::kData, printable(path), ": pixels are bytes, or floats from 0 to 1; some are ",
         at::isfinite(floats).all().item<bool>() ? "others" : "NaN or infinite");
  }
  return floats;
}

std::vector<Result> evaluate_pairs(const Arguments& arguments) {
  const std::string a_path = arguments.get("--pairs"), b_path = arguments.positional()[0];
  const at::Tensor a = pixels_of(a_path), b = pixels_of(b_path);
  const bool ensemble = b.dim() == 6;
  if (a.dim() != 5 || a.sizes() != b.sizes().slice(ensemble ? 1 : 0)) {
    fail(Code::kUsage, printable(a_path), " is ", lf::str(a.sizes()), ", ", printable(b_path),
         " is ", lf::str(b.sizes()), "; pairs need as many images, of the same resolution");
  }
  std::unique_ptr<PairDistance> looks;
  if (arguments.has("--lpips")) looks = open_pair_distance(arguments.get("--lpips"), at::kCPU);
  std::vector<Result> results;
  for (const ChosenMetric& metric : choose_metrics(metrics_of(arguments), nullptr, a.size(1))) {
    require_kind(metric, is_of_pairs(metric), "pairs");
    if (ensemble && metric.name != "crps") {
      fail(Code::kUsage, "metric ", metric.name, " compares one image with one; ",
           printable(b_path), " holds ", b.size(0), " predictions of each, which crps takes");
    }
    std::vector<at::Tensor> rows;
    for (int64_t i = 0; i < a.size(0); ++i) {  // one at a time, to keep memory small
      rows.push_back(compute_of_pairs(metric, a.slice(0, i, i + 1),
                                      b.slice(ensemble ? 1 : 0, i, i + 1), looks.get()));
    }
    Result& result = results.emplace_back();
    result.metric = metric.name;
    result.value = summarise_frames(at::cat(rows));
    result.reference = a_path;
    result.reference_n = a.size(0);
    if (metric.row->needs == Evidence::kLooks) {
      result.extractor = looks->name();
      result.extractor_hash = looks->hash();
    }
  }
  return results;
}

std::vector<Result> evaluate_codes(const Arguments& arguments) {
  const std::string path = arguments.get("--codes");
  const int64_t codebook = arguments.number("--codebook", 0, 1, int64_t{1} << 40);
  if (codebook == 0) {
    fail(Code::kUsage, "lastframe evaluate: --codes needs --codebook N, the size of the codebook");
  }
  const CodeCounts codes = count_codes(load_npy(path), codebook);
  std::vector<Result> results;
  for (const ChosenMetric& metric : choose_metrics(metrics_of(arguments), nullptr, 1)) {
    require_kind(metric, metric.row->of_codes != nullptr, "codes");
    Result& result = results.emplace_back();
    result.metric = metric.name;
    result.value = metric.row->of_codes(codes);
  }
  return results;
}

int threads_of(const Arguments& arguments) {
  return static_cast<int>(arguments.number("--threads", 1, 1, 4096));
}

// The options that say the same as evaluation.NAME of a config.
std::vector<std::string> sets_of(const Arguments& arguments) {
  std::vector<std::string> sets = arguments.all("--set");
  sets.push_back("evaluation.metrics=" + arguments.required("--metrics"));
  for (const char* option : {"--samples", "--extractor", "--preprocessing", "--seed", "--subject",
                             "--reference", "--lpips", "--precision"}) {
    if (arguments.has(option)) {
      sets.push_back(str("evaluation.", option + 2, "=", arguments.get(option)));
    }
  }
  return sets;
}

std::vector<Result> evaluate_two_sets(World& world, const Arguments& arguments) {
  Config config;
  for (const std::string& set : sets_of(arguments)) set_option(config, set);
  check_ranges(config);
  at::set_num_threads(threads_of(arguments));
  const at::Device device = choose_device(world, config.train(), accelerator_of_machine());
  const std::string save_as = arguments.get("--save-statistics");
  const std::string real = save_as.empty() ? arguments.required("--real") : arguments.get("--real");
  return evaluate_files(world, config.evaluation(), options_of(arguments), device, real,
                        arguments.required("--fake"), save_as);
}

// What is evaluated, and the options that have a meaning for it beside --metrics and --json.
struct Mode {
  const char* option;
  std::vector<const char*> takes;
  bool two_files;
};

void check_modes(const Arguments& arguments) {
  const Mode modes[] = {
      {"--run",
       {"--checkpoint", "--set", "--samples", "--subject", "--reference", "--extractor",
        "--preprocessing", "--lpips", "--precision", "--seed", "--threads"},
       false},
      {"--fake",
       {"--real", "--extractor", "--preprocessing", "--save-statistics", "--neighbours", "--seed",
        "--threads"},
       false},
      {"--features", {"--neighbours", "--seed"}, true},
      {"--pairs", {"--lpips"}, true},
      {"--codes", {"--codebook"}, false}};
  const Mode* chosen = nullptr;
  int given = 0;
  for (const Mode& mode : modes) {
    if (!arguments.has(mode.option)) continue;
    chosen = &mode;
    ++given;
  }
  if (given != 1) {
    fail(Code::kUsage,
         "lastframe evaluate: give one of --run DIR, --real A --fake B, --features A B,",
         " --pairs A B and --codes FILE; see lastframe evaluate --help");
  }
  for (const Option& option : arguments.command().options) {
    const std::string name = option.name;
    const bool fits =
        name == chosen->option || name == "--metrics" || name == "--json" ||
        std::find(chosen->takes.begin(), chosen->takes.end(), name) != chosen->takes.end();
    if (arguments.has(name) && !fits) {
      fail(Code::kUsage, "lastframe evaluate: ", name, " has no meaning with ", chosen->option,
           "; see lastframe evaluate --help");
    }
  }
  if (arguments.positional().size() != (chosen->two_files ? 1 : 0)) {
    fail(Code::kUsage, "lastframe evaluate: ", chosen->option,
         chosen->two_files ? " takes two, A and B" : " takes one",
         "; see lastframe evaluate --help");
  }
}

}  // namespace

int run_evaluate(const Arguments& arguments) {
  check_modes(arguments);
  catch_stop_signals();
  World& world = World::join();
  start_log("lastframe", world.rank());
  std::vector<Result> results;
  try {
    if (arguments.has("--run")) {
      results = evaluate_run(world, {arguments.get("--run"), arguments.get("--checkpoint"),
                                     sets_of(arguments), threads_of(arguments)});
    } else if (arguments.has("--fake")) {
      results = evaluate_two_sets(world, arguments);
    } else if (world.is_root()) {  // small enough for one
      results = arguments.has("--features") ? evaluate_features(arguments)
                : arguments.has("--pairs")  ? evaluate_pairs(arguments)
                                            : evaluate_codes(arguments);
    }
  } catch (const Error& error) {
    if (error.code() != Code::kInterrupted) throw;
    if (world.is_root()) LF_INFO(error.what());  // every rank threw it
    world.barrier();
    return error.exit_status();
  }
  world.barrier();
  if (!world.is_root()) return 0;
  std::fputs(
      (arguments.has("--json") ? results_json(results) + "\n" : results_text(results)).c_str(),
      stdout);
  return std::fflush(stdout) == 0 ? 0 : static_cast<int>(Code::kStorage);
}

}  // namespace lf
