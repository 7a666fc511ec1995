#include "diffusion/frame_plan.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "tests/error_of.h"

namespace lf {
namespace {

DiffusionConfig with(DiffusionConfig::Frames frames, int history = 1, int given = 5) {
  DiffusionConfig config;
  config.set_frames(frames);
  config.set_history(history);
  config.set_given(given);
  return config;
}

std::vector<int64_t> first(int64_t count) {
  std::vector<int64_t> frames;
  for (int64_t frame = 0; frame < count; ++frame) frames.push_back(frame);
  return frames;
}

Uniforms always(double number) {
  return [number] { return number; };
}

constexpr auto O = FrameRole::kObserved;
constexpr auto L = FrameRole::kLatent;
constexpr auto A = FrameRole::kAbsent;

TEST(FramePlan, TrainingWindowsAreTheModes) {
  EXPECT_EQ(training_window(with(DiffusionConfig::JOINT), 3, always(0.9)),
            (FrameWindow{{0, 1, 2}, {L, L, L}}));
  EXPECT_EQ(training_window(with(DiffusionConfig::PREDICT, 1, 2), 4, always(0.9)),
            (FrameWindow{{0, 1, 2, 3}, {O, O, L, L}}));
  EXPECT_EQ(training_window(with(DiffusionConfig::LAST, 2), 4, always(0.1)),
            (FrameWindow{{1, 2, 3}, {O, O, L}}));
  DiffusionConfig between = with(DiffusionConfig::BETWEEN);
  between.set_stride(3);
  EXPECT_EQ(training_window(between, 7, always(0.1)),
            (FrameWindow{{0, 1, 2, 3, 4, 5, 6}, {O, L, L, O, L, L, O}}));
  const DiffusionConfig ar = with(DiffusionConfig::AUTOREGRESSIVE, 2);
  EXPECT_EQ(training_window(ar, 4, always(0)), (FrameWindow{{-2, -1, 0}, {A, A, L}}));
  EXPECT_EQ(training_window(ar, 4, always(0.26)), (FrameWindow{{-1, 0, 1}, {A, O, L}}));
  EXPECT_EQ(training_window(ar, 4, always(0.99999994)), (FrameWindow{{1, 2, 3}, {O, O, L}}));
}

TEST(FramePlan, JointWindowsOverlapAndEndWithTheVideo) {
  DiffusionConfig config = with(DiffusionConfig::JOINT);
  EXPECT_EQ(sampling_windows(config, 4, {}, 4).size(), 1U);
  EXPECT_EQ(sampling_windows(config, 4, {0}, 4)[0], (FrameWindow{{0, 1, 2, 3}, {O, L, L, L}}));
  EXPECT_EQ(sampling_windows(config, 4, {}, 3)[0], (FrameWindow{{0, 1, 2}, {L, L, L}}));
  const auto longer = sampling_windows(config, 4, {}, 7);
  ASSERT_EQ(longer.size(), 3U);
  EXPECT_EQ(longer[1], (FrameWindow{{2, 3, 4, 5}, {O, O, L, L}}));
  EXPECT_EQ(longer[2], (FrameWindow{{3, 4, 5, 6}, {O, O, O, L}}));
  config.mutable_sampler()->set_overlap_frames(4);
  EXPECT_TRUE(contains(error_of(Code::kUsage, [&] { sampling_windows(config, 4, {}, 7); }),
                       "overlap_frames is 4"));
}

TEST(FramePlan, GivenFramesMayLieAnywhereInAJointVideo) {
  const DiffusionConfig config = with(DiffusionConfig::JOINT);
  EXPECT_EQ(sampling_windows(config, 4, {0, 3}, 4)[0], (FrameWindow{{0, 1, 2, 3}, {O, L, L, O}}));
  const auto windows = sampling_windows(config, 4, {5}, 6);
  ASSERT_EQ(windows.size(), 2U);
  EXPECT_EQ(windows[1], (FrameWindow{{2, 3, 4, 5}, {O, O, L, O}}));
}

TEST(FramePlan, FramesBetweenAreMadeFromWindowToWindow) {
  DiffusionConfig config = with(DiffusionConfig::BETWEEN);
  config.set_stride(2);
  EXPECT_EQ(frames_to_give(config, 5), (std::vector<int64_t>{0, 2, 4}));
  const auto windows = sampling_windows(config, 5, {0, 2, 4, 6, 8, 10}, 11);
  ASSERT_EQ(windows.size(), 3U);
  EXPECT_EQ(windows[1], (FrameWindow{{4, 5, 6, 7, 8}, {O, L, O, L, O}}));
  EXPECT_EQ(windows[2], (FrameWindow{{6, 7, 8, 9, 10}, {O, O, O, L, O}}));
}

TEST(FramePlan, FramesToGiveAreThoseObservedInTraining) {
  for (const DiffusionConfig& config :
       {with(DiffusionConfig::JOINT), with(DiffusionConfig::PREDICT, 1, 2),
        with(DiffusionConfig::BETWEEN), with(DiffusionConfig::LAST, 6)}) {
    EXPECT_EQ(training_window(config, 7, always(0.5)).frames(O), frames_to_give(config, 7));
  }
}

TEST(FramePlan, EveryFrameIsMadeOnceAndFromFramesThatAreThere) {
  for (const DiffusionConfig& config :
       {with(DiffusionConfig::JOINT), with(DiffusionConfig::AUTOREGRESSIVE, 2),
        with(DiffusionConfig::PREDICT, 1, 2)}) {
    for (const int64_t given : {2, 3, 5, 9}) {
      for (const int64_t wanted : {given, given + 1, int64_t{16}, int64_t{23}}) {
        std::set<int64_t> existing;
        for (int64_t frame = 0; frame < given; ++frame) existing.insert(frame);
        for (const FrameWindow& window : sampling_windows(config, 6, first(given), wanted)) {
          EXPECT_LE(window.index.size(), 6U);
          for (const int64_t frame : window.frames(O)) {
            EXPECT_TRUE(existing.count(frame));
          }
          for (const int64_t frame : window.frames(L)) {
            EXPECT_TRUE(existing.insert(frame).second);
          }
        }
        for (int64_t frame = 0; frame < wanted; ++frame) EXPECT_TRUE(existing.count(frame));
      }
    }
  }
}

// Every window once, in rounds of windows that do not depend on each other.
void check_rounds(const std::vector<FrameWindow>& windows, size_t most) {
  std::set<size_t> seen;
  std::set<int64_t> existing = {0, 1, 2};
  for (const std::vector<size_t>& round : rounds_of(windows, most)) {
    ASSERT_FALSE(round.empty());
    ASSERT_LE(round.size(), most);
    for (const size_t number : round) {
      ASSERT_TRUE(seen.insert(number).second);
      ASSERT_EQ(windows[number].role, windows[round.front()].role);
      for (const int64_t frame : windows[number].frames(O)) ASSERT_TRUE(existing.count(frame));
    }
    for (const size_t number : round) {
      for (const int64_t frame : windows[number].frames(L)) existing.insert(frame);
    }
  }
  ASSERT_EQ(seen.size(), windows.size());
}

TEST(FramePlan, WindowsThatDoNotWaitForEachOtherShareARound) {
  DiffusionConfig config = with(DiffusionConfig::FLEXIBLE);
  SamplerConfig& sampler = *config.mutable_sampler();
  sampler.set_scheme(SamplerConfig::HIERARCHY);
  for (const int window : {4, 7, 20}) {
    config.set_window(window);
    for (const int levels : {2, 3, 4}) {
      sampler.set_levels(levels);
      for (const int64_t wanted : {9, 30, 300}) {
        const auto windows = sampling_windows(config, 40, first(3), wanted);
        for (const size_t most : {1, 2, 16}) check_rounds(windows, most);
      }
    }
  }
  sampler.set_levels(4);
  config.set_window(8);
  const auto windows = sampling_windows(config, 40, first(2), 1000);
  EXPECT_EQ(windows.size(), 251U);
  EXPECT_LT(rounds_of(windows, 16).size(), 80U);
}

TEST(FramePlan, WhatAModelCannotMakeIsRefused) {
  const auto refused = [](const DiffusionConfig& config, int64_t frames, int64_t given,
                          int64_t wanted) {
    return error_of(Code::kUsage, [&] { sampling_windows(config, frames, first(given), wanted); });
  };
  EXPECT_TRUE(contains(refused(with(DiffusionConfig::PREDICT, 1, 5), 10, 2, 10), "gives 2"));
  EXPECT_TRUE(contains(refused(with(DiffusionConfig::PREDICT, 1, 5), 5, 5, 10), "given is 5"));
  EXPECT_TRUE(contains(refused(with(DiffusionConfig::LAST), 4, 0, 4), "the last of 4"));
  EXPECT_TRUE(contains(refused(with(DiffusionConfig::AUTOREGRESSIVE, 4), 4, 0, 4), "history is 4"));
  EXPECT_TRUE(contains(refused(with(DiffusionConfig::JOINT), 1, 0, 2), "single images"));
  EXPECT_TRUE(contains(refused(with(DiffusionConfig::JOINT), 4, 5, 4), "frame 4 is given"));
  EXPECT_TRUE(contains(refused(with(DiffusionConfig::BETWEEN), 5, 3, 5), "got 0, 1, 2"));
  EXPECT_TRUE(contains(refused(with(DiffusionConfig::BETWEEN), 4, 0, 4), "stride is 2"));
  EXPECT_TRUE(
      contains(error_of(Code::kUsage,
                        [] {
                          sampling_windows(with(DiffusionConfig::PREDICT, 1, 2), 5, {1, 3}, 9);
                        }),
               "frames 1, 3"));
}

}  // namespace
}  // namespace lf
