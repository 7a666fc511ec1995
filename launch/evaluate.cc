// `lastframe evaluate`: a run, two sets of images, two files of features, pairs of images, or the
// codes of a tokenizer, by the metrics asked for. Metrics are src/eval's.
#include "eval/evaluate.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/isfinite.h>

#include <functional>
#include <memory>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "base/file_hash.h"
#include "base/log.h"
#include "base/stop.h"
#include "base/stop_signals.h"
#include "comm/threads.h"
#include "comm/world.h"
#include "config/config.h"
#include "eval/images.h"
#include "eval/open_extractor.h"
#include "eval/statistics.h"
#include "launch/commands.h"
#include "launch/evaluate_run.h"
#include "launch/options/arguments.h"
#include "launch/options/call.h"
#include "launch/output.h"
#include "launch/plugin.h"
#include "run/accelerator.h"
#include "run/arrays.h"

namespace lf {
namespace {

// Beside a run the options of the command alone say how to evaluate.
MetricOptions options_of(const Arguments& arguments, const EvaluationConfig& config) {
  MetricOptions options;
  options.seed = config.seed();
  options.neighbours = arguments.integer("--neighbours", 0);
  options.reference_count = arguments.integer("--reference-count", 0);
  return options;
}

std::vector<std::string> metrics_of(const EvaluationConfig& config) {
  return {config.metrics().begin(), config.metrics().end()};
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

std::vector<Result> evaluate_features(const Arguments& arguments, const EvaluationConfig& config) {
  const auto [real_path, fake_path] = arguments.both("--features");
  const FeatureSet real = feature_file(real_path), fake = feature_file(fake_path);
  const MetricOptions options = options_of(arguments, config);
  std::vector<Result> results;
  for (const ChosenMetric& metric : choose_metrics(metrics_of(config), nullptr, 1)) {
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

std::vector<Result> evaluate_pairs(const Arguments& arguments, const EvaluationConfig& config) {
  const auto [a_path, b_path] = arguments.both("--pairs");
  const at::Tensor a = pixels_of(a_path), b = pixels_of(b_path);
  const bool ensemble = b.dim() == 6;
  if (a.dim() != 5 || a.sizes() != b.sizes().slice(ensemble ? 1 : 0)) {
    fail(Code::kUsage, printable(a_path), " is ", lf::str(a.sizes()), ", ", printable(b_path),
         " is ", lf::str(b.sizes()), "; pairs need as many images, of the same resolution");
  }
  std::unique_ptr<PairDistance> looks;
  if (!config.lpips().empty()) looks = open_pair_distance(config.lpips(), at::kCPU);
  std::vector<Result> results;
  for (const ChosenMetric& metric : choose_metrics(metrics_of(config), nullptr, a.size(1))) {
    require_kind(metric, is_of_pairs(metric), "pairs");
    if (ensemble && metric.name != "crps") {
      fail(Code::kUsage, "metric ", metric.name, " compares one image with one; ",
           printable(b_path), " holds ", b.size(0), " predictions of each, which crps takes");
    }
    std::vector<at::Tensor> rows;
    for (int64_t i = 0; i < a.size(0); ++i) {  // one at a time, to keep memory small
      interruption_point();
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

std::vector<Result> evaluate_codes(const Arguments& arguments, const EvaluationConfig& config) {
  const std::string path = arguments.get("--codes");
  const CodeCounts codes = count_codes(load_npy(path), arguments.integer("--codebook"));
  std::vector<Result> results;
  for (const ChosenMetric& metric : choose_metrics(metrics_of(config), nullptr, 1)) {
    require_kind(metric, metric.row->of_codes != nullptr, "codes");
    Result& result = results.emplace_back();
    result.metric = metric.name;
    result.value = metric.row->of_codes(codes);
  }
  return results;
}

std::vector<Result> evaluate_two_sets(World& world, const Arguments& arguments,
                                      const Config& config) {
  at::set_num_threads(threads_of_rank(world, static_cast<int>(arguments.integer("--threads", 0))));
  const at::Device device = choose_device(world, config.train(), accelerator_of_machine());
  const std::string statistics = arguments.get("--save-statistics");
  std::vector<Result> results =
      evaluate_files(world, config, options_of(arguments, config.evaluation()), device,
                     arguments.get("--real"), arguments.get("--fake"), statistics);
  if (world.is_root() && !statistics.empty()) log_written(statistics);
  return results;
}

// On rank 0; elsewhere empty but for runs.
std::vector<Result> evaluate(World& world, const Arguments& arguments) {
  if (arguments.mode() == "--run") {
    return evaluate_run(world,
                        {arguments.get("--run"), arguments.get("--checkpoint"), arguments.sets(),
                         static_cast<int>(arguments.integer("--threads", 0)),
                         arguments.integer("--reference-count", 0)});
  }
  const Config config = load_config("", arguments.sets());
  if (arguments.mode() == "--fake") return evaluate_two_sets(world, arguments, config);
  if (!world.is_root()) return {};  // the others are small enough for one
  if (arguments.mode() == "--features") return evaluate_features(arguments, config.evaluation());
  if (arguments.mode() == "--pairs") return evaluate_pairs(arguments, config.evaluation());
  return evaluate_codes(arguments, config.evaluation());
}

constexpr char kByFeatures[] = "a metric by features",
               kByReference[] = "a metric that compares with a reference",
               kByReal[] = "a metric that compares with real images",
               kByNeighbours[] = "a metric of neighbours", kByLooks[] = "the metric lpips",
               kDrawn[] = "samples or the metric kid_subsets", kWeights[] = "a file of weights";

// Names of metrics are looked up here too, before anything is opened.
void check_options(const Arguments& arguments) {
  const std::vector<std::string> names = split(arguments.get("--metrics"), ',');
  const auto any = [&](const std::function<bool(const Metric&)>& is) {
    size_t count = 0;
    for (const std::string& name : names) count += is(metric_named(name)) ? 1 : 0;
    return count > 0;
  };
  const bool of_run = arguments.mode() == "--run";
  const std::string none =
      (names.size() == 1 ? names[0] + " is not it" : "none of " + join(names, ", ") + " is");
  const std::string extractor = arguments.get("--extractor");
  check_needs(
      arguments,
      {{kByFeatures, !of_run || any([](const Metric& row) { return row.of_sets != nullptr; }),
        none},
       {kByReference, any(compares), none},
       {kByReal, any([](const Metric& row) { return row.needs != Evidence::kScores; }), none},
       {kByNeighbours, any(uses_neighbours), none},
       {kByLooks, any([](const Metric& row) { return row.needs == Evidence::kLooks; }), none},
       {kDrawn, of_run || any(uses_seed), none},
       {kWeights, extractor != "pixels" && extractor != "track",
        "the extractor " + extractor + " has none"}});
  if (arguments.mode() == "--fake" && !arguments.has("--real") &&
      !arguments.has("--save-statistics") && any(compares)) {
    arguments.refuse(
        "--real PATH is required for metrics that compare, or --save-statistics FILE; see "
        "lastframe evaluate --help");
  }
}

int run_evaluate(const Arguments& arguments) {
  check_options(arguments);
  catch_stop_signals();
  World& world = World::join();
  start_log("lastframe", world.rank());
  // Of a run all ranks stop together, in the loops over their chunks.
  std::optional<Interruptible> alone;
  if (arguments.mode() != "--run") alone.emplace();
  const std::vector<Result> results = evaluate(world, arguments);
  world.barrier();
  if (!world.is_root()) return 0;
  print(arguments.has("--json") ? results_json(results) + "\n" : results_text(results));
  return 0;
}

constexpr Hint kEvaluateHints[] = {
    {"--count", "how many clips to make or to reconstruct is --samples N"}};

constexpr Option kEvaluateOptions[] = {
    {"--metrics",
     of_config("evaluation.metrics", "LIST"),
     "names separated by commas (see `lastframe list metrics`)",
     {.required = ""}},
    {"--run", text("DIR"),
     "evaluate the newest whole checkpoint of a run, its averaged weights if any"},
    {"--fake", text("PATH"),
     "evaluate images: a folder, zip or tar, videos, a .npy array of bytes or a store"},
    {"--features", text("A B"),
     "compare features A (real) and B, .npy arrays [n, d] or .npz statistics"},
    {"--pairs", text("A B"),
     "compare images A and B one by one: folders, or .npy arrays of bytes or of floats from 0 to "
     "1; for crps B may have one more dimension in front, the predictions"},
    {"--codes", text("FILE"), "evaluate a .npy array of codes [images, ...]"},
    kJsonOption,
    {"--checkpoint",
     text("DIR"),
     "the folder of this checkpoint instead of the newest",
     {.only_with = "--run"}},
    only_with("--run", set_option_of("model|train|comm|loader|evaluation")),
    {"--samples",
     of_config("evaluation.samples", "N"),
     "clips to make or to reconstruct",
     {.only_with = "--run"}},
    {"--subject",
     of_config("evaluation.subject", "WHAT"),
     "what distances are of",
     {.only_with = "--run", .needs = kByFeatures}},
    {"--reference",
     of_config("evaluation.reference", "PATH"),
     "what samples are compared with: a store, a folder, zip or tar of images, videos, a .npy "
     "array or .npz statistics",
     {.computed = "the training store", .only_with = "--run", .needs = kByReference}},
    {"--reference-count",
     integer(2, kNoLimit),
     "compare with N of the reference's images, evenly spaced, instead of all",
     {.only_with = "--run|--real", .needs = kByReference}},
    {"--precision",
     of_config("evaluation.precision", "NAME"),
     "arithmetic of the model; BF16 is faster and makes slightly different clips",
     {.only_with = "--run"}},
    {"--real",
     text("PATH"),
     "the real images that metrics compare with, required by those: a folder, zip or tar, videos, "
     "a .npy array of bytes, a store, or .npz statistics in pytorch-fid's layout",
     {.only_with = "--fake", .needs = kByReal}},
    {"--save-statistics",
     output("FILE", ".npz"),
     "write mean and covariance of the --fake images as .npz; without --real nothing is compared",
     {.only_with = "--fake"}},
    {"--extractor",
     of_config("evaluation.extractor", "FILE"),
     "weights of the extractor, safetensors, ONNX or TorchScript; or pixels (for fd_pixels) or "
     "track (for track_outliers and track_wasserstein), which need none",
     {.only_with = "--run|--fake", .needs = kByFeatures}},
    {"--preprocessing",
     of_config("evaluation.preprocessing", "ID"),
     "torch, tf1 or clean",
     {.only_with = "--run|--fake", .needs = kWeights}},
    {"--threads",
     integer(1, 4096),
     "CPU threads of each rank; another number may round the clips that a model makes differently",
     {.computed = "its share of the cores that this machine lets us use",
      .only_with = "--run|--fake"}},
    {"--lpips",
     of_config("evaluation.lpips", "FILE"),
     "weights of LPIPS (tools/convert_weights)",
     {.only_with = "--run|--pairs", .needs = kByLooks}},
    {"--seed",
     of_config("evaluation.seed", "N"),
     "seed of the samples and of what is drawn",
     {.only_with = "--run|--fake|--features", .needs = kDrawn}},
    {"--neighbours",
     integer(1, 1000),
     "neighbours that metrics look at",
     {.computed = "3 for precision and recall, 5 for the others",
      .only_with = "--fake|--features",
      .needs = kByNeighbours}},
    {"--codebook",
     integer(1, int64_t{1} << 40),
     "the number of codes there are",
     {.only_with = "--codes", .required = ""}},
};

}  // namespace

const Command kEvaluateCommand = {
    .name = "evaluate",
    .summary = "measures a run, images, features or pairs: FID, KID, PSNR, SSIM, ...",
    .details =
        "Of a run, all ranks make clips 0 to N-1 of the seed (or reconstruct the first N of the "
        "validation store); rank 0 prints the results and writes RUN/evaluations/*.json. They do "
        "not depend on the number of ranks, beyond the rounding of the clips (--threads). Clips "
        "are kept by the checkpoint's hash: an interrupted evaluation (status 75) resumes, and one "
        "with other metrics samples nothing again. Options that set one of the config's default to "
        "the run's own. A result is named for what it is: fid only by Inception's 2048 features, "
        "fd_dinov2_vitb14 by DINOv2's, as published in model.safetensors, fd_opennsfw by the "
        "network in opennsfw.onnx (lastframe features --help). Before it starts, evaluate says how "
        "long making the clips and computing the features will take, and which distances will be "
        "mostly bias because there are no more samples than features. The features of a store that "
        "is a reference are kept in STORE.features beside it, for every run.",
    .example =
        "mpirun -n 4 --bind-to none lastframe evaluate --run runs/first \\\n"
        "    --extractor inception.safetensors --metrics fid768,psnr --json\n"
        "lastframe evaluate --real photos --fake made --extractor inception.safetensors --metrics "
        "fid\n"
        "lastframe evaluate --features real.npy made.npy --metrics frechet,kid --json\n"
        "lastframe evaluate --pairs real made --metrics psnr,ssim",
    .options = kEvaluateOptions,
    .run = run_evaluate,
    .one_of = "--run|--fake|--features|--pairs|--codes",
    .hints = kEvaluateHints,
};

}  // namespace lf
