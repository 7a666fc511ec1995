// Recipes as a whole: the last frame, bits on every vector width, what topologies promise, and
// refusals. Single operators are tested in corruption_test.cc.
#include "data/recipe/recipe.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <set>
#include <thread>

#include "base/crc32c.h"
#include "data/recipe/corruption.h"
#include "data/recipe/schedule.h"
#include "tests/data/recipe/recipe_fixture.h"

namespace lf {
namespace {

const ClipShape kSmall{1, 16, 12, 3};

// One recipe an operator, with randomness where the operator has it.
struct Case {
  const char* name;
  std::vector<std::string> sets;
  uint32_t crc;
};
const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      {"blur", {}, 4103102596},
      {"blur by sigmas", {"blur.sigmas=0.4,0.5,0.6,0.7,0.8,0.9,1.0"}, 4225238446},
      {"blur star", {"topology=star", "blur.noise=0.02", "blur.random_direction=true"}, 3502359538},
      {"blur window", {"topology=window", "window=3", "blur.noise=0.02"}, 2308583265},
      {"heat", {"heat={}"}, 3392503687},
      {"noise chain", {"noise={}"}, 2021993695},
      {"noise full", {"topology=full", "noise={}"}, 2594100935},
      {"noise VE star", {"topology=star", "noise.kind=VE", "noise.schedule=geometric"}, 582448248},
      {"mask chain", {"mask={}"}, 1764476910},
      {"mask window", {"topology=window", "mask.block=4"}, 986625196},
      {"mask star", {"topology=star", "mask.schedule=cosine"}, 2354117365},
      {"pixelate", {"pixelate.blocks=1,2,2,2,4,4,4"}, 1108416393},
      {"pixelate star", {"topology=star", "pixelate.random_offset=true"}, 3083089687},
      {"downsample", {"downsample={}"}, 4276727574},
      {"quantise", {"quantise={}"}, 3440066903},
      {"quantise star", {"topology=star", "quantise.dither=true"}, 2211286242},
      {"composite",
       {"composite.operators={blur {strength: 0.05}},{mask {block: 2}},{noise {t_max: 200}}"},
       3482031780},
      {"static", {"static={}"}, 589407344},
  };
  return all;
}

TEST(Recipe, EveryOperatorGivesItsCommittedBitsAtEveryWidth) {
  // 45 columns leave ragged ends at every width.
  for (const ClipShape shape : {ClipShape{1, 16, 12, 3}, ClipShape{1, 20, 15, 3}}) {
    const std::vector<uint8_t> image = random_image(shape);
    for (const Case& c : cases()) {
      if (shape.height == 20 && std::string(c.name) == "pixelate") continue;  // 15 is odd
      std::set<uint32_t> crcs;
      for (const Isa width : isas_here()) {
        const ForcedIsa forced(width);
        const std::vector<uint8_t> frames = stored_frames(recipe(c.sets, shape), image, {7, 8, 9});
        crcs.insert(crc32c(frames.data(), frames.size()));
      }
      EXPECT_EQ(crcs.size(), 1u) << c.name;
      if (shape == kSmall) {
        EXPECT_EQ(*crcs.begin(), c.crc) << c.name;
      }
    }
  }
}

TEST(Recipe, LastFrameIsTheImageBitForBit) {
  const std::vector<uint8_t> image = random_image(kSmall);
  for (const Case& c : cases()) {
    const Recipe made = recipe(c.sets, kSmall);
    EXPECT_EQ(made.frames(), 8);
    EXPECT_EQ(made.clean_bytes(), image.size());
    const size_t element = made.element() == Element::kFp16 ? 2 : 1;
    ASSERT_EQ(made.corrupted_bytes(), 7 * image.size() * element);
    // Frames 0..T-2 go in front of the image; nothing is written over it.
    std::vector<uint8_t> clip(made.corrupted_bytes());
    clip.insert(clip.end(), image.begin(), image.end());
    std::vector<uint8_t> input = image;
    made.apply(input.data(), {1, 2, 0}, clip.data());
    EXPECT_EQ(input, image) << c.name;
    EXPECT_TRUE(std::equal(image.begin(), image.end(),
                           clip.begin() + static_cast<int64_t>(made.corrupted_bytes())))
        << c.name;
    // Same key, same clip; another seed, clip or draw, other frames where there is randomness.
    const std::vector<uint8_t> frames = stored_frames(made, image, {1, 2, 0});
    EXPECT_EQ(stored_frames(made, image, {1, 2, 0}), frames) << c.name;
    for (const ClipKey other : {ClipKey{2, 2, 0}, ClipKey{1, 3, 0}, ClipKey{1, 2, 1}}) {
      EXPECT_EQ(stored_frames(made, image, other) != frames, made.random()) << c.name;
    }
  }
}

