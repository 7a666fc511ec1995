// `lastframe bench step`: the time of a config's training step on synthetic clips in memory. It is
// the trainer's own step (train/step.h): forward, backward, all-reduce, clipping, optimiser,
// averages; no store, loader, log or checkpoint. tools/peers/engine compares it with PyTorch's.
#include "train/step.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/memory.h"
#include "comm/threads.h"
#include "comm/world.h"
#include "config/config.h"
#include "launch/bench/breakdown.h"
#include "launch/bench/device.h"
#include "launch/commands.h"
#include "launch/options/arguments.h"
#include "launch/output.h"
#include "launch/plugin.h"
#include "run/accelerator.h"
#include "run/clips.h"
#include "run/stores.h"
#include "run/synthetic_clips.h"

namespace lf {
namespace {

constexpr int kWarmUp = 3;  // allocations, oneDNN's choice of kernels, the first gradients
constexpr int kFewest = 5, kMost = 100000;
constexpr double kGiga = 1e9;

struct StepSpeed {
  std::vector<double> seconds;  // of each step, ascending
  StepTally tally;
  double cpu_seconds = 0;  // of this process in a step, waiting threads included
  double wall = 0;         // of all steps, until the device has finished the last
  double faults = 0;       // pages that a step took from the system
  double at(double part) const {
    return seconds[static_cast<size_t>(part * static_cast<double>(seconds.size() - 1))];
  }
};

// Steps of a run on the same clips.
class Steps {
 public:
  Steps(Step& step, const Config& config, Clips clips)
      : step_(step), batch_(config.train().batch()), clips_(std::move(clips)) {}
  int warm_up() const { return std::max(kWarmUp, step_.warm_up()); }
  at::Device device() const { return clips_.x_BTHWC.device(); }
  // Waits until all of them are done.
  void settle(StepTally& tally) {
    step_.settle(tally);
    wait_for(device());
  }
  double one(StepTally& tally) {  // its seconds
    const Clock::time_point begin = Clock::now();
    step_.run(clips_, images_, tally);
    images_ += batch_;
    clips_.first_position += batch_;  // other dropout masks and noise in each step
    return seconds_since(begin);
  }

