// `lastframe bench load`: how many clips a second the loader reads from a store, in the order of
// training and with every checksum compared. One process, no training. tools/peers/load_speed.py
// compares it with other loaders.
#include <sys/resource.h>

#include <algorithm>
#include <vector>

#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"
#include "config/config.h"
#include "data/loader/loader.h"
#include "launch/commands.h"
#include "launch/options/arguments.h"
#include "launch/output.h"

namespace lf {
namespace {

constexpr int kWindows = 7;

struct Usage {
  double cpu_seconds = 0;
  int64_t blocks_read = 0;  // from storage, not from the page cache
};

Usage usage() {
  rusage now{};
  ::getrusage(RUSAGE_SELF, &now);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return {seconds(now.ru_utime) + seconds(now.ru_stime), now.ru_inblock};
}

struct LoadSpeed {
  std::vector<double> windows;  // clips/s, ascending
  uint64_t clips = 0;
  bool warm = false;  // nothing was read from storage while measuring
  double wait_share = 0;
  double cpu_seconds = 0;
  double median() const { return windows[windows.size() / 2]; }
};

// Reads one byte of each page of the batch, as a consumer would.
uint64_t touch(const Batch& batch) {
  uint64_t sum = 0;
  for (size_t i = 0; i < batch.layout.bytes; i += 4096) sum += batch.frames[i];
  return sum;
}

// Reads the store once, or for `seconds` if that is shorter.
void warm_up(Loader& loader, uint64_t clips, double seconds) {
  const auto begin = Clock::now();
  while (loader.counts().clips < clips && seconds_since(begin) < seconds) loader.next();
}

LoadSpeed measure(Loader& loader, double seconds) {
  LoadSpeed speed;
  const Usage before = usage();
  const LoaderCounts counts = loader.counts();
  const auto begin = Clock::now();
  volatile uint64_t sink = 0;
  for (int w = 0; w < kWindows; ++w) {
    const auto window = Clock::now();
    uint64_t clips = 0;
    double took = 0;
    do {
      const Batch batch = loader.next();
      sink = sink + touch(batch);
      clips += batch.clips.size();
      took = seconds_since(window);
    } while (took < seconds / kWindows);
    speed.windows.push_back(static_cast<double>(clips) / took);
  }
  const Usage after = usage();
  std::sort(speed.windows.begin(), speed.windows.end());
  speed.clips = loader.counts().clips - counts.clips;
  speed.warm = after.blocks_read == before.blocks_read;
  speed.wait_share = (loader.counts().wait_seconds - counts.wait_seconds) / seconds_since(begin);
  speed.cpu_seconds = after.cpu_seconds - before.cpu_seconds;
  return speed;
}

void print_report(const LoadSpeed& speed, const Loader& loader, const LoaderConfig& config,
                  bool as_json) {
  const BatchLayout& layout = loader.layout();
  const size_t clip_bytes = layout.corrupted_bytes + layout.clean_bytes;
  const double bytes_per_s = speed.median() * static_cast<double>(clip_bytes);
  const double cpu = speed.cpu_seconds / static_cast<double>(speed.clips) * 1e4;
  if (as_json) {
    Json json;
    json.object([&] {
      json.field("clips_per_s", speed.median());
      json.field("bytes_per_s", bytes_per_s);
      json.field("clip_bytes", clip_bytes);
      json.field("batch", layout.clips);
      json.field("threads", config.threads());
      json.field("read", ReadMode_Name(config.read()));
      json.field("warm", speed.warm);
      json.field("windows", speed.windows);
      json.field("clips", speed.clips);
      json.field("skipped", loader.counts().skipped);
      json.field("wait_share", speed.wait_share);
      json.field("cpu_s_per_10k_clips", cpu);
    });
    return print(json.text() + "\n");
  }
  print(str(human_count(static_cast<uint64_t>(speed.median())), " clips/s, ",
            human_bytes(static_cast<uint64_t>(bytes_per_s)), "/s (median of ", kWindows,
            " windows, ", human_count(static_cast<uint64_t>(speed.windows.front())), " to ",
            human_count(static_cast<uint64_t>(speed.windows.back())), "; clips of ",
            human_bytes(clip_bytes), ", batches of ", layout.clips, ", ", config.threads(),
            " threads, ", ReadMode_Name(config.read()), speed.warm ? ", warm" : ", from storage",
            ")\n"));
}

int bench_load(const Arguments& arguments) {
  const Config config = config_of(arguments);
  const LoaderConfig& options = config.loader();
  const auto batch = static_cast<uint64_t>(arguments.integer("--batch"));
  const auto seconds = static_cast<double>(arguments.integer("--seconds"));
  const auto store = Store::open(arguments.positional()[0], 0, options.read());
  Loader loader(store, options, {.seed = config.train().seed(), .batch = batch});
  warm_up(loader, store->clips(), 2 * seconds);
  const LoadSpeed speed = measure(loader, seconds);
  print_report(speed, loader, options, arguments.has("--json"));
  return 0;
}

constexpr Option kBenchLoadOptions[] = {
    {"--batch", integer(1, 1 << 20), "clips of a batch", {.fallback = "64"}},
    {"--threads", of_config("loader.threads", "N"), "threads that read ahead"},
    {"--seconds", integer(1, 3600), "how long to measure", {.fallback = "5"}},
    kConfigOption,
    set_option_of("loader|train"),
    kJsonOption,
};

}  // namespace

const Command kBenchLoadCommand = {
    .name = "bench load",
    .positional = "DIR",
    .summary = "measures how many clips of a store one process loads a second",
    .details =
        "Reads the store DIR in the order of training and compares every checksum: first once (or "
        "for twice --seconds) to warm the page cache, then in seven windows, of which the median "
        "counts. Of the config, loader and train.seed count.",
    .example =
        "lastframe bench load STORE\n"
        "lastframe bench load STORE --threads 1 --set loader.read=MMAP --json",
    .options = kBenchLoadOptions,
    .run = bench_load,
};

}  // namespace lf