TEST(Recipe, ClipsDoNotDependOnTheWorker) {
  const std::vector<uint8_t> image = random_image(kSmall);
  for (const char* set : {"noise={}", "blur={}", "mask={}"}) {
    const Recipe made = recipe({set}, kSmall);
    std::vector<std::vector<uint8_t>> alone, shared(24);
    for (uint64_t clip = 0; clip < 24; ++clip)
      alone.push_back(stored_frames(made, image, {1, clip}));
    std::vector<std::thread> workers;
    for (uint64_t worker = 0; worker < 3; ++worker) {
      workers.emplace_back([&, worker] {
        for (uint64_t clip = 24 - worker; clip-- > 0;) {  // backwards, dealt out
          if (clip % 3 == worker) shared[clip] = stored_frames(made, image, {1, clip});
        }
      });
    }
    for (std::thread& worker : workers) worker.join();
    for (size_t clip = 0; clip < 24; ++clip) {
      if (!shared[clip].empty()) {
        EXPECT_EQ(shared[clip], alone[clip]) << set << " " << clip;
      }
    }
  }
}

double total_variation(const std::vector<float>& frame, const ClipShape& shape) {
  double sum = 0;
  const size_t c = static_cast<size_t>(shape.channels), row = c * static_cast<size_t>(shape.width);
  for (size_t i = 0; i + row < frame.size(); ++i) sum += std::abs(frame[i + row] - frame[i]);
  for (size_t i = 0; i + c < frame.size(); ++i) {
    if (i % row + c < row) sum += std::abs(frame[i + c] - frame[i]);
  }
  return sum;
}

TEST(Recipe, RecursiveBlurKeepsTheMeanAndSmooths) {
  const ClipShape shape{1, 64, 64, 1};
  std::vector<float> image(shape.bytes(), 40.0f);  // a wide constant border
  const std::vector<uint8_t> inner = random_image({1, 24, 24, 1});
  for (size_t i = 0; i < inner.size(); ++i) image[(20 + i / 24) * 64 + 20 + i % 24] = inner[i];
  for (const char* set : {"blur={}", "heat={}"}) {
    const auto frames = exact_frames(recipe({set}, shape), image);
    double mean = 0;
    for (const float v : image) mean += v;
    for (size_t s = 1; s < frames.size(); ++s) {
      double sum = 0;
      for (const float v : frames[s]) sum += v;
      EXPECT_NEAR(sum / mean, 1, 1e-3 / 255) << set << s;
      EXPECT_LT(total_variation(frames[s], shape), total_variation(frames[s - 1], shape))
          << set << s;
    }
  }
}

TEST(Recipe, ImpulseResponseVarianceIsTheSumOfSquares) {
  const ClipShape shape{1, 81, 81, 1};
  std::vector<float> image(shape.bytes());
  image[40 * 81 + 40] = 255;
  const auto variance = [&](const std::vector<float>& frame) {
    double sum = 0, square = 0;
    for (int y = 0; y < 81; ++y) {
      for (int x = 0; x < 81; ++x) {
        sum += frame[static_cast<size_t>(y * 81 + x)];
        square += frame[static_cast<size_t>(y * 81 + x)] * static_cast<double>((y - 40) * (y - 40));
      }
    }
    return square / sum;
  };
  const std::string steps = "sigmas=0.717,0.956,1.195,1.434,1.673,1.912,2.151";
  const auto sampled = exact_frames(recipe({"blur." + steps}, shape), image);
  const auto heat = exact_frames(recipe({"heat." + steps}, shape), image);
  double expected = 0;
  for (size_t s = 1; s < sampled.size(); ++s) {
    const double sigma = 0.717 + 0.239 * static_cast<double>(s - 1);
    expected += sigma * sigma;
    EXPECT_NEAR(variance(sampled[s]) / expected, 1, 0.02) << s;
  }
  // The heat kernel of a grid: its variance is exact but for the band limit, gone after some steps.
  EXPECT_NEAR(variance(heat.back()) / expected, 1, 1e-5);
}

