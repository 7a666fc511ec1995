// `lastframe bench sample`: the time that a config's model takes to make clips, with its initial
// weights, which take as long as trained ones. No store or checkpoint.
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "comm/threads.h"
#include "config/config.h"
#include "launch/bench/breakdown.h"
#include "launch/bench/device.h"
#include "launch/commands.h"
#include "launch/options/arguments.h"
#include "launch/output.h"
#include "launch/plugin.h"
#include "model/autocast.h"
#include "run/accelerator.h"
#include "run/clips.h"
#include "run/exported_model.h"
#include "run/stores.h"
#include "run/synthetic_clips.h"
#include "train/estimate.h"

namespace lf {
namespace {

// Makes batches of clips, each time others.
class ClipMaker {
 public:
  ClipMaker(Model& model, Clips clips, Precision precision, int ranks)
      : model_(model), clips_(std::move(clips)), precision_(precision), ranks_(ranks) {}

  double seconds_of_batch() {
    const at::NoGradGuard no_grad;
    const Autocast autocast(precision_, clips_.x_BTHWC.device().type());
    const Clock::time_point begin = Clock::now();
    // Reading a value waits for the device.
    model_.preview(clips_).sum().item<float>();
    clips_.first_position += clips_.size() * ranks_;
    return seconds_since(begin);
  }

 private:
  Model& model_;
  Clips clips_;
  Precision precision_;
  int ranks_;
};

// Seconds of each batch, ascending. All ranks make the same number.
std::vector<double> measure(World& world, ClipMaker& maker, double limit) {
  const double first = maker.seconds_of_batch();
  const int64_t times = world.max(std::clamp<int64_t>(std::llround(limit / first), 3, 100000));
  std::vector<double> seconds;
  for (int64_t i = 0; i < times; ++i) seconds.push_back(maker.seconds_of_batch());
  std::sort(seconds.begin(), seconds.end());
  return seconds;
}

int bench_sample(const Arguments& arguments) {
  const Config config = config_on_stores(config_of(arguments));
  const auto limit = static_cast<double>(arguments.integer("--seconds"));
  const int64_t count = arguments.integer("--count");
  const Precision precision = arguments.precision();
  const Accelerator accelerator = accelerator_of_machine();
  World& world = World::join();
  start_log("lastframe", world.rank());
  world.agree("config", print_config(config));
  const at::Device device = choose_device(world, config.train(), accelerator);
  at::set_num_threads(threads_of_rank(world, config.train().threads()));
  const ClipShape shape = shape_of_config(config);
  const std::unique_ptr<Model> model = make_model(config, shape, device, {}, open_export);
  ClipMaker maker(*model, synthetic_clips(config, shape, count * world.size(), 0, world, device),
                  precision, world.size());
  const std::vector<double> seconds = measure(world, maker, limit);
  const double median = world.max(seconds[seconds.size() / 2]);
  const int64_t levels = levels_of(config, shape), made = count * world.size();
  const auto peak = static_cast<uint64_t>(world.max(peak_memory(device).used));
  std::vector<OperationCost> operations;
  double observed = 0;
  if (arguments.has("--breakdown")) {
    const auto once = [&] { observed = maker.seconds_of_batch(); };
    operations = device.is_cpu() ? observe_operations(once) : observe_kernels(device, once);
  }
  if (!world.is_root()) return 0;
  if (arguments.has("--json")) {
    Json json;
    json.object([&] {
      json.field("ms_per_batch", 1e3 * median).field("clips_per_s", made / median);
      if (levels > 0) json.field("levels", levels).field("ms_per_level", 1e3 * median / levels);
      json.field("peak_bytes", peak).field("batches", seconds.size());
      json.field("clips", made).field("parameters", model->parameters().count());
      json.array("clip_shape", [&] {
        for (const int side : shape.sides()) json.value(side);
      });
      json.field("ranks", world.size()).field("threads", at::get_num_threads());
      json.field("device", device.str()).field("precision", Precision_Name(precision));
      if (!operations.empty()) {
        json.field("observed_ms_per_batch", 1e3 * observed);
        add_operations(operations, json);
      }
    });
    print(json.text() + "\n");
    return 0;
  }
  std::printf("%.2f ms for %lld clips %dx%dx%dx%d, %.2f clips/s", 1e3 * median,
              static_cast<long long>(made), shape.frames, shape.height, shape.width, shape.channels,
              made / median);
  if (levels > 0) {
    std::printf(", %.2f ms for each of %lld noise levels", 1e3 * median / levels,
                static_cast<long long>(levels));
  }
  std::printf("; %s, %d ranks of %d threads, %s at most\n", Precision_Name(precision).c_str(),
              world.size(), at::get_num_threads(), human_bytes(peak).c_str());
  if (!operations.empty()) print_operations(operations, observed);
  return 0;
}

constexpr Option kBenchSampleOptions[] = {
    kConfigOption,
    set_option_of("source|recipe|store|model|train|comm|loader"),
    {"--count", integer(1, 65536), "clips that each rank makes at a time", {.fallback = "16"}},
    kPrecisionOption,
    {"--breakdown", kNoValue, "also show the time of one batch, operation by operation"},
    kTrainThreadsOption,
    {"--seconds", integer(1, 3600), "how long to measure; at least 3 batches", {.fallback = "10"}},
    kJsonOption,
};

}  // namespace

const Command kBenchSampleCommand = {
    .name = "bench sample",
    .summary = "measures how long making clips takes",
    .details =
        "Makes clips as `train` does for its previews, with the initial weights of the model, "
        "which take as long as trained ones; given frames and small clips are noise. Shows the "
        "median after one batch of warm-up. Under mpirun every rank makes as many.",
    .example =
        "lastframe bench sample --config configs/peers/unet3d.pbtxt --count 4 --threads 1 "
        "--json\n"
        "mpirun -n 2 --bind-to none lastframe bench sample --config configs/quickstart.pbtxt",
    .options = kBenchSampleOptions,
    .run = bench_sample,
};

}  // namespace lf