 private:
  Step& step_;
  int64_t batch_, images_ = 0;
  Clips clips_;
};

// On a GPU the seconds of a step are the host's, which runs ahead; only `wall` is the device's.
StepSpeed measure(World& world, Steps& steps_of_run, double limit) {
  StepSpeed speed;
  StepTally unused;
  for (int i = 1; i < steps_of_run.warm_up(); ++i) steps_of_run.one(unused);
  steps_of_run.settle(unused);
  const Clock::time_point trial = Clock::now();
  steps_of_run.one(unused);
  steps_of_run.settle(unused);
  const double last = seconds_since(trial);
  // All ranks make the same number of steps.
  const int64_t steps = world.max(std::clamp<int64_t>(std::llround(limit / last), kFewest, kMost));
  const std::clock_t cpu = std::clock();
  const uint64_t faults = page_faults();
  const Clock::time_point begin = Clock::now();
  for (int64_t i = 0; i < steps; ++i) speed.seconds.push_back(steps_of_run.one(speed.tally));
  steps_of_run.settle(speed.tally);
  speed.wall = seconds_since(begin);
  speed.faults = static_cast<double>(page_faults() - faults) / static_cast<double>(steps);
  speed.cpu_seconds =
      static_cast<double>(std::clock() - cpu) / CLOCKS_PER_SEC / static_cast<double>(steps);
  std::sort(speed.seconds.begin(), speed.seconds.end());
  return speed;
}

// Where a step's time goes. Observing makes small operations longer, so these times sum to more
// than the median step. On a GPU they are those of its kernels.
struct Breakdown {
  std::vector<OperationCost> operations;  // of one step
  double observed = 0, flops = 0, peak = 0;
  DevicePeaks peaks;  // of a GPU
};

Breakdown break_down(Steps& steps, bool bf16) {
  constexpr int kObserved = 5;
  StepTally unused;
  Breakdown out;
  const bool on_gpu = !steps.device().is_cpu();
  const auto some = [&] {
    const Clock::time_point begin = Clock::now();
    for (int i = 0; i < kObserved; ++i) steps.one(unused);
    steps.settle(unused);
    out.observed = seconds_since(begin) / kObserved;
  };
  out.operations = observe_operations(some);
  for (const OperationCost& cost : out.operations) {
    out.flops += static_cast<double>(cost.flops) / kObserved;
  }
  if (on_gpu) {
    out.operations = observe_kernels(steps.device(), some);
    out.peaks = device_peaks(steps.device());
    // cuDNN's convolutions compute FP32 in TF32 by default.
    out.peak = bf16                                   ? out.peaks.bf16
               : at::globalContext().allowTF32CuDNN() ? out.peaks.tf32
                                                      : out.peaks.single;
  } else {
    out.peak = product_peak(bf16);
  }
  for (OperationCost& cost : out.operations) {
    cost.calls /= kObserved;
    cost.flops /= kObserved;
    cost.seconds /= kObserved;
  }
  return out;
}

void print_breakdown(const Breakdown& breakdown, double median) {
  print_operations(breakdown.operations, breakdown.observed);
  std::printf(
      "%.2f GFLOP of products and convolutions a step, %.1f GFLOP/s; products alone reach %.1f "
      "here: "
      "%.1f %% of that\n",
      breakdown.flops / kGiga, breakdown.flops / median / kGiga, breakdown.peak / kGiga,
      100 * breakdown.flops / median / breakdown.peak);
  if (breakdown.peaks.single == 0) return;
  std::printf("products of 8192x8192 on this GPU, GFLOP/s: BF16 %.0f, TF32 %.0f, FP32 %.0f\n",
              breakdown.peaks.bf16 / kGiga, breakdown.peaks.tf32 / kGiga,
              breakdown.peaks.single / kGiga);
}

struct Report {
  double median, model, communication, faults;
  PeakMemory peak;
  std::string graph;  // "recorded", or why it is not
};

// Collective: the maximum over the ranks.
Report over_ranks(World& world, const StepSpeed& speed, const Step& step, at::Device device) {
  const PeakMemory peak = peak_memory(device);
  const double each = speed.wall / static_cast<double>(speed.seconds.size());
  return {world.max(device.is_cpu() ? speed.at(0.5) : each),
          world.max(std::min(1.0, speed.tally.model / speed.wall)),
          world.max(speed.tally.communication / speed.wall),
          world.max(speed.faults),
          {world.max(peak.used), world.max(peak.taken)},
          step.recorded() ? "recorded" : "not recorded: " + step.unrecorded()};
}

void add(const Breakdown& breakdown, double median, Json& json) {
  json.field("flops_per_step", breakdown.flops).field("peak_flops_per_s", breakdown.peak);
  json.field("peak_share", breakdown.flops / median / breakdown.peak);
  if (breakdown.peaks.single > 0) {
    json.object("gpu_flops_per_s", [&] {
      json.field("BF16", breakdown.peaks.bf16).field("TF32", breakdown.peaks.tf32);
      json.field("FP32", breakdown.peaks.single);
    });
  }
  json.field("observed_ms_per_step", 1e3 * breakdown.observed);
  add_operations(breakdown.operations, json);
}

std::string as_json(const Report& report, const StepSpeed& speed, const Config& config,
                    const ClipShape& shape, at::Device device, int64_t parameters, int ranks,
                    const std::optional<Breakdown>& breakdown) {
  Json json;
  json.object([&] {
    json.field("ms_per_step", 1e3 * report.median);
    json.field("clips_per_s", config.train().batch() / report.median);
    json.field("peak_bytes", report.peak.used).field("taken_bytes", report.peak.taken);
    json.field("page_faults_per_step", report.faults).field("graph", report.graph);
    json.object("ms_spread", [&] {
      json.field("min", 1e3 * speed.at(0)).field("lower_quartile", 1e3 * speed.at(0.25));
      json.field("upper_quartile", 1e3 * speed.at(0.75)).field("max", 1e3 * speed.at(1));
    });
    json.field("cpu_ms_per_step", 1e3 * speed.cpu_seconds);
    json.field("steps", speed.seconds.size());
    json.field("model_share", report.model).field("communication_share", report.communication);
    json.field("parameters", parameters).field("batch", config.train().batch());
    json.array("clip_shape", [&] {
      for (const int side : shape.sides()) json.value(side);
    });
    json.field("precision", Precision_Name(config.train().precision()));
    json.field("device", device.str());
    json.field("ranks", ranks).field("threads", at::get_num_threads());
    if (breakdown) add(*breakdown, report.median, json);
  });
  return json.text();
}

// Of a step that is not recorded: a graph shows no operations.
Breakdown break_down_launched(World& world, Config config, const ClipShape& shape,
                              at::Device device, const Accelerator& accelerator) {
  config.mutable_train()->set_graph(OFF);
  Step step(world, config, shape, device, accelerator);
  Steps steps(step, config,
              synthetic_clips(config, shape, config.train().batch(), step.model().images_per_clip(),
                              world, device));
  StepTally unused;
  for (int i = 0; i < steps.warm_up(); ++i) steps.one(unused);
  steps.settle(unused);
  return break_down(steps, config.train().precision() == BF16);
}

void print_text(const Report& report, const StepSpeed& speed, const Config& config,
                const ClipShape& shape, at::Device device, int64_t parameters, int ranks) {
  std::printf(
      "%.2f ms a step of %d clips %dx%dx%dx%d (half of %zu steps within %.2f to %.2f), "
      "%.1f clips/s\n%s parameters, %s, %d ranks of %d threads, %s at most, %.1f new pages "
      "a step; model %.1f %%, communication not hidden %.1f %%\n",
      1e3 * report.median, config.train().batch(), shape.frames, shape.height, shape.width,
      shape.channels, speed.seconds.size(), 1e3 * speed.at(0.25), 1e3 * speed.at(0.75),
      config.train().batch() / report.median,
      human_count(static_cast<uint64_t>(parameters)).c_str(),
      Precision_Name(config.train().precision()).c_str(), ranks, at::get_num_threads(),
      human_bytes(static_cast<uint64_t>(report.peak.used)).c_str(), report.faults,
      100 * (report.model - report.communication), 100 * report.communication);
  if (device.is_cpu()) return;
  std::printf("%s, %s taken for it; the step is %s\n", device.str().c_str(),
              human_bytes(static_cast<uint64_t>(report.peak.taken)).c_str(), report.graph.c_str());
}

int bench_step(const Arguments& arguments) {
  const Config config = config_on_stores(config_of(arguments));
  const auto seconds = static_cast<double>(arguments.integer("--seconds"));
  const Accelerator accelerator = accelerator_of_machine();
  World& world = World::join();
  start_log("lastframe", world.rank());
  world.agree("config", print_config(config));
  const at::Device device = choose_device(world, config.train(), accelerator);
  check_batch(config, world.size());
  at::set_num_threads(threads_of_rank(world, config.train().threads()));
  const ClipShape shape = shape_of_config(config);
  StepSpeed speed;
  Report report{};
  int64_t parameters = 0;
  {
    Step step(world, config, shape, device, accelerator);
    parameters = step.model().parameters().count();
    Steps steps(step, config,
                synthetic_clips(config, shape, config.train().batch(),
                                step.model().images_per_clip(), world, device));
    speed = measure(world, steps, seconds);
    report = over_ranks(world, speed, step, device);
  }
  std::optional<Breakdown> breakdown;
  if (arguments.has("--breakdown")) {
    breakdown = break_down_launched(world, config, shape, device, accelerator);
  }
  if (!world.is_root()) return 0;
  if (arguments.has("--json")) {
    print(as_json(report, speed, config, shape, device, parameters, world.size(), breakdown) +
          "\n");
    return 0;
  }
  print_text(report, speed, config, shape, device, parameters, world.size());
  if (breakdown) print_breakdown(*breakdown, report.median);
  return 0;
}

constexpr Option kBenchStepOptions[] = {
    kConfigOption,
    set_option_of("source|recipe|store|model|train|comm|loader"),
    kTrainThreadsOption,
    {"--seconds", integer(1, 3600), "how long to measure; at least 5 steps", {.fallback = "10"}},
    {"--breakdown", kNoValue,
     "also show which operations take the time, their arithmetic, and its share of the speed of "
     "products alone; on a GPU its kernels, and the products of each precision"},
    kJsonOption,
};

}  // namespace

const Command kBenchStepCommand = {
    .name = "bench step",
    .summary = "measures how long a training step takes",
    .details =
        "Makes steps as `train` does, all-reduce, clipping, optimiser and averages included, on "
        "noise of the shape that the config's source and recipe give; no store is read. On a CPU "
        "it shows the median after three steps of warm-up, on a GPU the mean from idle to idle "
        "and the memory (--set train.graph=ON records the step as one graph). Under mpirun all "
        "ranks take part and share train.batch. New pages are memory that a step took from the "
        "system: next to none where it reuses what earlier steps freed.",
    .example =
        "lastframe bench step --config configs/quickstart.pbtxt --threads 1 --json\n"
        "mpirun -n 2 --bind-to none lastframe bench step --config configs/quickstart.pbtxt",
    .options = kBenchStepOptions,
    .run = bench_step,
};

}  // namespace lf