TEST(Recipe, RecursiveNoiseHasItsScaleAndDeviation) {
  const ClipShape shape{1, 400, 400, 1};
  const std::vector<float> image = gaussian_image(shape);
  for (const char* kind : {"vp", "ve"}) {
    for (const char* topology : {"chain", "window", "full", "star"}) {
      NoiseConfig config;
      if (kind[1] == 'e') config.set_kind(NoiseConfig::VE);
      const NoiseLevels levels = noise_levels(config, 7);
      const auto frames = exact_frames(
          recipe({str("topology=", topology), str("noise.kind=", kind)}, shape), image);
      for (size_t s = 1; s < frames.size(); ++s) {
        double xx = 0, xy = 0, residual = 0;
        const auto signed_value = [](float grey) { return grey / 127.5 - 1; };
        for (size_t i = 0; i < image.size(); ++i) {
          const double x = signed_value(image[i]);
          xx += x * x, xy += x * signed_value(frames[s][i]);
        }
        const double slope = xy / xx;
        for (size_t i = 0; i < image.size(); ++i) {
          const double r = signed_value(frames[s][i]) - slope * signed_value(image[i]);
          residual += r * r;
        }
        const double sigma = std::sqrt(residual / static_cast<double>(image.size()));
        EXPECT_NEAR(slope, levels.alpha[s], 0.01 * std::max(1.0, levels.sigma[s])) << kind << s;
        EXPECT_NEAR(sigma / levels.sigma[s], 1, 0.01) << kind << topology << s;
      }
    }
  }
}

// Least-squares error of predicting the image from frames 1..k, by elimination on their
// covariances.
double prediction_error(const std::vector<std::vector<float>>& frames, size_t k) {
  const size_t n = k + 1;  // the image last
  std::vector<std::vector<double>> c(n, std::vector<double>(n));
  const auto at = [&](size_t i) -> const std::vector<float>& { return frames[i < k ? i + 1 : 0]; };
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j <= i; ++j) {
      double sum = 0;
      for (size_t p = 0; p < frames[0].size(); ++p) {
        sum += (at(i)[p] / 127.5 - 1) * (at(j)[p] / 127.5 - 1);
      }
      c[i][j] = c[j][i] = sum / static_cast<double>(frames[0].size());
    }
  }
  const double whole = c[k][k];
  for (size_t pivot = 0; pivot < k; ++pivot) {
    for (size_t i = pivot + 1; i < n; ++i) {
      const double factor = c[i][pivot] / c[pivot][pivot];
      for (size_t j = pivot; j < n; ++j) c[i][j] -= factor * c[pivot][j];
    }
  }
  return c[k][k] / whole;
}

TEST(Recipe, HigherOrdersTellMoreThanTheChain) {
  const struct {
    int frames;
    const char* topology;
    double one, two, three, all;
  } rows[] = {
      {4, "chain", .25409, .25409, .25409, .25409},  {4, "window", .25409, .24638, .24638, .24638},
      {4, "full", .25409, .24638, .24579, .24579},   {4, "star", .25409, .2269, .2226, .22256},
      {8, "chain", .05506, .05506, .05506, .05506},  {8, "window", .05506, .0519, .0519, .05191},
      {8, "full", .05506, .0519, .0514, .05120},     {8, "star", .05506, .0449, .0418, .03948},
      {18, "chain", .01093, .01093, .01093, .01093}, {18, "full", .01093, .0102, .0101, .00998},
      {18, "star", .01093, .0086, .0079, .00683}};
  const ClipShape shape{1, 400, 300, 1};
  const std::vector<float> image = gaussian_image(shape);
  for (const auto& row : rows) {
    const auto frames = exact_frames(
        recipe({str("frames=", row.frames), str("topology=", row.topology), "noise={}"}, shape),
        image);
    const auto expect = [&](size_t k, double error) {
      EXPECT_NEAR(prediction_error(frames, k) / error, 1, 0.02)
          << row.frames << " frames, " << row.topology << ", from " << k;
    };
    expect(1, row.one);
    expect(2, row.two);
    expect(3, row.three);
    expect(frames.size() - 1, row.all);
  }
}

TEST(Recipe, MasksDropTheirShareAndStarsRevealMore) {
  const ClipShape shape{1, 200, 200, 3};
  const std::vector<float> image(shape.bytes(), 10.0f);
  for (const char* topology : {"chain", "window", "full", "star"}) {
    const auto frames = exact_frames(
        recipe({"frames=4", str("topology=", topology), "mask.rates=0.3,0.5,0.7"}, shape), image);
    double seen = 0, ever = 0;
    const double keep[] = {1, .7, .5, .3};
    for (size_t s = 1; s < 4; ++s) {
      double kept = 0;
      for (size_t p = 0; p < image.size(); p += 3) {
        kept += frames[s][p] == 10.0f;
        ASSERT_EQ(frames[s][p], frames[s][p + 1]);  // channels go together
        ASSERT_TRUE(frames[s][p] == 10.0f || frames[s][p] == 127.5f);
      }
      EXPECT_NEAR(kept / 40000, keep[s], 0.01) << topology << s;
    }
    for (size_t p = 0; p < image.size(); p += 3) {
      seen += frames[1][p] == 10.0f;
      ever += frames[1][p] == 10.0f || frames[2][p] == 10.0f || frames[3][p] == 10.0f;
    }
    const std::string name = topology;
    if (name == "chain") {
      EXPECT_EQ(seen, ever);
    }  // nested
    if (name == "star") {
      EXPECT_NEAR(ever / 40000, .895, .01);
    }
    if (name == "window" || name == "full") {
      EXPECT_GT(ever, seen + 400);
    }
  }
}

