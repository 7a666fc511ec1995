// `lastframe bench recipe`: how many pseudo videos one core makes from images in memory. Not a
// measure of reading, decoding or storing. The row is in command_table.cc.
#include "data/recipe/recipe.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <vector>

#include "base/error.h"
#include "base/isa.h"
#include "base/json.h"
#include "base/random.h"
#include "config/config.h"
#include "launch/command.h"
#include "launch/commands.h"

namespace lf {
namespace {

constexpr uint64_t kImages = 64;  // more than the caches of a core keep at 256 x 256

std::vector<uint8_t> random_images(const ClipShape& shape) {
  std::vector<uint32_t> bits(kImages * shape.bytes());
  uniform_bits({1, Purpose::kGenerated}, 0, bits.size(), bits.data());
  return {bits.begin(), bits.end()};
}

}  // namespace

int bench_recipe(const Arguments& arguments) {
  using Clock = std::chrono::steady_clock;
  const Config config = load_config(arguments.get("--config"), arguments.all("--set"));
  const int size = static_cast<int>(arguments.number("--size", 32, 1, 4096));
  const int channels = static_cast<int>(arguments.number("--channels", 3, 1, 16));
  const std::chrono::seconds limit(arguments.number("--seconds", 3, 1, 3600));
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
    seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  } while (seconds < static_cast<double>(limit.count()));

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
    std::printf("%s\n", json.text().c_str());
  } else {
    std::printf("%s\n%.0f clips/s, %s/s, one core, %s\n", recipe.canonical().c_str(), clips_per_s,
                human_bytes(static_cast<uint64_t>(bytes_per_s)).c_str(), name_of(isa()));
  }
  return 0;
}

}  // namespace lf
