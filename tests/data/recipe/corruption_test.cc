// Single operators and the loops under them against scipy's fixture, closed forms and plain
// implementations.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "base/file.h"
#include "data/recipe/frame_kernels.h"
#include "tests/data/recipe/recipe_fixture.h"

namespace lf {
namespace {

const ClipShape kSmall{1, 16, 12, 3};

TEST(Blur, AgreesWithScipy) {
  const std::string bytes =
      read_file(real_file_system(), std::string(LF_FIXTURES) + "/blur_scipy.bin", 1 << 20);
  const size_t n = kSmall.bytes();
  ASSERT_EQ(bytes.size(), n * (1 + 4 * 9));
  const std::vector<uint8_t> image(bytes.begin(), bytes.begin() + static_cast<int64_t>(n));
  size_t at = n;
  for (const char* sigmas : {"0.4,0.5,0.6,0.7,0.8,0.9,1.0", "2.151,4.0"}) {
    const int frames = sigmas[0] == '0' ? 8 : 3;
    const Recipe made = recipe({str("frames=", frames), str("blur.sigmas=", sigmas)}, kSmall);
    const auto exact = exact_frames(made, as_floats(image));
    const std::vector<uint8_t> stored = stored_frames(made, image);
    for (size_t s = 1; s < exact.size(); ++s) {
      std::vector<float> scipy(n);
      std::memcpy(scipy.data(), bytes.data() + at, 4 * n);
      at += 4 * n;
      for (size_t i = 0; i < n; ++i) {
        EXPECT_NEAR(exact[s][i] / 255, scipy[i] / 255, 1e-6) << s << " " << i;
        const int grey = stored[(exact.size() - 1 - s) * n + i];
        EXPECT_LE(std::abs(grey - static_cast<int>(std::lround(scipy[i]))), 1);
      }
    }
  }
}

// The share of its nominal variance that a small sampled kernel delivers.
TEST(Blur, SmallKernelsDeliverLessThanTheirName) {
  const auto delivered = [](double sigma) {
    const Kernel1D kernel = gaussian_kernel(sigma);
    double variance = 0, sum = kernel[0];
    for (size_t k = 1; k < kernel.size(); ++k) {
      variance += 2.0 * kernel[k] * static_cast<double>(k * k);
      sum += 2.0 * kernel[k];
    }
    EXPECT_NEAR(sum, 1, 1e-7);
    EXPECT_EQ(static_cast<int>(kernel.size()), 1 + static_cast<int>(4 * sigma + 0.5));
    return variance / (sigma * sigma);
  };
  EXPECT_NEAR(delivered(0.3), .085, 5e-4);
  EXPECT_NEAR(delivered(0.46), .75, 5e-3);
  EXPECT_NEAR(delivered(0.5), .86, 5e-4);
  for (const double sigma : {0.7, 1.0, 2.0, 8.0}) EXPECT_NEAR(delivered(sigma), 1, 0.02);
  EXPECT_EQ(gaussian_kernel(0.05), Kernel1D{1.0f});
}

TEST(Blur, StarGetsAllStepsAtOnce) {
  const std::vector<float> image = as_floats(random_image({1, 48, 48, 1}));
  const auto star = exact_frames(
      recipe({"frames=3", "topology=star", "blur.sigmas=3,4", "blur.noise=1e-9"}, {1, 48, 48, 1}),
      image);
  const auto once = exact_frames(recipe({"frames=2", "blur.sigmas=5"}, {1, 48, 48, 1}), image);
  for (size_t i = 0; i < image.size(); ++i) EXPECT_NEAR(star[2][i], once[1][i], 1e-3);
}

TEST(Blur, RandomDirectionsKeepTheSumOfTheVariances) {
  const ClipShape shape{1, 61, 61, 1};
  std::vector<float> image(shape.bytes());
  image[30 * 61 + 30] = 255;
  const Recipe made =
      recipe({"frames=2", "topology=star", "blur.sigmas=2", "blur.random_direction=true"}, shape);
  std::set<int> seen;
  for (uint64_t clip = 0; clip < 64; ++clip) {
    const auto frame = exact_frames(made, image, {1, clip})[1];
    double sum = 0, down = 0, along = 0;
    for (int y = 0; y < 61; ++y) {
      for (int x = 0; x < 61; ++x) {
        const double v = frame[static_cast<size_t>(y * 61 + x)];
        sum += v, down += v * (y - 30) * (y - 30), along += v * (x - 30) * (x - 30);
      }
    }
    EXPECT_NEAR((down + along) / sum, 8, 0.3);
    seen.insert(static_cast<int>(std::lround(down / sum * 2)));
  }
  EXPECT_GT(seen.size(), 10u);
}

TEST(Heat, IsASemigroup) {
  const ClipShape shape{1, 24, 20, 3};
  const std::vector<float> image = as_floats(random_image(shape));
  for (const double a : {0.2, 0.5, 1.3}) {
    const double b = 0.7, total = std::sqrt(a * a + b * b);
    const auto twice =
        exact_frames(recipe({"frames=3", str("heat.sigmas=", a, ",", b)}, shape), image);
    const auto once = exact_frames(Recipe(
                                       [&] {
                                         RecipeConfig config;
                                         config.set_frames(2);
                                         config.mutable_heat()->add_sigmas(total);
                                         return config;
                                       }(),
                                       shape),
                                   image);
    for (size_t i = 0; i < image.size(); ++i)
      EXPECT_NEAR(twice[2][i] / 255, once[1][i] / 255, 1e-6);
  }
}

// The definition: cosine transform, shrink, inverse, all in double.
TEST(Heat, IsTheCosineTransformsDefinition) {
  const int h = 6, w = 5;
  const double sigma = 0.9;
  const std::vector<float> image = as_floats(random_image({1, h, w, 1}));
  RecipeConfig config;
  config.set_frames(2);
  config.mutable_heat()->add_sigmas(sigma);
  const auto frames = exact_frames(Recipe(config, {1, h, w, 1}), image);
  const auto basis = [](int k, int i, int n) {
    return std::sqrt((k == 0 ? 1.0 : 2.0) / n) * std::cos(M_PI * k * (2 * i + 1) / (2.0 * n));
  };
  std::vector<double> out(image.size());
  for (int k = 0; k < h; ++k) {
    for (int l = 0; l < w; ++l) {
      double coefficient = 0;
      for (int y = 0; y < h; ++y) {
        for (int x = 0; x < w; ++x) {
          coefficient += basis(k, y, h) * basis(l, x, w) * image[static_cast<size_t>(y * w + x)];
        }
      }
      coefficient *=
          std::exp(-0.5 * sigma * sigma * (std::pow(M_PI * k / h, 2) + std::pow(M_PI * l / w, 2)));
      for (int y = 0; y < h; ++y) {
        for (int x = 0; x < w; ++x) {
          out[static_cast<size_t>(y * w + x)] += coefficient * basis(k, y, h) * basis(l, x, w);
        }
      }
    }
  }
  for (size_t i = 0; i < image.size(); ++i) EXPECT_NEAR(frames[1][i], out[i], 1e-4);
}

TEST(Noise, IsStoredInFp16AndNotClipped) {
  const std::vector<uint8_t> image(kSmall.bytes(), 255);
  const Recipe made = recipe({"frames=2", "noise.kind=ve", "noise.sigmas=2"}, kSmall);
  EXPECT_EQ(made.element(), Element::kFp16);
  const std::vector<uint8_t> stored = stored_frames(made, image);
  const auto exact = exact_frames(made, as_floats(image));
  float largest = 0;
  for (size_t i = 0; i < image.size(); ++i) {
    _Float16 fp16;
    std::memcpy(&fp16, stored.data() + 2 * i, 2);
    const float value = exact[1][i] / 127.5f - 1;
    EXPECT_EQ(static_cast<float>(fp16), static_cast<float>(static_cast<_Float16>(value)));
    largest = std::max(largest, static_cast<float>(fp16));
  }
  EXPECT_GT(largest, 3);
}

TEST(Noise, CompositesThatEndBoundedAreGreyLevels) {
  EXPECT_EQ(recipe({"composite.operators={noise {}},{quantise {}}"}, kSmall).element(),
            Element::kUint8);
  EXPECT_EQ(recipe({"composite.operators={quantise {}},{noise {}}"}, kSmall).element(),
            Element::kFp16);
  EXPECT_EQ(recipe({"composite.operators={noise {}},{pixelate {largest: 4}}"}, kSmall).element(),
            Element::kFp16);
}

TEST(Mask, BlocksFallTogetherAndNest) {
  const ClipShape shape{1, 30, 30, 1};  // blocks of 4 leave a ragged edge
  const std::vector<float> image(shape.bytes(), 1.0f);
  const auto frames = exact_frames(recipe({"mask.block=4"}, shape), image);
  for (size_t s = 1; s < frames.size(); ++s) {
    for (size_t y = 0; y < 30; ++y) {
      for (size_t x = 0; x < 30; ++x) {
        ASSERT_EQ(frames[s][y * 30 + x], frames[s][y / 4 * 4 * 30 + x / 4 * 4]);
        if (frames[s - 1][y * 30 + x] != 1.0f) {
          ASSERT_NE(frames[s][y * 30 + x], 1.0f);
        }
      }
    }
  }
}

TEST(Pixelate, BlocksAreMeansAndNestedGridsCompose) {
  const std::vector<float> image = as_floats(random_image({1, 16, 16, 1}));
  const auto frames =
      exact_frames(recipe({"frames=3", "pixelate.blocks=2,8"}, {1, 16, 16, 1}), image);
  for (size_t y = 0; y < 16; y += 8) {
    for (size_t x = 0; x < 16; x += 8) {
      double mean = 0;
      for (size_t k = 0; k < 64; ++k) mean += image[(y + k / 8) * 16 + x + k % 8];
      EXPECT_NEAR(frames[2][y * 16 + x], mean / 64, 1e-4);
    }
  }
}

TEST(Pixelate, OffsetsMoveTheGrid) {
  const ClipShape shape{1, 17, 13, 2};
  const std::vector<float> image = as_floats(random_image(shape));
  const Recipe made = recipe(
      {"frames=2", "topology=star", "pixelate.blocks=4", "pixelate.random_offset=true"}, shape);
  std::set<std::vector<float>> seen;
  for (uint64_t clip = 0; clip < 40; ++clip) {
    const auto frame = exact_frames(made, image, {1, clip})[1];
    seen.insert(frame);
    double before = 0, after = 0;
    for (size_t i = 0; i < image.size(); ++i) before += image[i], after += frame[i];
    EXPECT_NEAR(after / before, 1, 1e-6);  // means keep the mean, at the edges too
  }
  EXPECT_GT(seen.size(), 10u);
  EXPECT_LE(seen.size(), 16u);
}

TEST(Downsample, KeepsRampsInTheMiddle) {
  const ClipShape shape{1, 16, 16, 1};
  std::vector<float> image(shape.bytes());
  for (size_t i = 0; i < image.size(); ++i) {
    image[i] = static_cast<float>(3 * (i / 16) + 5 * (i % 16));
  }
  const auto frames = exact_frames(recipe({"frames=2", "downsample.factors=4"}, shape), image);
  for (size_t y = 2; y < 14; ++y) {
    for (size_t x = 2; x < 14; ++x) EXPECT_NEAR(frames[1][y * 16 + x], image[y * 16 + x], 1e-4);
  }
  EXPECT_NEAR(frames[1][0], 1.5 * 3 + 1.5 * 5, 1e-4);  // flat beyond the outermost centres
}

TEST(Quantise, RoundsToEvenlySpacedLevels) {
  std::vector<float> image(256);
  for (size_t i = 0; i < 256; ++i) image[i] = static_cast<float>(i);
  const auto frames =
      exact_frames(recipe({"frames=2", "quantise.levels=4"}, {1, 16, 16, 1}), image);
  for (size_t i = 0; i < 256; ++i) {
    EXPECT_EQ(frames[1][i], static_cast<float>(std::lround(static_cast<double>(i) / 85) * 85)) << i;
  }
}

TEST(Quantise, DitherIsRightOnAverage) {
  const ClipShape shape{1, 200, 200, 1};
  const std::vector<float> image(shape.bytes(), 100.0f);
  const auto frames = exact_frames(
      recipe({"frames=2", "topology=star", "quantise.levels=2", "quantise.dither=true"}, shape),
      image);
  double mean = 0;
  for (const float v : frames[1]) mean += v / 40000;
  EXPECT_NEAR(mean, 100, 4 * 125 / 200.0);
}

TEST(Static, FramesAreCopies) {
  const std::vector<uint8_t> image = random_image(kSmall);
  const std::vector<uint8_t> frames = stored_frames(recipe({"static={}"}, kSmall), image);
  for (size_t i = 0; i < frames.size(); ++i) EXPECT_EQ(frames[i], image[i % image.size()]);
}

TEST(FrameKernels, RoundHalfToEvenAndClip) {
  const float in[] = {-3, 0.5f, 1.5f, 2.5f, 254.5f, 255.5f, 1e9f, 127.50001f, 0.49999997f};
  const uint8_t expected[] = {0, 0, 2, 2, 254, 255, 255, 128, 0};
  uint8_t out[9];
  round_to_grey(in, out, 9);
  for (size_t i = 0; i < 9; ++i) EXPECT_EQ(out[i], expected[i]) << in[i];
}

TEST(FrameKernels, Fp16IsTheCompilers) {
  std::vector<float> in;
  for (uint32_t bits = 0; bits < 0x48000000u; bits += 9973) {  // through subnormals to infinity
    float value;
    std::memcpy(&value, &bits, 4);
    in.push_back((value + 1.0f) * 127.5f);
    in.push_back((1.0f - value) * 127.5f);
  }
  std::vector<uint16_t> out(in.size());
  round_to_fp16(in.data(), out.data(), in.size());
  for (size_t i = 0; i < in.size(); ++i) {
    const _Float16 expected = static_cast<_Float16>(in[i] / 127.5f - 1.0f);
    uint16_t bits;
    std::memcpy(&bits, &expected, 2);
    ASSERT_EQ(out[i], bits) << in[i];
  }
}

}  // namespace
}  // namespace lf
