// `lastframe bench step`: how long a training step of a config takes, on synthetic clips in memory.
// It is the trainer's own step (train/step.h): forward, backward, all-reduce, clipping, optimiser,
// averages. No store, loader, log or checkpoint. What the same network takes in PyTorch is told by
// tools/peers/engine, which runs this.
#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/memory.h"
#include "comm/threads.h"
#include "comm/world.h"
#include "config/config.h"
#include "eval/clips.h"
#include "launch/commands.h"
#include "launch/plugin.h"
#include "launch/synthetic_clips.h"
#include "train/accelerator.h"
#include "train/step.h"

namespace lf {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kWarmUp = 3;  // memory, oneDNN's choices of kernels, the first gradients
constexpr int kFewest = 5, kMost = 100000;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

struct StepSpeed {
  std::vector<double> seconds;  // of each step, ascending
  StepTally tally;
  double cpu_seconds = 0;  // of this process in a step, threads that wait for work included
  double at(double part) const {
    return seconds[static_cast<size_t>(part * static_cast<double>(seconds.size() - 1))];
  }
  double total() const {
    double sum = 0;
    for (const double one : seconds) sum += one;
    return sum;
  }
};

StepSpeed measure(World& world, Step& step, const Config& config, Clips clips, double limit) {
  const int64_t batch = config.train().batch();
  int64_t images = 0;
  const auto one = [&](StepTally& tally) {
    const Clock::time_point begin = Clock::now();
    step.run(clips, images, tally);
    images += batch;
    clips.first_position += batch;  // other dropout masks and noise in each step
    return seconds_since(begin);
  };
  StepSpeed speed;
  StepTally unused;
  double last = 0;
  for (int i = 0; i < kWarmUp; ++i) last = one(unused);
  // All ranks make the same number of steps.
  const int64_t steps = world.max(std::clamp<int64_t>(std::llround(limit / last), kFewest, kMost));
  const std::clock_t cpu = std::clock();
  for (int64_t i = 0; i < steps; ++i) speed.seconds.push_back(one(speed.tally));
  speed.cpu_seconds =
      static_cast<double>(std::clock() - cpu) / CLOCKS_PER_SEC / static_cast<double>(steps);
  std::sort(speed.seconds.begin(), speed.seconds.end());
  return speed;
}

struct Report {
  double median, model, communication;
  int64_t peak_bytes;
};

// Collective: the slowest and largest rank counts.
Report over_ranks(World& world, const StepSpeed& speed) {
  return {world.max(speed.at(0.5)), world.max(speed.tally.model / speed.total()),
          world.max(speed.tally.communication / speed.total()),
          world.max(static_cast<int64_t>(peak_memory_bytes()))};
}

std::string as_json(const Report& report, const StepSpeed& speed, const Config& config,
                    const ClipShape& shape, int64_t parameters, int ranks) {
  Json json;
  json.object([&] {
    json.field("ms_per_step", 1e3 * report.median);
    json.field("clips_per_s", config.train().batch() / report.median);
    json.field("peak_bytes", report.peak_bytes);
    json.object("ms_spread", [&] {
      json.field("min", 1e3 * speed.at(0)).field("lower_quartile", 1e3 * speed.at(0.25));
      json.field("upper_quartile", 1e3 * speed.at(0.75)).field("max", 1e3 * speed.at(1));
    });
    json.field("cpu_ms_per_step", 1e3 * speed.cpu_seconds);
    json.field("steps", speed.seconds.size());
    json.field("model_share", report.model).field("communication_share", report.communication);
    json.field("parameters", parameters).field("batch", config.train().batch());
    json.array("clip_shape", [&] {
      for (const int side : {shape.frames, shape.height, shape.width, shape.channels})
        json.value(side);
    });
    json.field("precision", Precision_Name(config.train().precision()));
    json.field("ranks", ranks).field("threads", at::get_num_threads());
  });
  return json.text();
}

}  // namespace

int bench_step(const Arguments& arguments) {
  const Config config = load_config(arguments.get("--config"), arguments.all("--set"));
  const auto seconds = static_cast<double>(arguments.number("--seconds", 10, 1, 3600));
  const auto threads =
      static_cast<int32_t>(arguments.number("--threads", config.train().threads(), 0, 4096));
  const Accelerator accelerator = accelerator_of_machine();
  World& world = World::join();
  start_log("lastframe", world.rank());
  world.agree("config", print_config(config));
  const at::Device device = choose_device(world, config.train(), accelerator);
  check_batch(config, world.size());
  at::set_num_threads(threads_of_rank(world, threads));
  const ClipShape shape = shape_of_config(config);
  StepSpeed speed;
  int64_t parameters = 0;
  {
    Step step(world, config, shape, device, accelerator.backend);
    parameters = step.model().parameters().count();
    speed = measure(world, step, config,
                    synthetic_clips(config, shape, config.train().batch(),
                                    step.model().images_per_clip(), world, device),
                    seconds);
  }
  const Report report = over_ranks(world, speed);
  if (!world.is_root()) return 0;
  if (arguments.has("--json")) {
    std::puts(as_json(report, speed, config, shape, parameters, world.size()).c_str());
    return 0;
  }
  std::printf(
      "%.2f ms a step of %d clips %dx%dx%dx%d (half of %zu steps within %.2f to %.2f), "
      "%.1f clips/s\n%s parameters, %s, %d ranks of %d threads, %s at most; model %.1f %%, "
      "communication not hidden %.1f %%\n",
      1e3 * report.median, config.train().batch(), shape.frames, shape.height, shape.width,
      shape.channels, speed.seconds.size(), 1e3 * speed.at(0.25), 1e3 * speed.at(0.75),
      config.train().batch() / report.median,
      human_count(static_cast<uint64_t>(parameters)).c_str(),
      Precision_Name(config.train().precision()).c_str(), world.size(), at::get_num_threads(),
      human_bytes(static_cast<uint64_t>(report.peak_bytes)).c_str(),
      100 * (report.model - report.communication), 100 * report.communication);
  return 0;
}

}  // namespace lf
