// `lastframe bench recipe`: how many pseudo videos a second one core makes from images in memory.
// Without reading, decoding or storing.
#include "data/recipe/recipe.h"

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <vector>

#include "base/clock.h"
#include "base/isa.h"
#include "base/json.h"
#include "base/random.h"
#include "config/config.h"
#include "launch/commands.h"
#include "launch/options/arguments.h"
#include "launch/output.h"

namespace lf {
namespace {

constexpr uint64_t kImages = 64;  // at 256 x 256 more than the caches of a core hold

std::vector<uint8_t> random_images(const ClipShape& shape) {
  std::vector<uint32_t> bits(kImages * shape.bytes());
  uniform_bits({1, Purpose::kGenerated}, 0, bits.size(), bits.data());
  return {bits.begin(), bits.end()};
}

int bench_recipe(const Arguments& arguments) {
  const Config config = config_of(arguments);
  const int size = static_cast<int>(arguments.integer("--size"));
  const int channels = static_cast<int>(arguments.integer("--channels"));
  const auto limit = static_cast<double>(arguments.integer("--seconds"));
  const ClipShape shape{1, size, size, channels};
  const Recipe recipe(config.recipe(), shape);
  const std::vector<uint8_t> images = random_images(shape);
  std::vector<uint8_t> frames(std::max<size_t>(recipe.corrupted_bytes(), 1));

  ClipKey key{config.store().seed(), 0, 0};
  recipe.apply(images.data(), key, frames.data());  // touches memory first
  const Clock::time_point begin = Clock::now();
  const std::clock_t cpu_begin = std::clock();
  double seconds = 0;
  do {
    for (int i = 0; i < 16; ++i, ++key.clip) {
      recipe.apply(images.data() + key.clip % kImages * shape.bytes(), key, frames.data());
    }
    seconds = seconds_since(begin);
  } while (seconds < limit);

  const double cpu_seconds = static_cast<double>(std::clock() - cpu_begin) / CLOCKS_PER_SEC;
  const double clips_per_s = static_cast<double>(key.clip) / seconds;
  const double bytes_per_s =
      clips_per_s * static_cast<double>(recipe.corrupted_bytes() + recipe.clean_bytes());
  if (arguments.has("--json")) {
    Json json;
    json.object([&] {
      json.field("clips_per_s", clips_per_s);
      json.field("bytes_per_s", bytes_per_s);
      json.field("clips", key.clip);
      json.field("seconds", seconds);
      json.field("cpu_seconds", cpu_seconds);
      json.field("size", size);
      json.field("channels", channels);
      json.field("threads", 1);
      json.field("isa", name_of(isa()));
      json.field("recipe", recipe.canonical());
    });
    print(json.text() + "\n");
  } else {
    std::printf("%s\n%.0f clips/s, %s/s, one core, %s\n", recipe.canonical().c_str(), clips_per_s,
                human_bytes(static_cast<uint64_t>(bytes_per_s)).c_str(), name_of(isa()));
  }
  return 0;
}

constexpr Option kBenchRecipeOptions[] = {
    kConfigOption,
    set_option_of("recipe|store"),
    {"--size", integer(1, 4096), "height and width of the images", {.fallback = "32"}},
    {"--channels", integer(1, 16), "channels of the images", {.fallback = "3"}},
    {"--seconds", integer(1, 3600), "how long to measure", {.fallback = "3"}},
    kJsonOption,
};

}  // namespace

const Command kBenchRecipeCommand = {
    .name = "bench recipe",
    .summary = "measures how many pseudo videos one core makes a second",
    .details =
        "Applies the config's recipe (without one 8 frames of blur) to images in memory on one "
        "thread: no reading, decoding or storing.",
    .example =
        "lastframe bench recipe\n"
        "lastframe bench recipe --size 256 --set recipe.topology=STAR --set recipe.noise={} "
        "--json",
    .options = kBenchRecipeOptions,
    .run = bench_recipe,
};

}  // namespace lf