TEST(Recipe, GridsAreConstantAndLevelsFew) {
  const ClipShape shape{1, 32, 32, 3};
  const std::vector<float> image = as_floats(random_image(shape));
  const auto pixelated = exact_frames(recipe({"pixelate={}"}, shape), image);
  const int sides[] = {1, 2, 2, 4, 4, 8, 8, 8};
  for (size_t s = 1; s < 8; ++s) {
    for (int y = 0; y < 32; ++y) {
      for (int x = 0; x < 32; ++x) {
        const int corner = (y / sides[s] * sides[s] * 32 + x / sides[s] * sides[s]) * 3;
        ASSERT_EQ(pixelated[s][static_cast<size_t>((y * 32 + x) * 3)],
                  pixelated[s][static_cast<size_t>(corner)]);
      }
    }
  }
  const std::vector<uint8_t> stored =
      stored_frames(recipe({"quantise={}"}, shape), random_image(shape));
  for (size_t s = 1; s < 8; ++s) {
    const auto begin = stored.begin() + static_cast<int64_t>((7 - s) * shape.bytes());
    const std::set<uint8_t> values(begin, begin + static_cast<int64_t>(shape.bytes()));
    EXPECT_LE(values.size(), size_t{256} >> s) << s;
  }
}

TEST(Recipe, CompositesKeepTheirOrder) {
  const std::vector<float> image = as_floats(random_image(kSmall));
  const auto frames = exact_frames(
      recipe({"frames=2", "composite.operators={blur {sigmas: 2}},{quantise {levels: 3}}"}, kSmall),
      image);
  const auto reversed = exact_frames(
      recipe({"frames=2", "composite.operators={quantise {levels: 3}},{blur {sigmas: 2}}"}, kSmall),
      image);
  const auto by_hand =
      exact_frames(recipe({"frames=2", "quantise.levels=3"}, kSmall),
                   exact_frames(recipe({"frames=2", "blur.sigmas=2"}, kSmall), image)[1]);
  EXPECT_EQ(frames[1], by_hand[1]);
  EXPECT_NE(frames[1], reversed[1]);
}

TEST(Recipe, FrameCounts) {
  const std::vector<uint8_t> image = random_image({1, 32, 32, 3});
  EXPECT_EQ(recipe({"frames=1"}, {1, 32, 32, 3}).corrupted_bytes(), 0U);
  for (const int frames : {4, 8, 16, 18, 32}) {
    for (const char* op : {"blur={}", "heat={}", "noise={}", "mask={}", "pixelate={}",
                           "downsample={}", "quantise={}", "static={}"}) {
      const Recipe made = recipe({str("frames=", frames), op}, {1, 32, 32, 3});
      EXPECT_EQ(made.frames(), frames);
      EXPECT_EQ(stored_frames(made, image).size(), made.corrupted_bytes());
      EXPECT_GT(made.corrupted_bytes(), 0U);
    }
  }
}

TEST(Recipe, VideosAreTakenAsTheyAre) {
  const ClipShape video{5, 16, 12, 1};
  const Recipe made = recipe({}, video);
  EXPECT_EQ(made.frames(), 5);
  EXPECT_EQ(made.element(), Element::kUint8);
  const std::vector<uint8_t> pixels = random_image(video);
  EXPECT_EQ(stored_frames(made, pixels),
            std::vector<uint8_t>(pixels.begin(), pixels.begin() + 4 * 16 * 12));
  EXPECT_NE(refused({"blur={}"}, video).find("leave recipe.blur out"), std::string::npos);
  EXPECT_NE(refused({"frames=4"}, video).find("have 5"), std::string::npos);
  refused({"topology=star"}, video);
}

