// The sources that this program draws itself.
#include <algorithm>
#include <cmath>
#include <map>

#include "base/crc32c.h"
#include "tests/data/sources/source_fixture.h"

namespace lf::source_test {
namespace {

using Shapes = SourceTest;
using MovingDigits = SourceTest;

TEST_F(Shapes, ItemsDependOnSeedAndIndexOnly) {
  const auto a = open({"generated.kind=shapes", "generated.count=50"});
  const auto b = open({"generated.kind=shapes", "generated.count=5000"});
  const auto c = open({"generated.kind=shapes", "generated.seed=1"});
  EXPECT_EQ(a->shape(), (ClipShape{1, 32, 32, 3}));
  EXPECT_EQ(a->load(49).pixels, b->load(49).pixels);
  EXPECT_NE(a->load(0).pixels, a->load(1).pixels);
  EXPECT_NE(a->load(0).pixels, c->load(0).pixels);
}

TEST_F(Shapes, PixelsAreTheSameOnEveryMachine) {
  const auto shapes = open({"generated.kind=shapes"});
  const auto digits = open({"generated.kind=moving-digits"});
  uint32_t crc = 0, digits_crc = 0;
  for (uint64_t i = 0; i < 64; ++i) {
    const Sample sample = shapes->load(i), clip = digits->load(i);
    crc = crc32c(sample.pixels.data(), sample.pixels.size(), crc);
    digits_crc = crc32c(clip.pixels.data(), clip.pixels.size(), digits_crc);
  }
  EXPECT_EQ(crc, 322754163u);
  EXPECT_EQ(digits_crc, 560184491u);
}

TEST_F(Shapes, ClassesAreBalancedAndTheObjectIsWhereItIsSaidToBe) {
  const auto source = open({"generated.kind=shapes", "size=64"});
  const size_t classes = source->label_names().size();
  std::vector<int> count(classes);
  for (uint64_t i = 0; i < 500; ++i) {
    const Sample sample = source->load(i);
    ++count.at(static_cast<size_t>(sample.label));
    const std::vector<float>& object = sample.side.at(0).floats;
    ASSERT_EQ(object.size(), 4u);
    EXPECT_GE(object[0] - 0.92f * object[2], -1e-3f);
    EXPECT_LE(object[0] + 0.92f * object[2], 64.001f);
    EXPECT_GE(object[1] - 0.92f * object[2], -1e-3f);
    EXPECT_LE(object[1] + 0.92f * object[2], 64.001f);
  }
  for (const int n : count) EXPECT_NEAR(n, 50, 30);
  EXPECT_EQ(refusal({"generated.kind=shapes", "size=4"}).substr(0, 2), "2:");
  EXPECT_NE(refusal({"generated.kind=shape"}).find("did you mean 'shapes'"), std::string::npos);
}

// Both constructions of moving digits.
class MovingDigitsBoth : public MovingDigits, public testing::WithParamInterface<const char*> {};

TEST_P(MovingDigitsBoth, DigitsStayInsideAndReflectAtWalls) {
  const bool stochastic = std::string(GetParam()) == "STOCHASTIC";
  const auto source = open({"generated.kind=moving-digits", str("generated.motion=", GetParam()),
                            "generated.frames=60", "generated.digits=1"});
  const float range = stochastic ? 32 : 36;
  int turns = 0;
  for (uint64_t i = 0; i < 30; ++i) {
    const Sample clip = source->load(i);
    const std::vector<float>& at = clip.side.at(0).floats;
    ASSERT_EQ(at.size(), 120u);
    for (size_t t = 0; t < 60; ++t) {
      for (size_t axis = 0; axis < 2; ++axis) {
        const float now = at[2 * t + axis];
        ASSERT_GE(now, 0);
        ASSERT_LE(now, range);
        if (t < 2) continue;
        const float v = now - at[2 * t - 2 + axis],
                    before = at[2 * t - 2 + axis] - at[2 * t - 4 + axis];
        if (std::abs(v - before) < 1e-4f) continue;
        ++turns;
        if (stochastic) continue;
        // Elastic: speed unchanged away from the wall, and the wall is within one step.
        const float nearest =
            std::min({now, at[2 * t - 2 + axis], range - now, range - at[2 * t - 2 + axis]});
        EXPECT_LT(nearest, 3.61f);
      }
    }
  }
  EXPECT_GT(turns, 60);
}

TEST_P(MovingDigitsBoth, SameSeedAndIndexGiveTheSameClip) {
  const std::string motion = str("generated.motion=", GetParam());
  const auto a = open({"generated.kind=moving-digits", motion, "generated.seed=5"});
  const auto b =
      open({"generated.kind=moving-digits", motion, "generated.seed=5", "generated.count=9"});
  const auto c = open({"generated.kind=moving-digits", motion, "generated.seed=6"});
  EXPECT_EQ(a->load(8).pixels, b->load(8).pixels);
  EXPECT_NE(a->load(8).pixels, a->load(7).pixels);
  EXPECT_NE(a->load(8).pixels, c->load(8).pixels);
  EXPECT_EQ(a->shape(), (ClipShape{20, 64, 64, 1}));
  // A longer clip begins as the shorter one does.
  const auto longer =
      open({"generated.kind=moving-digits", motion, "generated.seed=5", "generated.frames=30"});
  std::vector<uint8_t> begin = longer->load(8).pixels;
  begin.resize(a->shape().bytes());
  EXPECT_EQ(a->load(8).pixels, begin);
}

TEST_P(MovingDigitsBoth, InkIsWhereThePositionsSay) {
  const auto source = open({"generated.kind=moving-digits", str("generated.motion=", GetParam()),
                            "generated.digits=1", "size=48"});
  const int side = std::string(GetParam()) == "STOCHASTIC" ? 32 : 28;
  for (uint64_t i = 0; i < 10; ++i) {
    const Sample clip = source->load(i);
    EXPECT_EQ(clip.label, clip.side.at(1).ints.at(0));
    for (int t = 0; t < 20; ++t) {
      const float* at = &clip.side[0].floats[static_cast<size_t>(2 * t)];
      const int left = static_cast<int>(at[0] + 0.5f), top = static_cast<int>(at[1] + 0.5f);
      int ink = 0;
      for (int y = 0; y < 48; ++y) {
        for (int x = 0; x < 48; ++x) {
          if (clip.pixels[static_cast<size_t>((t * 48 + y) * 48 + x)] == 0) continue;
          ++ink;
          ASSERT_TRUE(x >= left && x < left + side && y >= top && y < top + side);
        }
      }
      EXPECT_GT(ink, 20);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Motion, MovingDigitsBoth, testing::Values("STANDARD", "STOCHASTIC"),
                         [](const auto& info) { return std::string(info.param); });

TEST_F(MovingDigits, StandardSpeedIsConstant) {
  const auto source = open({"generated.kind=moving-digits", "generated.digits=1"});
  for (uint64_t i = 0; i < 20; ++i) {
    const std::vector<float> at = source->load(i).side.at(0).floats;
    int at_full_speed = 0;
    for (size_t t = 1; t < 20; ++t) {
      const float dx = at[2 * t] - at[2 * t - 2], dy = at[2 * t + 1] - at[2 * t - 1];
      at_full_speed += std::abs(std::sqrt(dx * dx + dy * dy) - 3.6f) < 1e-3f;
    }
    EXPECT_GE(at_full_speed, 12) << "all steps but those that touch a wall";
  }
}

TEST_F(MovingDigits, CaptionsSayWhatMovesWhereAndLeaveTheClipsAlone) {
  const auto plain = open({"generated.kind=moving-digits"}),
             told = open({"generated.kind=captioned-digits"}),
             other = open({"generated.kind=captioned-digits", "generated.seed=9"});
  const std::vector<std::string> names = {"zero", "one", "two",   "three", "four",
                                          "five", "six", "seven", "eight", "nine"};
  std::map<std::string, std::vector<float>> vectors;  // of the first word
  for (uint64_t i = 0; i < 40; ++i) {
    EXPECT_EQ(told->load(i).pixels, plain->load(i).pixels);
    for (const auto& source : {told.get(), other.get()}) {
      const Sample clip = source->load(i);
      const std::vector<float>& at = clip.side.at(0).floats;
      const std::string& words = clip.side.at(3).text;
      const std::string first = names.at(static_cast<size_t>(clip.side.at(1).ints.at(0)));
      EXPECT_EQ(words.substr(0, words.find(' ')), first);
      // The angle of the first step, in eighths of a turn clockwise from the right.
      const double turn = std::atan2(at[5] - at[1], at[4] - at[0]) / (M_PI / 4);
      const char* ways[] = {"right", "down-right", "down", "down-left",
                            "left",  "up-left",    "up",   "up-right"};
      const std::string way = ways[(std::lround(turn) + 8) % 8];
      EXPECT_EQ(words.substr(0, words.find(',')), first + " " + way);
      ASSERT_EQ(clip.side.at(2).floats.size(), 4u * 32);
      const std::vector<float> vector(clip.side[2].floats.begin(),
                                      clip.side[2].floats.begin() + 32);
      EXPECT_EQ(vectors.try_emplace(first, vector).first->second, vector);
    }
  }
  EXPECT_EQ(vectors.size(), 10u);
  EXPECT_NE(vectors["one"], vectors["two"]);
}

// Below 36 pixels digits shrink with their frames: they keep 7/9 of them, and room to move.
TEST_F(MovingDigits, AreSmallerInSmallFrames) {
  const auto ink = [&](int size) {
    const auto source = open({"generated.kind=moving-digits", "generated.digits=1",
                              "generated.frames=1", str("size=", size)});
    double sum = 0;
    for (uint64_t i = 0; i < 50; ++i) {
      for (const uint8_t pixel : source->load(i).pixels) sum += pixel;
    }
    return sum;
  };
  EXPECT_NEAR(ink(36) / ink(18), 4, 0.2);
  EXPECT_EQ(ink(36), ink(64));
}

TEST_F(MovingDigits, TinyFramesAndCropsAreRefused) {
  EXPECT_EQ(refusal({"generated.kind=moving-digits", "size=8"}).substr(0, 2), "2:");
  EXPECT_EQ(refusal({"generated.kind=moving-digits", "window.frames=4"}).substr(0, 2), "2:");
  EXPECT_EQ(open({"generated.kind=moving-digits", "channels=3"})->load(0).pixels.size(),
            20u * 64 * 64 * 3);
}

}  // namespace
}  // namespace lf::source_test
