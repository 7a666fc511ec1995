// `lastframe plan`: what a store and a training run will cost, before anything is built.
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "base/text.h"
#include "config/config.h"
#include "config/meaning.h"
#include "data/store/cost.h"
#include "launch/commands.h"
#include "launch/gpus.h"
#include "launch/options/arguments.h"
#include "launch/output.h"
#include "launch/run_estimate.h"
#include "launch/run_plan.h"

namespace lf {
namespace {

constexpr double kHour = 3600;

void report_mode(Json& json, const StoreCost& cost, double images_per_second) {
  json.field("bytes", cost.bytes);
  json.field("shards", cost.shards);
  json.field("build_core_hours", cost.build_core_seconds / kHour);
  json.field("read_bytes_per_clip", cost.read_bytes);
  json.field("read_bytes_per_s", static_cast<double>(cost.read_bytes) * images_per_second);
  json.field("read_cores", cost.read_core_seconds * images_per_second);
}

std::string as_json(const CostEstimate& estimate, double images_per_second,
                    const std::optional<RunEstimate>& run) {
  Json json;
  json.object([&] {
    if (run) json.object("run", [&] { add_estimate(json, *run); });
    json.field("clips", estimate.stored.clips);
    json.field("frames", estimate.clip.frames);
    json.array("shape", [&] {
      json.value(estimate.clip.height).value(estimate.clip.width).value(estimate.clip.channels);
    });
    json.field("element_bytes", estimate.element_bytes);
    json.field("images_per_s", images_per_second);
    json.field("load_per_s", 1 / estimate.rates.load_seconds);
    json.field("recipe_per_s", 1 / estimate.rates.recipe_seconds);
    json.field("sampled", estimate.rates.sampled);
    json.field("bad", estimate.rates.bad);
    json.object("stored", [&] { report_mode(json, estimate.stored, images_per_second); });
    if (estimate.recomputed) {
      json.object("recomputed",
                  [&] { report_mode(json, *estimate.recomputed, images_per_second); });
    }
  });
  return json.text() + "\n";
}

std::string decimal(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

std::string row(const std::string& head, const std::vector<std::string>& cells) {
  char text[64];
  std::snprintf(text, sizeof text, "%-34s", head.c_str());
  std::string line = text;
  for (const std::string& cell : cells) {
    std::snprintf(text, sizeof text, "%16s", cell.c_str());
    line += text;
  }
  return line + "\n";
}

std::string as_text(const CostEstimate& estimate, double images_per_second) {
  std::vector<StoreCost> costs = {estimate.stored};
  if (estimate.recomputed) costs.push_back(*estimate.recomputed);
  const auto cells = [&](auto&& cell) {
    std::vector<std::string> out;
    for (const StoreCost& cost : costs) out.push_back(cell(cost));
    return out;
  };
  const ClipShape& clip = estimate.clip;
  const SourceRates& rates = estimate.rates;
  std::string text =
      str(human_count(estimate.stored.clips), " clips of ", clip.frames, " frames, ", clip.height,
          "x", clip.width, "x", clip.channels, estimate.element_bytes == 1 ? " uint8" : " float16",
          "\none core of this machine loads ", decimal(1 / rates.load_seconds, 0),
          " items/s and makes ", decimal(1 / rates.recipe_seconds, 0), " clips/s; of ",
          rates.sampled, " items tried ", rates.bad, " are unusable\n\n");
  text += row("", cells([](const StoreCost& cost) { return StoreMode_Name(cost.mode); }));
  text += row("store", cells([](const StoreCost& cost) { return human_bytes(cost.bytes); }));
  text += row("shards", cells([](const StoreCost& cost) { return human_count(cost.shards); }));
  text +=
      row("hours to build on one core",
          cells([](const StoreCost& cost) { return decimal(cost.build_core_seconds / kHour, 3); }));
  text += row(str("read at ", images_per_second, " images/s"), cells([&](const StoreCost& cost) {
                const double bytes = static_cast<double>(cost.read_bytes) * images_per_second;
                return human_bytes(static_cast<uint64_t>(bytes)) + "/s";
              }));
  text += row("cores that making frames takes", cells([&](const StoreCost& cost) {
                return decimal(cost.read_core_seconds * images_per_second, 2);
              }));
  return text;
}

// What is only for the run, which a config of data alone does not have.
const std::vector<CallCondition> kConditions = {{"model", "model.kind"},
                                                {"train", "model.kind"},
                                                {"loader", "model.kind"},
                                                {"checkpoint", "model.kind"}};

int run_plan(const Arguments& arguments) {
  const Config config = config_of(arguments);
  check_meaning(config, arguments.sets(), kConditions);
  if (arguments.has("--gpu")) return plan_run(arguments, config);
  const double images_per_second = arguments.number("--images-per-second");
  const std::unique_ptr<Source> source = open_source(config.source());
  const CostEstimate estimate = estimate_cost(config, *source, 2);
  // A config of data alone has no run.
  std::optional<RunEstimate> run;
  if (config.model().kind_case() != ModelConfig::KIND_NOT_SET) run = estimate_of(arguments, config);
  print(arguments.has("--json") ? as_json(estimate, images_per_second, run)
                                : as_text(estimate, images_per_second) +
                                      (run ? "\ntraining\n" + estimate_text(*run, config) : ""));
  return 0;
}

constexpr Option kPlanOptions[] = {
    kConfigOption,
    set_option_of("source|recipe|store|model|train|loader|checkpoint"),
    {"--images-per-second",
     number(0, 1e12),
     "expected speed of training, over all ranks",
     {.fallback = "1000", .without = "--gpu"}},
    without("--gpu", kRanksOption),
    without("--gpu", kNoMemoryOption),
    {"--gpu", word(kGpuNames.data()),
     "plan a training run on such GPUs, by their data sheets, and no store; cpu: ranks that "
     "compute on cores such as this machine's, measured here"},
    only_with("--gpu", {"--nodes", integer(1, 1 << 16), "machines", {.fallback = "1"}}),
    only_with("--gpu", {"--gpus-per-node", integer(1, 1024), "GPUs of each", {.fallback = "1"}}),
    only_with("--gpu", {"--net",
                        rate(),
                        "network of a node, such as 400Gb/s (bits) or 50GB/s (bytes)",
                        {.fallback = "100Gb/s"}}),
    only_with("--gpu",
              {"--fs", rate(), "file system, for all nodes together", {.fallback = "1GB/s"}}),
    only_with("--gpu", {"--utilisation",
                        number(0, 1),
                        "share of the peak that a step reaches",
                        {.computed = "0.3 of a GPU's, 0.8 of the cpu's"}}),
    only_with("--gpu", {"--bench",
                        text("FILE"),
                        "what `bench step --json` printed for this config on such a GPU, instead",
                        {.without = "--utilisation"}}),
    only_with("--gpu", {"--explain", kNoValue, "every number with its formula or its source"}),
    kJsonOption,
};

}  // namespace

const Command kPlanCommand = {
    .name = "plan",
    .summary = "estimates what a store and a training run on it cost, before either is started",
    .details =
        "Loads some items of the source and times the recipe for two seconds, then estimates for "
        "STORED and for RECOMPUTED: bytes on disk, hours to build on one core of this machine, "
        "bytes a second that training reads, and cores that making the frames takes. Where the "
        "config has a model, parameters, arithmetic and memory of a run follow, as train --dry-run "
        "prints them.\n"
        "\n"
        "With --gpu it needs no data and no GPU: it makes steps of one and two clips on noise on "
        "this machine's CPU, counts their arithmetic and memory, and computes memory, step time, "
        "all-reduce, data rate, checkpoints, what a preemption loses, the time of FID-50k and "
        "GPU-hours. --explain prints every formula. What it assumes of GPUs has not been compared "
        "with one; previews, validation and failures are not in the sum.",
    .example =
        "lastframe plan --config configs/quickstart.pbtxt --images-per-second 5000\n"
        "lastframe plan --set source.folder.path=photos --set source.size=64 --json\n"
        "lastframe plan --config configs/quickstart.pbtxt --nodes 2 --gpus-per-node 8 --gpu h100 "
        "--net 400Gb/s --fs 5GB/s --explain",
    .options = kPlanOptions,
    .run = run_plan,
};

}  // namespace lf