TEST(Recipe, IllegalCombinationsNameTheLegalOnes) {
  const struct {
    std::vector<std::string> sets;
    const char* expected;
  } rows[] = {
      {{"blur.sigmas=0.4,0.5"}, "expected 7"},
      {{"blur.sigmas=1,1,1,1,1,1,1", "blur.strength=0.2"}, "already gives every step"},
      {{"topology=star", "blur={}"}, "recipe.blur.random_direction=true"},
      {{"topology=window", "heat={}"}, "recipe.heat.noise above 0"},
      {{"blur.random_direction=true"}, "needs recipe.topology=STAR"},
      {{"blur.schedule=linear_ddpm"}, "RAMP, LINEAR, COSINE or GEOMETRIC"},
      {{"window=3"}, "recipe.topology is not WINDOW"},
      {{"topology=window", "pixelate={}"}, "expected CHAIN or STAR"},
      {{"noise.schedule=ramp"}, "LINEAR_DDPM, LINEAR_BETA, COSINE, LINEAR or GEOMETRIC"},
      {{"noise.sigmas=1,2,3,4,5,6,7"}, "recipe.noise.kind is VP"},
      {{"noise.kind=ve", "noise.sigmas=1,2,2,4,5,6,7"}, "noise that grows"},
      {{"noise.beta_low=0.1"}, "recipe.noise.schedule is LINEAR_DDPM"},
      {{"noise.t_max=3"}, "noise that grows"},
      {{"mask.rates=0.5,0.4,0.6,0.6,0.6,0.6,0.6"}, "cleanest frame first"},
      {{"mask.block=64"}, "the image's side, 32"},
      {{"pixelate.largest=12"}, "a power of two"},
      {{"pixelate.blocks=2,3,3,3,3,3,3"},
       "legal values with recipe.topology=CHAIN: 2, 4, 8, 16, 32"},
      {{"pixelate.blocks=4,2,2,2,2,2,2"}, "each to divide the next"},
      {{"topology=star", "pixelate={}"}, "recipe.pixelate.random_offset=true"},
      {{"topology=star", "quantise={}"}, "recipe.quantise.dither=true"},
      {{"quantise.levels=4,8,8,8,8,8,8"}, "cleanest frame first"},
      {{"composite={}"}, "expected 1 to 16"},
      {{"composite.operators={}"}, "is empty"},
      {{"topology=star", "composite.operators={blur {}}"}, "expected one that has (noise, mask)"},
      {{"topology=full", "frames=600", "noise={}"}, "expected at most 512"},
      {{"frames=4096", "topology=star", "blur.random_direction=true", "blur.strength=4"},
       "blur less, or take fewer frames"},
  };
  for (const auto& row : rows) {
    const std::string message = refused(row.sets);
    EXPECT_NE(message.find(row.expected), std::string::npos) << message;
  }
}

TEST(Recipe, CanonicalTextTellsRecipesApart) {
  std::set<std::string> texts;
  for (const Case& c : cases()) {
    texts.insert(recipe(c.sets, kSmall).canonical());
    EXPECT_EQ(recipe(c.sets, kSmall).canonical(), recipe(c.sets, kSmall).canonical());
  }
  EXPECT_EQ(texts.size(), cases().size());
  EXPECT_EQ(recipe({"frames=2", "blur.sigmas=1.5"}, kSmall).canonical(),
            "frames=2 topology=CHAIN blur(sigmas=1.5;noise=0;random_direction=0) shape=16x12x3 "
            "arithmetic=1");
}

// A resumed run reads its config as it was printed, defaults written out.
TEST(Recipe, PrintedConfigsMeanTheSameRecipe) {
  for (const Case& c : cases()) {
    Config config;
    *config.mutable_recipe() = recipe_config(c.sets);
    const std::string path = ::testing::TempDir() + "/recipe.pbtxt";
    std::ofstream(path, std::ios::binary) << print_config(config);
    EXPECT_EQ(Recipe(load_config(path, {}).recipe(), kSmall).canonical(),
              recipe(c.sets, kSmall).canonical());
  }
}

TEST(Recipe, EveryRowOfTheTableIsAnOption) {
  std::set<std::string> names;
  for (const CorruptionKind& kind : corruption_kinds()) {
    names.insert(kind.name);
    EXPECT_GT(std::strlen(kind.help), 5u);
  }
  const auto* oneof = RecipeConfig::descriptor()->FindOneofByName("corruption");
  for (int i = 0; i < oneof->field_count(); ++i)
    EXPECT_TRUE(names.contains(oneof->field(i)->name()));
  EXPECT_EQ(names.size(), static_cast<size_t>(oneof->field_count()));
}

}  // namespace
}  // namespace lf
