// The schemes in which the frames of a long video are made: golden lists of the published schemes,
// and what holds for every scheme, length and window.
#include "diffusion/frame_scheme.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <set>

#include "base/random.h"
#include "tests/error_of.h"

namespace lf {
namespace {

using Kind = SchemeKind;

std::vector<int64_t> first(int64_t count) {
  std::vector<int64_t> frames(static_cast<size_t>(count));
  std::iota(frames.begin(), frames.end(), 0);
  return frames;
}

std::string stages_of(Kind kind, int64_t levels, int64_t frames, int64_t given) {
  std::string text;
  for (const SchemeStage& stage : scheme_stages({kind, 8, 4, levels}, frames, first(given)))
    text += (text.empty() ? "" : "; ") + describe(stage);
  return text;
}

TEST(FrameScheme, GoldenListsFromFourGivenFrames) {
  EXPECT_EQ(stages_of(Kind::kAutoregressive, 2, 20, 4),
            "0-3 -> 4-7; 4-7 -> 8-11; 8-11 -> 12-15; 12-15 -> 16-19");
  EXPECT_EQ(stages_of(Kind::kLongRange, 2, 20, 4),
            "0-3 -> 4-7; 2, 3, 6, 7 -> 8-11; 2, 3, 10, 11 -> 12-15; 2, 3, 14, 15 -> 16-19");
  EXPECT_EQ(stages_of(Kind::kHierarchy, 2, 20, 4),
            "0-3 -> 4, 9, 14, 19; 3, 4, 9, 14 -> 5-8; 8, 9, 14, 19 -> 10-13; "
            "12-14, 19 -> 15-18");
  EXPECT_EQ(stages_of(Kind::kHierarchy, 3, 20, 4),
            "0-3 -> 4, 9, 14, 19; 3, 4, 9, 14 -> 6, 8, 10, 12; 10, 12, 14, 19 -> 15, 17; "
            "2-4, 6, 8, 9 -> 5, 7; 10, 12, 14, 15, 17 -> 11, 13, 16; 15-17, 19 -> 18");
}

TEST(FrameScheme, GoldenListsOfUnconditionalVideos) {
  EXPECT_EQ(stages_of(Kind::kAutoregressive, 2, 24, 0),
            "nothing -> 0-7; 4-7 -> 8-11; 8-11 -> 12-15; 12-15 -> 16-19; 16-19 -> 20-23");
  EXPECT_EQ(stages_of(Kind::kLongRange, 2, 24, 0),
            "nothing -> 0-7; 4-7 -> 8-11; 6, 7, 10, 11 -> 12-15; 6, 7, 14, 15 -> 16-19; "
            "6, 7, 18, 19 -> 20-23");
  EXPECT_EQ(stages_of(Kind::kHierarchy, 2, 24, 0),
            "nothing -> 0, 3, 6, 9, 13, 16, 19, 23; 0, 3, 6 -> 1, 2, 4, 5; "
            "5, 6, 9, 13 -> 7, 8, 10, 11; 11, 13, 16, 19 -> 12, 14, 15, 17; "
            "16, 17, 19, 23 -> 18, 20-22");
}

TEST(FrameScheme, StageCountsOfLongVideos) {
  for (const Kind kind : {Kind::kAutoregressive, Kind::kLongRange, Kind::kHierarchy}) {
    EXPECT_EQ(scheme_stages({kind, 20, 10, 2}, 300, first(36)).size(), 27U);
    EXPECT_EQ(scheme_stages({kind, 20, 10, 2}, 500, first(36)).size(), 47U);
    EXPECT_EQ(scheme_stages({kind, 20, 10, 2}, 1000, first(36)).size(), 97U);
  }
}

// Videos, windows, steps and given frames drawn by keys.
struct Drawn {
  SchemeOptions options;
  int64_t frames = 1;
  std::vector<int64_t> given;
};

Drawn draw(uint64_t number) {
  const Stream stream{7, Purpose::kSampling, number};
  const auto below = [&](uint64_t index, int64_t bound) {
    return static_cast<int64_t>(random_below(stream, index, static_cast<uint64_t>(bound)));
  };
  Drawn drawn;
  drawn.options.kind = std::array{Kind::kAutoregressive, Kind::kLongRange,
                                  Kind::kHierarchy}[static_cast<size_t>(below(0, 3))];
  drawn.options.window = 3 + below(1, 18);
  drawn.options.step = 2 + below(2, drawn.options.window - 2);
  drawn.options.levels = 2 + below(3, 3);
  drawn.frames = 2 + below(4, 120);
  const bool scattered = below(5, 2) == 1;
  const int64_t count = below(6, std::min<int64_t>(drawn.frames, 40));
  for (int64_t frame = 0; frame < drawn.frames; ++frame) {
    if (scattered ? below(static_cast<uint64_t>(10 + frame), drawn.frames) < count : frame < count)
      drawn.given.push_back(frame);
  }
  return drawn;
}

void check_stages(const Drawn& drawn, const FrameDistance& distance) {
  std::set<int64_t> existing(drawn.given.begin(), drawn.given.end());
  FrameScheme scheme(drawn.options, drawn.frames, drawn.given);
  while (!scheme.finished()) {
    const SchemeStage stage = scheme.next(distance);
    ASSERT_FALSE(stage.latent.empty());
    ASSERT_LE(static_cast<int64_t>(stage.latent.size() + stage.observed.size()),
              drawn.options.window);
    ASSERT_TRUE(std::is_sorted(stage.observed.begin(), stage.observed.end()));
    ASSERT_TRUE(std::is_sorted(stage.latent.begin(), stage.latent.end()));
    ASSERT_EQ(std::adjacent_find(stage.observed.begin(), stage.observed.end()),
              stage.observed.end());
    ASSERT_TRUE(existing.empty() || !stage.observed.empty()) << "no frame is observed";
    for (const int64_t frame : stage.observed) ASSERT_TRUE(existing.count(frame)) << frame;
    for (const int64_t frame : stage.latent) ASSERT_TRUE(existing.insert(frame).second) << frame;
  }
  ASSERT_EQ(static_cast<int64_t>(existing.size()), drawn.frames);
  ASSERT_EQ(*existing.begin(), 0);
  ASSERT_EQ(*existing.rbegin(), drawn.frames - 1);
}

TEST(FrameScheme, EveryFrameIsMadeOnceFromExistingFrames) {
  for (uint64_t number = 0; number < 3000; ++number) {
    SCOPED_TRACE(number);
    check_stages(draw(number), {});
    if (HasFatalFailure()) return;
  }
}

TEST(FrameScheme, AdaptiveSchemesMakeEveryFrameOnceToo) {
  const FrameDistance distance = [](int64_t a, int64_t b) {
    return std::abs(std::sin(static_cast<double>(a)) - std::sin(static_cast<double>(b)));
  };
  for (uint64_t number = 0; number < 500; ++number) {
    SCOPED_TRACE(number);
    check_stages(draw(number), distance);
    if (HasFatalFailure()) return;
  }
}

// Two scenes in turns of ten frames: the newest frame shows one of them, the other must be chosen.
TEST(FrameScheme, AdaptiveChoosesDistinctFramesOfTwoScenes) {
  const auto scene = [](int64_t frame) { return (frame / 10) % 2; };
  FrameScheme scheme({Kind::kAutoregressive, 4, 2, 2}, 40, first(20));
  const SchemeStage stage = scheme.next([&](int64_t a, int64_t b) {
    return scene(a) == scene(b) ? 0.01 * static_cast<double>(std::abs(a - b)) : 1.0;
  });
  ASSERT_EQ(stage.observed.size(), 2U);
  EXPECT_NE(scene(stage.observed[0]), scene(stage.observed[1]));
  EXPECT_EQ(stage.observed[1], 19);  // the newest
}

TEST(FrameScheme, NumbersThatCannotGoTogetherAreRefused) {
  const auto refused = [](const SchemeOptions& options, const std::vector<int64_t>& given) {
    return error_of(Code::kUsage, [&] { FrameScheme(options, 10, given); });
  };
  EXPECT_TRUE(contains(refused({Kind::kAutoregressive, 1, 1, 2}, {}), "at least 2 frames"));
  EXPECT_TRUE(contains(refused({Kind::kAutoregressive, 4, 4, 2}, {}), "steps of 4"));
  EXPECT_TRUE(contains(refused({Kind::kHierarchy, 4, 1, 2}, {}), "hierarchy"));
  EXPECT_TRUE(contains(refused({Kind::kLongRange, 4, 2, 2}, {3, 10}), "frames 0 to 9"));
  EXPECT_TRUE(contains(refused({Kind::kLongRange, 4, 2, 2}, {3, 3}), "ascending order"));
}

}  // namespace
}  // namespace lf
