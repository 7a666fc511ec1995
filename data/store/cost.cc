#include "data/store/cost.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/text.h"
#include "data/recipe/recipe.h"
#include "data/store/build.h"
#include "data/store/layout.h"
#include "data/store/shard.h"

namespace lf {
namespace {

constexpr uint64_t kMostSamples = 256;
constexpr uint64_t kSampleBytes = uint64_t{256} << 20;  // about, of samples and their frames

StoreIndex plan_of_mode(Config config, const Source& source, StoreMode mode) {
  config.mutable_store()->set_mode(mode);
  // Fresh draws cannot be stored; a store of one draw is closest.
  if (mode == STORED) config.mutable_store()->set_fresh_draws(false);
  return plan_store(config, source);
}

// Loads items spread evenly over the source and measures the time of one.
std::vector<Sample> load_samples(const Source& source, uint64_t count, double seconds,
                                 SourceRates& rates) {
  std::vector<Sample> samples;
  std::string reason;
  const auto begin = Clock::now();
  for (uint64_t i = 0; i < count; ++i) {
    if (samples.size() >= 2 && seconds_since(begin) > seconds) break;
    ++rates.sampled;
    // Not i * size / count, which overflows for the largest sources.
    const uint64_t item = source.size() / count * i + source.size() % count * i / count;
    try {
      samples.push_back(source.load(item));
    } catch (const Error& error) {
      if (error.code() != Code::kData) throw;
      ++rates.bad;
      reason = error.what();
    }
  }
  if (samples.empty()) {
    fail(Code::kData, "none of ", rates.sampled, " items tried can be used, the last: ", reason);
  }
  rates.load_seconds = seconds_since(begin) / static_cast<double>(rates.sampled);
  return samples;
}

// Seconds for one draw of one item, averaged over about `seconds`.
double time_recipe(const Recipe& recipe, const std::vector<Sample>& samples, double seconds) {
  std::vector<uint8_t> frames(recipe.corrupted_bytes());
  recipe.apply(samples[0].pixels.data(), {0, 0, 0}, frames.data());  // warms tables and caches
  const auto begin = Clock::now();
  uint64_t done = 0;
  do {
    recipe.apply(samples[done % samples.size()].pixels.data(), {0, done, 0}, frames.data());
    ++done;
  } while (seconds_since(begin) < seconds);
  return seconds_since(begin) / static_cast<double>(done);
}

struct ShardSize {
  double bytes = 0;         // of all shards
  double pack_seconds = 0;  // one clip: checksums, copying, HDF5
};

// Estimates the size of the store's shards from shards that repeat the samples. HDF5 rounds a file
// up to whole blocks, so a shard of the real length is made if that is cheap; else the size is
// extrapolated linearly.
ShardSize measure_shard(const StoreIndex& plan, const Recipe& recipe,
                        const std::vector<Sample>& samples) {
  const Layout layout(plan);
  const size_t image_at = samples[0].pixels.size() - recipe.clean_bytes();
  const auto make = [&](size_t clips) {
    ShardWriter writer(plan, layout, 0);
    for (size_t i = 0; i < clips; ++i) {
      const Sample& sample = samples[i % samples.size()];
      writer.add(i, sample, sample.pixels.data() + image_at, [&](uint32_t, void* corrupted) {
        std::fill_n(static_cast<uint8_t*>(corrupted), recipe.corrupted_bytes(), uint8_t{0});
      });
    }
    return static_cast<double>(writer.finish().size());
  };
  constexpr double kCheapBytes = 64 << 20;
  const size_t clips = samples.size();
  const double small = make(clips);
  const auto begin = Clock::now();
  const double large = make(2 * clips);
  ShardSize size;
  size.pack_seconds = seconds_since(begin) / static_cast<double>(2 * clips);
  const StorePart& part = plan.parts(0);
  const double bytes_per_clip = (large - small) / static_cast<double>(clips);
  const auto bytes_of = [&](uint64_t items) {
    return bytes_per_clip * static_cast<double>(items) <= kCheapBytes
               ? make(items)
               : small + bytes_per_clip * (static_cast<double>(items) - static_cast<double>(clips));
  };
  const uint64_t last = part.items() - (part.shards() - 1) * part.items_per_shard();
  size.bytes = bytes_of(last);
  if (part.shards() > 1) {
    size.bytes += static_cast<double>(part.shards() - 1) * bytes_of(part.items_per_shard());
  }
  return size;
}

StoreCost cost_of(const StoreIndex& plan, const Recipe& recipe, const std::vector<Sample>& samples,
                  const SourceRates& rates) {
  const ShardSize shard = measure_shard(plan, recipe, samples);
  const Layout layout(plan);
  StoreCost cost;
  cost.mode = plan.mode();
  cost.draws = layout.held_draws();
  cost.clips = plan.parts(0).items();
  cost.shards = plan.parts(0).shards();
  // An index record is about the size of a shard's fixed part of addresses; 128 bytes do.
  constexpr double kRecord = 128;
  const auto clips = static_cast<double>(cost.clips), shards = static_cast<double>(cost.shards);
  cost.bytes = static_cast<uint64_t>(std::llround(shard.bytes + shards * kRecord));
  cost.read_bytes = layout.image_bytes() + (layout.stored() ? layout.corrupted_bytes() : 0);
  cost.build_core_seconds =
      clips * (rates.load_seconds + cost.draws * rates.recipe_seconds + shard.pack_seconds);
  cost.read_core_seconds = layout.stored() ? 0 : rates.recipe_seconds;
  return cost;
}

}  // namespace

CostEstimate estimate_cost(const Config& config, const Source& source, double seconds) {
  const StoreIndex stored = plan_of_mode(config, source, STORED);
  const ClipShape image = source.shape();
  const Recipe recipe(config.recipe(), image);

  CostEstimate estimate;
  estimate.clip = {recipe.frames(), image.height, image.width, image.channels};
  estimate.element_bytes = stored.element_bytes();
  // Twice the clips of all draws are made in memory at a time.
  const uint64_t held = Layout(stored).held_draws() * recipe.corrupted_bytes() + image.bytes();
  const uint64_t fitting = std::clamp<uint64_t>(kSampleBytes / (3 * held), 2, kMostSamples);
  const uint64_t count = std::min(fitting, source.size());
  const std::vector<Sample> samples = load_samples(source, count, seconds / 2, estimate.rates);
  estimate.rates.recipe_seconds = time_recipe(recipe, samples, seconds / 2);
  estimate.stored = cost_of(stored, recipe, samples, estimate.rates);
  if (image.frames == 1) {
    const StoreIndex recomputed = plan_of_mode(config, source, RECOMPUTED);
    estimate.recomputed = cost_of(recomputed, recipe, samples, estimate.rates);
  }
  return estimate;
}

}  // namespace lf
